"""Iso-C and TSV-Merge are right to 1e-3 for every kind of matrix, whatever way they take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from merge.methods.direct import run
from miscible.merge.ops.eigen import leading_eigen
from miscible.merge.ops.halley import gram_root, resolvent
from miscible.merge.ops.polar import inverse_root, polar
from miscible.merge.ops.products import gram, multiply, symmetric_product
from references import spectral

SHAPES = [(180, 180), (150, 200), (200, 150), (110, 400), (400, 110)]
NULL = 2e-6


def with_values(shape: Sequence[int], s: torch.Tensor, seed: int) -> torch.Tensor:
    """Return a float32 matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    u, _ = torch.linalg.qr(torch.randn(shape[0], len(s), generator=generator).double())
    v, _ = torch.linalg.qr(torch.randn(shape[1], len(s), generator=generator).double())
    return ((u * s.double()) @ v.T).float()


def gaussian(shape: Sequence[int], seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kind_of(kind: str, shape: Sequence[int], seed: int) -> torch.Tensor:
    side = min(shape)
    if kind == "gaussian":
        return gaussian(shape, seed)
    if kind == "tiny":
        return 1e-25 * gaussian(shape, seed)
    if kind == "huge":
        return 1e20 * gaussian(shape, seed)
    if kind == "strong directions":
        spikes = gaussian((shape[0], 8), seed + 50) @ gaussian((8, shape[1]), seed + 60)
        return gaussian(shape, seed) + 2.0 * spikes
    values = {
        "orthonormal": torch.ones(side),
        "slow decay": torch.logspace(0, -2, side),
        "fast decay": torch.logspace(0, -5, side),
        "steep": torch.cat([torch.ones(1), torch.linspace(1e-3, 1e-4, side - 1)]),
        "one small": torch.cat([torch.linspace(2, 1, side - 1), torch.tensor([2e-5])]),
        "many small": torch.cat([torch.linspace(2, 1, side - 30), torch.linspace(2e-4, 1e-4, 30)]),
        "low rank": torch.linspace(2, 1, 12),
        "one null": torch.linspace(2, 1, side - 1),
    }
    return with_values(shape, values[kind], seed)


KINDS = [
    *("gaussian", "tiny", "huge", "strong directions", "orthonormal", "slow decay", "fast decay"),
    *("steep", "one small", "many small", "low rank", "one null"),
]


def off(found: torch.Tensor, expected: np.ndarray) -> float:
    """Return the relative distance in the Frobenius norm."""
    assert found.shape == expected.shape
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))


def partial_polar(matrix: np.ndarray, null: float = NULL) -> np.ndarray:
    """Return u v^T over the directions that are not null."""
    u, s, v = spectral.svd(matrix)
    kept = s > null * s[0]
    return u[:, kept] @ v[:, kept].T


def iso_c(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """Iso-C where null directions stay 0."""
    total = np.sum(matrices, axis=0)
    return float(np.mean(spectral.svd(total)[1])) * partial_polar(total)


def tsv(matrices: Sequence[np.ndarray]) -> np.ndarray:
    """TSV-Merge that keeps no null directions."""
    us, ss, vs = [], [], []
    for u, s, v in map(spectral.svd, matrices):
        kept = min(min(u.shape[0], v.shape[0]) // len(matrices), int((s > NULL * s[0]).sum()))
        us, ss, vs = [*us, u[:, :kept]], [*ss, s[:kept]], [*vs, v[:, :kept]]
    left, right = partial_polar(np.hstack(us)), partial_polar(np.hstack(vs))
    return left @ np.diag(np.concatenate(ss)) @ right.T


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_iso_c_of_every_kind(kind: str, shape: tuple[int, int]) -> None:
    matrix = kind_of(kind, shape, 1)
    assert off(run("iso_c", [matrix]), iso_c([matrix.double().numpy()])) < 1e-3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "orthonormal"])
def test_tsv_of_every_kind(kind: str, shape: tuple[int, int]) -> None:
    # Of an orthonormal matrix, no direction leads.
    deltas = [kind_of(kind, shape, seed) for seed in (1, 2, 3)]
    assert off(run("tsv", deltas), tsv([delta.double().numpy() for delta in deltas])) < 1e-3


