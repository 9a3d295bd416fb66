from __future__ import annotations

from itertools import pairwise, permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.errors import MiscibleError
from miscible.merge.align import Group, Member, PermutationSpec, chain
from miscible.merge.align.weight_matching import Matching, match_weights, permuted
from miscible.models.memory import MemoryCheckpoint

State = dict[str, torch.Tensor]


def network(seed: int, sizes: tuple[int, ...]) -> State:
    generator = torch.Generator().manual_seed(seed)
    state: State = {}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        state[f"{2 * i}.weight"] = torch.randn(outputs, inputs, generator=generator)
        state[f"{2 * i}.bias"] = torch.randn(outputs, generator=generator)
    return state


def spec_of(state: State) -> PermutationSpec:
    modules = sorted({name.partition(".")[0] for name in state}, key=int)
    return chain(modules, MemoryCheckpoint("m", state).tensors)


def forward(state: State, x: torch.Tensor) -> torch.Tensor:
    depth = len(state) // 2
    for i in range(depth):
        x = x @ state[f"{2 * i}.weight"].T + state[f"{2 * i}.bias"]
        x = x.relu() if i < depth - 1 else x
    return x


def moved(state: State, spec: PermutationSpec, moves: dict[str, np.ndarray]) -> State:
    return {name: permuted(tensor, spec.of(name), moves) for name, tensor in state.items()}


def match(spec: PermutationSpec, target: State, model: State) -> Matching:
    return match_weights(spec.groups, target.__getitem__, model.__getitem__)


def objective(spec: PermutationSpec, a: State, b: State) -> float:
    return sum(float((a[k].double() * b[k].double()).sum()) for k in a if spec.of(k))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(2, 9), min_size=1, max_size=3))
def test_planted_permutations_are_found(seed: int, hidden: list[int]) -> None:
    target = network(seed, (16, *hidden, 16))
    spec = spec_of(target)
    rng = np.random.default_rng(seed)
    planted = {group.name: rng.permutation(group.size) for group in spec.groups}
    model = moved(target, spec, planted)
    x = torch.randn(5, 16)
    assert torch.allclose(forward(model, x), forward(target, x), atol=1e-4)
    found = match(spec, target, model)
    for name, tensor in moved(model, spec, dict(found.permutations)).items():
        assert tensor.equal(target[name])
    for name, moves in planted.items():
        assert moves[found.permutations[name]].tolist() == list(range(len(moves)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_the_objective_never_decreases(seed: int, hidden: list[int]) -> None:
    target, model = network(seed, (3, *hidden, 3)), network(seed + 1, (3, *hidden, 3))
    spec = spec_of(target)
    found = match(spec, target, model)
    assert all(a < b for a, b in pairwise(found.objectives))
    result = moved(model, spec, dict(found.permutations))
    assert found.objectives[0] == pytest.approx(objective(spec, target, model))
    assert found.objectives[-1] == pytest.approx(objective(spec, target, result))
    x = torch.randn(5, 3)
    assert torch.allclose(forward(result, x), forward(model, x), atol=1e-4, rtol=1e-4)
    again = match(spec, target, model)
    assert all(again.permutations[k].tolist() == v.tolist() for k, v in found.permutations.items())


def test_one_group_is_solved_exactly() -> None:
    for seed in range(10):
        target, model = network(seed, (2, 5, 2)), network(seed + 100, (2, 5, 2))
        spec = spec_of(target)
        best = max(
            objective(spec, target, moved(model, spec, {"0": np.array(order)}))
            for order in permutations(range(5))
        )
        assert match(spec, target, model).objectives[-1] == pytest.approx(best)


def test_heads_that_share_a_key_are_solved_exactly() -> None:
    group = Group("heads", 3, (Member("q", 0, 2, fine=True), Member("k", 0, 2)), inner=2)
    spec = PermutationSpec([group])
    orders = [
        np.array([unit * 2 + part for unit, swap in zip(units, swaps, strict=True)
                  for part in ((1, 0) if swap else (0, 1))])
        for units in permutations(range(3)) for swaps in product((False, True), repeat=3)
    ]  # fmt: skip
    for seed in range(10):
        torch.manual_seed(seed)
        target, model = ({"q": torch.randn(12, 2), "k": torch.randn(6, 2)} for _ in range(2))
        best = max(
            objective(spec, target, moved(model, spec, {"heads": order})) for order in orders
        )
        assert match(spec, target, model).objectives[-1] == pytest.approx(best)


def test_equal_units_stay() -> None:
    state = {"0.weight": torch.ones(4, 3), "0.bias": torch.ones(4), "2.weight": torch.ones(2, 4),
             "2.bias": torch.ones(2)}  # fmt: skip
    found = match(spec_of(state), state, state)
    assert found.permutations["0"].tolist() == [0, 1, 2, 3]
    assert len(found.objectives) == 1


def test_nan_is_refused() -> None:
    state = network(0, (2, 3, 2))
    broken = {**state, "0.bias": torch.full((3,), torch.nan)}
    with pytest.raises(MiscibleError, match=r"'0\.bias' holds NaN"):
        match(spec_of(state), state, broken)
