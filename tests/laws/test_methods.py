"""Every registered method obeys the laws; the checks themselves can fail."""

from __future__ import annotations

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
)
from miscible.merge.export import write_merge
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint
from miscible.testing import check_method


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
    write_merge(merge, tmp_path / "out", [])
    written = FolderCheckpoint(tmp_path / "out")
    assert written.tensors == merge.tensors
    assert all(written.read(name).equal(merge.read(name)) for name in merge.tensors)
