from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from miscible.errors import IncompatibleModelsError, SpecError
from miscible.merge.align import Group, Member, PermutationSpec, aligned_to, chain
from miscible.merge.align.weight_matching import permuted
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.memory import MemoryCheckpoint


def convolutional(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3), nn.BatchNorm2d(5),
        nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 7), nn.ReLU(), nn.Linear(7, 2),
    )  # fmt: skip
    network(torch.randn(16, 3, 8, 8))  # statistics of the norms
    return network.eval().requires_grad_(False)


def test_a_convolutional_chain_is_aligned() -> None:
    network = convolutional(0)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    target = MemoryCheckpoint("target", state)
    spec = chain(["0", "1", "3", "4", "7", "9"], target.tensors)
    assert [(group.name, group.size) for group in spec.groups] == [("0", 6), ("3", 5), ("7", 7)]
    rng = np.random.default_rng(0)
    moves = {group.name: rng.permutation(group.size) for group in spec.groups}
    other = {name: permuted(tensor, spec.of(name), moves) for name, tensor in state.items()}
    x = torch.randn(4, 3, 8, 8)
    expected = network(x)
    network.load_state_dict(other)
    assert torch.allclose(network(x), expected, atol=1e-5)
    aligned = aligned_to(MemoryCheckpoint("other", other), target, spec)
    assert all(aligned.read(name).equal(state[name]) for name in state)


def test_components_are_what_tensors_connect() -> None:
    a = Group("a", 2, (Member("x", 0), Member("y", 1)))
    b = Group("b", 2, (Member("y", 0), Member("z", 1)))
    c = Group("c", 2, (Member("w", 0),))
    components = PermutationSpec([a, b, c]).components
    assert components == {"a": (a, b), "b": (a, b), "c": (c,)}


def test_specs_that_cannot_be() -> None:
    tensors = {
        "a.weight": TensorInfo("F32", (4, 3)),
        "b.weight": TensorInfo("F32", (2, 8)),
        "deep.weight": TensorInfo("F32", (4, 1, 3)),
        "square": TensorInfo("F32", (4, 4)),
    }
    with pytest.raises(SpecError, match="two axes"):
        PermutationSpec([Group("g", 4, (Member("square", 0), Member("square", 1)))])
    with pytest.raises(SpecError, match="same name"):
        PermutationSpec([Group("g", 4, ()), Group("g", 3, ())])
    with pytest.raises(SpecError, match="there is no axis 2"):
        PermutationSpec.from_axes({"g": {"a.weight": 2}}, tensors)
    with pytest.raises(SpecError, match="not a multiple of 3"):
        PermutationSpec.from_axes({"g": {"a.weight": 1, "b.weight": 1}}, tensors)
    with pytest.raises(SpecError, match="has no weight"):
        chain(["a", "relu"], tensors)
    with pytest.raises(SpecError, match="takes 1 inputs, the one before gives 4"):
        chain(["a", "deep"], tensors)  # a depthwise convolution
    spec = PermutationSpec.from_axes({"g": {"a.weight": 0, "b.weight": 1}}, tensors)
    spec.check(tensors, "m")
    for changed in ({"a.weight": tensors["a.weight"]},
                    {**tensors, "b.weight": TensorInfo("F32", (2, 7))},
                    {**tensors, "b.weight": TensorInfo("I8", (2, 8))}):  # fmt: skip
        with pytest.raises(IncompatibleModelsError, match=r"b\.weight"):
            spec.check(changed, "m")