@pytest.mark.parametrize("seed", range(8))
def test_square_noise_of_many_draws(seed: int) -> None:
    # The smallest singular value of a square Gaussian matrix varies by orders.
    matrix = gaussian((130, 130), seed)
    assert off(run("iso_c", [matrix]), iso_c([matrix.double().numpy()])) < 1e-3


@pytest.mark.parametrize("name", ["iso_c", "tsv"])
@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (2, 300), (180, 180), (110, 400)])
def test_zeros_and_single_rows(name: str, shape: tuple[int, int]) -> None:
    assert not run(name, [torch.zeros(shape)] * 3).any()
    deltas = [gaussian(shape, seed) for seed in (1, 2)]
    found = run(name, deltas)
    assert found.shape == shape
    assert found.isfinite().all()
    if min(shape) == 1:
        torch.testing.assert_close(found, (deltas[0] + deltas[1]) / 2)


def test_ways_that_are_taken() -> None:
    square, oblong = gaussian((180, 180), 0), gaussian((110, 400), 0)
    assert polar(square).root is None  # multiplied out: found from the matrix itself
    root = polar(oblong).root
    assert root is not None
    assert root.dtype == torch.float32
    for kind in ("fast decay", "steep", "many small"):  # too much for float32
        assert polar(kind_of(kind, (180, 180), 0)).root is not None
    for kind in ("low rank", "one null"):  # eigenvectors
        root = polar(kind_of(kind, (180, 180), 0)).root
        assert root is not None
        assert root.dtype == torch.float64


def test_polar_gives_the_nuclear_norm() -> None:
    for shape in ((180, 180), (150, 200), (110, 400)):
        matrix = kind_of("strong directions", shape, 4)
        nuclear = float(torch.linalg.svdvals(matrix.double()).sum())
        assert polar(matrix).nuclear == pytest.approx(nuclear, rel=1e-4)
        assert inverse_root(matrix)[1] == pytest.approx(nuclear, rel=1e-4)


@pytest.mark.parametrize("count", [1, 40, 150, 200])
def test_leading_eigenvectors(count: int) -> None:
    square = gram(gaussian((200, 300), 1), torch.float32)
    values, vectors = leading_eigen(square, count)
    expected = np.linalg.eigvalsh(square.double().numpy())[::-1]
    np.testing.assert_allclose(values.numpy(), expected, atol=1e-5 * expected[0])
    assert vectors.shape == (200, count)
    assert off(vectors.T @ vectors, np.eye(count)) < 1e-5
    assert off(square @ vectors, (vectors.double() * values[:count]).numpy()) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("side", [100, 301, 600])
def test_resolvents(side: int, dtype: torch.dtype) -> None:
    square = gram(gaussian((side, side), 2), dtype) / (4 * side)
    found = resolvent(square, 50.0)
    assert found is not None
    expected = np.linalg.inv(np.eye(side) + 50.0 * square.double().numpy())
    assert off(found, expected) < (1e-5 if dtype == torch.float32 else 1e-13)
    assert resolvent(square - torch.eye(side, dtype=dtype), 50.0) is None


def test_roots_of_gram_matrices() -> None:
    matrix = kind_of("slow decay", (300, 300), 3)
    square = gram(matrix, torch.float64)
    found = gram_root(square, 5e-3, 5e-3)
    assert found is not None
    assert off(found @ matrix, partial_polar(matrix.double().numpy())) < 5e-4
    assert gram_root(square, 5e-2, 2e-2) is None
    assert gram_root(torch.zeros(120, 120), 5e-2, 2e-2) is None


def test_symmetric_products() -> None:
    square = gram(gaussian((300, 300), 5), torch.float32)
    twice = multiply(square, square)
    assert off(symmetric_product(square, square.T), twice.double().numpy()) < 1e-6
    found = symmetric_product(square, square.T)
    assert found.equal(found.T) or off(found, found.T.double().numpy()) < 1e-6
