"""Small vectors merged by mergekit 0.1.5."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miscible.errors import RecipeError
from references.calling import merged
from references.spherical import slerp

FILE = Path(
    os.environ.get("MISCIBLE_SHARED_DATA", "../shared/data"), "mergekit_golden/vectors.json"
)
RANDOM = {"dare rescale", "dare no rescale", "della"}
ARBITRARY = {"ties equal magnitudes", "ties equal magnitudes 40"}
"""Which of equal magnitudes survive is arbitrary in mergekit, the lowest indices in ours."""
FIXED = {
    "lin zero sum": "mergekit divides by 0",
    "model_stock tiny delta": "mergekit clamps the product of the norms to 1e-6",
    "della width1": "mergekit divides 0 by 0",
}
NEARER = "nuslerp cols"
"""mergekit takes the cosine in float32, which a wide angle enlarges."""
RECIPE = {"unknown param", "shape mismatch", "mixed dtype promote"}
"""What the recipe's reader decides, not the method."""


def vectors() -> dict[str, dict[str, Any]]:
    if not FILE.is_file():
        return {}
    return {vector["name"]: vector for vector in json.loads(FILE.read_text())["vectors"]}


VECTORS = vectors()
SAME = VECTORS.keys() - RANDOM - ARBITRARY - FIXED.keys() - RECIPE - {NEARER}


@pytest.fixture(autouse=True)
def _needs_data(shared_data: Path) -> None:
    assert len(VECTORS) == 58, f"set MISCIBLE_SHARED_DATA to read {FILE}"


def ours(vector: dict[str, Any], **parameters: Any) -> torch.Tensor:
    inputs = [torch.tensor(x, dtype=_dtype(vector["input_dtype"])) for x in vector["inputs"]]
    base = None if vector["base_index"] is None else inputs.pop(vector["base_index"])
    given = vector["parameters"] | parameters
    return merged(vector["method"], inputs, base=base, **given)


@pytest.mark.parametrize("name", sorted(SAME))
def test_same_vector(name: str) -> None:
    vector = VECTORS[name]
    expected = torch.tensor(vector["output"], dtype=_dtype(vector["output_dtype"]))
    found = ours(vector).to(expected.dtype)
    # A few roundings of mergekit's float32 steps.
    atol = 4e-7 * expected.abs().max().item()
    assert torch.allclose(found.double(), expected.double(), rtol=0, atol=atol)


def test_nearer_to_the_exact_result() -> None:
    vector = VECTORS[NEARER]
    x, y = map(np.array, vector["inputs"])
    columns = [slerp(x[:, j], y[:, j], 0.5, colinear=1.0) for j in range(x.shape[1])]
    exact = np.stack(columns, axis=1)
    distance = np.abs(ours(vector).numpy() - exact).max()
    assert distance <= 2 * 2.0**-23 * np.abs(exact).max()
    assert distance < np.abs(np.array(vector["output"]) - exact).max()


@pytest.mark.parametrize("name", sorted(ARBITRARY))
def test_as_many_of_equal_magnitudes(name: str) -> None:
    vector = VECTORS[name]
    kept = ours(vector) != 0
    count = int(torch.count_nonzero(torch.tensor(vector["output"])))
    assert kept.tolist() == [True] * count + [False] * (kept.numel() - count)


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_vectors_obey_the_same_formula(name: str) -> None:
    vector = VECTORS[name]
    delta, theirs = torch.tensor(vector["inputs"][1]), torch.tensor(vector["output"])
    for found in (ours(vector), theirs):
        kept = found != 0
        assert kept.any()
        scale = 1.0 if name == "dare no rescale" else delta.sum() / delta[kept].sum()
        assert torch.allclose(found, delta * kept * scale)


def test_sum_of_zero_is_refused() -> None:
    with pytest.raises(RecipeError, match="sum to 0"):
        ours(VECTORS["lin zero sum"])


def test_small_deltas_count() -> None:
    vector = VECTORS["model_stock tiny delta"]
    assert torch.equal(ours(vector), torch.tensor(vector["inputs"][1]))  # the deltas are equal


def test_rows_of_one_element() -> None:
    vector = VECTORS["della width1"]
    for seed in range(20):
        found = ours(vector, seed=seed, rescale=False)
        assert set(found.flatten().tolist()) <= {0.0, 1.0, 2.0}


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found
