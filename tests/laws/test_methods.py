"""Every registered method obeys the laws; the checks themselves can fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from miscible.merge.contract import (
    METHODS,
    Delta,
    Deltas,
    MergeMethod,
    PerModel,
    merge_method,
    per_model,
    shared,
)
from miscible.merge.export import write_merge
from miscible.merge.ops.random import ElementRandom
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint
from miscible.testing import check_method
from miscible.testing.methods import low_rank_equals_dense


@pytest.mark.parametrize("name", METHODS.names())
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_laws(name: str, seed: int) -> None:
    check_method(name, seed=seed)


@pytest.fixture
def registered() -> object:
    before = dict(METHODS._objects)
    yield METHODS
    METHODS._objects.clear()
    METHODS._objects.update(before)


def test_a_method_that_breaks_a_law_is_caught(registered: object) -> None:
    METHODS.names()

    @merge_method("first_wins", paper="none")
    def first_wins(deltas: Deltas, *, weight: PerModel[float] = per_model(1.0)) -> Delta:
        """Take the first model."""
        return Delta(deltas.tensors[0] * weight[0])

    with pytest.raises(AssertionError, match="first_wins: order"):
        check_method("first_wins")


def test_lambda_must_scale_the_delta(registered: object) -> None:
    METHODS.names()

    @merge_method("squared", paper="none")
    def squared(deltas: Deltas, *, lambda_: float = shared(1.0)) -> Delta:
        """Use lambda as it is not meant."""
        return Delta(torch.stack(list(deltas)).mean(dim=0) * lambda_**2)

    with pytest.raises(AssertionError, match="squared: lambda"):
        check_method("squared")


def test_random_methods_merge_adapters_as_others_do(registered: object) -> None:
    METHODS.names()

    @merge_method("counts", paper="none")
    def counts(
        deltas: Deltas,
        *,
        random: Sequence[ElementRandom],
        weight: PerModel[float] = per_model(1.0),
        density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    ) -> Delta:
        """Depend on the inputs' contents beyond the draws."""
        share = random[0].bernoulli(0.5, deltas.tensors[0].shape)
        total = sum(deltas.tensors[1:], deltas.tensors[0])
        return Delta(total * share if len(deltas.tensors) > 1 else total)

    with pytest.raises(AssertionError, match="counts: low rank"):
        low_rank_equals_dense(METHODS.get("counts"), 0)


def test_a_method_is_one_function(registered: object) -> None:
    METHODS.names()

    @merge_method("median", paper="none")
    def median(deltas: Deltas) -> Delta:
        """Take the mean of the middle."""
        return Delta(torch.stack(list(deltas)).mean(dim=0))

    held: MergeMethod = METHODS.get("median")
    assert held.space is Deltas
    assert held.summary == "Take the mean of the middle."
    check_method("median")


@pytest.mark.parametrize("method", ["linear", "slerp", "task_arithmetic", "ties", "dare_ties"])
def test_folder_equals_virtual(
    method: str, tiny_base: Path, tiny_children: list[Path], tmp_path: Path
) -> None:
    one, two = tiny_children
    base = {"linear": "", "slerp": f"base_model: {one}\n"}.get(method, f"base_model: {tiny_base}\n")
    weights = "" if method == "slerp" else "  parameters: {weight: 0.5}\n"
    recipe = parse_recipe(
        f"merge_method: {method}\n{base}models:\n- model: {one}\n{weights}- model: {two}\n{weights}"
        + ("parameters: {t: 0.3}\n" if method == "slerp" else "")
    )
    merge = VirtualCheckpoint.open(recipe, seed=3)
    write_merge(merge, tmp_path / "out")
    written = FolderCheckpoint(tmp_path / "out")
    assert written.tensors == merge.tensors
    assert all(written.read(name).equal(merge.read(name)) for name in merge.tensors)
