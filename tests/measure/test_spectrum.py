"""Decompositions equal full SVDs, whatever the shape and wherever they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.measure.changes import Change, Stored
from miscible.measure.spectrum import Spectrum, decompose, ends
from miscible.models.delta import LowRank


def of_matrix(matrix: np.ndarray) -> Spectrum:
    tensor = torch.from_numpy(matrix)
    base = Stored(torch.zeros_like(tensor), "F64")
    return decompose(Change(base, model=Stored(tensor, "F64")))


def projector(vectors: np.ndarray) -> np.ndarray:
    return vectors.T @ vectors


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (5, 30), (30, 5), (24, 24), (200, 130)])
def test_dense(shape: tuple[int, int]) -> None:
    matrix = np.random.default_rng(0).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    found = of_matrix(matrix)
    k = min(10, *shape)
    assert found.rank == min(shape)
    np.testing.assert_allclose(found.largest, values[:100], rtol=1e-9)
    np.testing.assert_allclose(found.smallest, values[::-1][:11], rtol=1e-9)
    for vectors, expected in (
        (found.left_top, left.T[:k]), (found.right_top, right[:k]),
        (found.right_bottom, right[-k:]),
    ):  # fmt: skip
        np.testing.assert_allclose(projector(vectors), projector(expected), atol=1e-8)
    # One by one too: the last singular vector of all comes first.
    np.testing.assert_allclose(
        np.abs(found.right_bottom @ right[-k:][::-1].T), np.eye(k), atol=1e-7
    )


@pytest.mark.parametrize("transposed", [False, True])
def test_factors(transposed: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(4, 12, generator=generator, dtype=torch.float64)
    b = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    held = LowRank(a, b, 0.5, transposed)
    dense = held.dense(torch.float64)
    change = Change(Stored(torch.zeros_like(dense), "F64"), low_rank=held)
    low, full = decompose(change), of_matrix(dense.contiguous().numpy())
    np.testing.assert_allclose(change.rows(3, 9), dense[3:9].numpy(), rtol=1e-12)
    assert low.rank == full.rank == 4
    np.testing.assert_allclose(low.largest, full.largest[:4], rtol=1e-9)
    assert len(low.right_bottom) == len(full.right_bottom) == 0
    for name in ("left_top", "right_top"):
        one, two = getattr(low, name), getattr(full, name)
        np.testing.assert_allclose(projector(one), projector(two), atol=1e-9)


def test_what_is_not_resolved_counts_as_zero() -> None:
    left = np.linalg.qr(np.random.default_rng(0).normal(size=(20, 20)))[0]
    values = np.array([1.0, 0.5, 1e-3, 1e-9, *np.zeros(16)])
    found = of_matrix(left * values @ left.T)
    assert found.rank == 3
    np.testing.assert_allclose(found.largest[:3], values[:3], rtol=1e-9)
    assert not found.largest[3:].any()


def test_zero() -> None:
    assert of_matrix(np.zeros((6, 4))).rank == 0
    values, first, last = ends(np.zeros((5, 5)))
    assert (values.any(), len(first), len(last)) == (False, 0, 0)
    base = Stored(torch.ones(6, 4), "F32")
    assert decompose(Change(base)).rank == 0
