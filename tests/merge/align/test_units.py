"""Permuting every unit that is found leaves what a model computes as it was."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from architectures import FAMILIES, build, outputs
from miscible.merge.align import Group, PermutationSpec, infer_spec
from miscible.merge.align.weight_matching import permuted
from miscible.models.checkpoint import FolderCheckpoint
from miscible.models.formats.safetensors import TensorInfo

HEADS = {  # of the first head group: groups of queries, query heads in each
    "llama": (2, 2), "qwen3": (2, 2), "olmo2": (2, 2), "gemma2": (2, 2), "phi3": (2, 2),
    "gpt2": (4, 1), "gpt-neox": (4, 1), "mixtral": (2, 2), "bert": (4, 1), "distilbert": (4, 1),
    "modernbert": (4, 1), "t5": (4, 1), "bart": (4, 1), "whisper": (4, 1), "vit": (4, 1),
    "swin": (2, 1), "clip": (4, 1), "llama-tied": (2, 2), "qwen2-moe": (2, 2),
}  # fmt: skip
"""The others have no heads that could be permuted: BLOOM's linear biases tell heads apart."""


def shuffled(spec: PermutationSpec, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        group.name: np.concatenate(
            [
                unit * group.inner + rng.permutation(group.inner)
                for unit in rng.permutation(group.size)
            ]
        )
        for group in spec.groups
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_the_function_stays(family: str, tmp_path: Path) -> None:
    model = build(family, 0)
    model.save_pretrained(tmp_path)
    before = FolderCheckpoint(tmp_path)
    spec = infer_spec(before.tensors, before.config)
    expected = outputs(model)
    moves = shuffled(spec, 1)
    state = {
        name: permuted(before.read(name), spec.of(name), moves).contiguous()
        for name in before.tensors
    }
    moved = {name for name in state if not state[name].equal(before.read(name))}
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    found = outputs(type(model).from_pretrained(tmp_path).eval())
    assert (found - expected).abs().max() <= 1e-5
    assert bool(moved) == (family != "resnet")
    heads = [(group.size, group.inner) for group in spec.groups if group.name.endswith("heads")]
    assert heads[:1] == ([HEADS[family]] if family in HEADS else [])


def test_units_that_are_not_understood_stay() -> None:
    def names(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
        return {f"layers.0.mlp.{k}.weight": TensorInfo("F32", s) for k, s in shapes.items()}

    plain = names(fc1=(6, 4), fc2=(4, 6))
    assert [group.size for group in infer_spec(plain, {}).groups] == [6]
    assert not infer_spec(plain | names(norm=(6,)), {}).groups
    assert not infer_spec(plain | names(mystery=(4, 6)), {}).groups
    assert not infer_spec(names(fc1=(7, 4), fc2=(4, 6)), {}).groups
    assert not infer_spec(names(fc1=(6, 4, 1), fc2=(4, 6, 1)), {}).groups
    integers = {name: TensorInfo("I8", info.shape) for name, info in plain.items()}
    assert not infer_spec(integers, {}).groups


@pytest.mark.parametrize(
    "config",
    [{}, {"num_attention_heads": 2}, {"num_attention_heads": 3, "rope_theta": 1e4},
     {"num_attention_heads": 2, "rope_theta": 1e4, "alibi": True},
     {"num_attention_heads": True, "rope_theta": 1e4}],
)  # fmt: skip
def test_heads_need_evidence(config: dict[str, object]) -> None:
    tensors = {
        f"model.layers.0.self_attn.{p}_proj.weight": TensorInfo("F32", (8, 8)) for p in "qkvo"
    }
    known = {"num_attention_heads": 2, "rope_theta": 1e4}
    assert [group.size for group in infer_spec(tensors, known).groups] == [2]
    assert not infer_spec(tensors, config).groups
    unknown = tensors | {"model.layers.0.self_attn.gate.weight": TensorInfo("F32", (8, 8))}
    assert not infer_spec(unknown, known).groups


def test_a_hundred_thousand_experts_take_seconds() -> None:
    tensors = {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight": TensorInfo("F32", shape)
        for layer in range(100)
        for expert in range(333)
        for part, shape in (("gate", (6, 4)), ("up", (6, 4)), ("down", (4, 6)))
    }
    start = time.process_time()
    assert len(infer_spec(tensors, {}).groups) == 33_300
    assert time.process_time() - start < 10


def test_groups_hold_names() -> None:
    tensors = {
        f"h.0.mlp.{name}.{parameter}": TensorInfo("F32", shape)
        for name, parameter, shape in (
            ("c_fc", "weight", (4, 6)), ("c_fc", "bias", (6,)),
            ("c_proj", "weight", (6, 4)), ("c_proj", "bias", (4,)),
        )
    }  # fmt: skip
    (group,) = infer_spec(tensors, {}).groups
    assert isinstance(group, Group)
    assert {(m.tensor, m.axis) for m in group.members} == {
        ("h.0.mlp.c_fc.weight", 1), ("h.0.mlp.c_fc.bias", 0), ("h.0.mlp.c_proj.weight", 0)
    }  # fmt: skip
