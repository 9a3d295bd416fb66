"""Spectral methods equal full SVDs where these are well defined, and say nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from merge.methods.direct import run
from miscible.errors import MiscibleError
from miscible.merge.contract import Deltas
from miscible.merge.ops.low_rank import compress, truncate
from miscible.merge.ops.polar import flattened, inverse_root
from miscible.merge.ops.products import gram, multiply
from miscible.merge.ops.spectral import decompose, leading_side
from miscible.models.delta import LowRank
from references import spectral

METHODS = ["tsv", "iso_c", "iso_cts", "star"]
# The smaller side decides: LAPACK directly, or Gram matrices, square and oblong.
SHAPES = [(9, 7), (40, 60), (150, 150), (120, 500), (500, 120)]


def tuned(shape: Sequence[int], seed: int, count: int = 3) -> list[torch.Tensor]:
    """Task matrices with the spectrum of fine-tuning: noise, and a few strong directions."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = shape
    found = []
    for _ in range(count):
        noise = torch.randn(rows, columns, generator=generator)
        u = torch.randn(rows, 4, generator=generator) * torch.tensor([4.0, 2.0, 1.0, 0.5])
        found.append(1e-3 * (noise + u @ torch.randn(4, columns, generator=generator)))
    return found


def with_spectrum(rows: int, columns: int, s: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
    """Return a float32 matrix with these singular values, and its polar factor."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(rows, len(s), generator=generator).double())
    v, _ = torch.linalg.qr(torch.randn(columns, len(s), generator=generator).double())
    return ((u * s) @ v.T).float(), (u @ v.T).numpy()


def adapters(shape: tuple[int, int], ranks: Sequence[int], seed: int = 0) -> list[LowRank]:
    generator = torch.Generator().manual_seed(seed)
    return [
        LowRank(
            torch.randn(rank, shape[1], generator=generator),
            torch.randn(shape[0], rank, generator=generator),
            0.5,
        )
        for rank in ranks
    ]


def off(found: torch.Tensor, expected: np.ndarray) -> float:
    """Return the relative distance in the Frobenius norm."""
    assert found.shape == expected.shape
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))


def doubles(tensors: Sequence[torch.Tensor]) -> list[np.ndarray]:
    return [tensor.double().numpy() for tensor in tensors]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", METHODS)
def test_methods_equal_their_papers(name: str, shape: tuple[int, int]) -> None:
    deltas = tuned(shape, 1)
    reference: Callable[[list[np.ndarray]], np.ndarray] = getattr(spectral, name)
    found = run(name, deltas)
    assert found.dtype == torch.float32
    assert off(found, reference(doubles(deltas))) < (1e-3 if min(shape) > 96 else 1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", METHODS)
def test_methods_are_exact_in_float64(name: str, shape: tuple[int, int]) -> None:
    deltas = [delta.double() for delta in tuned(shape, 2)]
    found = run(name, deltas)
    assert found.dtype == torch.float64
    assert off(found, getattr(spectral, name)(doubles(deltas))) < 1e-9


@pytest.mark.parametrize("common", [0.0, 0.5, 0.9, 1.0])
def test_common_share_of_iso_cts(common: float) -> None:
    deltas = tuned((31, 47), 3)
    expected = spectral.iso_cts(doubles(deltas), common)
    assert off(run("iso_cts", deltas, common=common), expected) < 1e-6
    whole = spectral.iso_c(doubles(deltas))
    assert (off(run("iso_cts", deltas, common=common), whole) < 1e-6) == (common == 1.0)


@pytest.mark.parametrize("name", METHODS)
def test_weights_scale_task_matrices(name: str) -> None:
    deltas = tuned((20, 30), 4)
    weighted = [w * delta for w, delta in zip((0.5, -1.0, 2.0), doubles(deltas), strict=True)]
    options = {"normalize": False} if name == "star" else {}
    expected = getattr(spectral, name)(weighted) * (3 if name == "star" else 1)
    assert off(run(name, deltas, weight=[0.5, -1.0, 2.0], **options), expected) < 1e-6


@pytest.mark.parametrize("name", METHODS)
def test_convolutions_are_matrices_and_vectors_are_averaged(name: str) -> None:
    kernels = [torch.randn(8, 3, 2, 2, generator=torch.Generator().manual_seed(i)) for i in (1, 2)]
    flat = [kernel.reshape(8, 12) for kernel in kernels]
    assert run(name, kernels).equal(run(name, flat).reshape(8, 3, 2, 2))
    vectors = [kernel.flatten() for kernel in kernels]
    mean = (vectors[0] + vectors[1]) / 2
    torch.testing.assert_close(run(name, vectors), mean)
    torch.testing.assert_close(run(name, [v[None] for v in vectors]), mean[None])


@pytest.mark.parametrize("shape", [(12, 9), (110, 130)])
@pytest.mark.parametrize("name", METHODS)
def test_laws_on_matrices(name: str, shape: tuple[int, int]) -> None:
    deltas = tuned(shape, 5)
    whole = run(name, deltas)
    torch.testing.assert_close(run(name, deltas, lambda_=-0.7), -0.7 * whole)
    assert not run(name, [torch.zeros(shape)] * 3).any()
    assert off(run(name, deltas[::-1]), whole.double().numpy()) < 3e-6 * (1 + 100 * (shape[0] > 96))
    assert run(name, deltas).equal(whole)
    partly = run(name, [*deltas[:2], torch.zeros(shape)])
    assert partly.isfinite().all()
    assert partly.any()


def test_tsv_of_one_model_is_the_model() -> None:
    (delta,) = tuned((30, 20), 6, count=1)
    assert run("tsv", [delta]).equal(delta)


@pytest.mark.parametrize("side", [24, 120])
def test_tsv_of_equal_models_is_their_leading_part(side: int) -> None:
    (delta,) = tuned((side, side + 10), 7, count=1)
    u, s, v = spectral.svd(delta.double().numpy())
    leading = u[:, : side // 2] @ np.diag(s[: side // 2]) @ v[:, : side // 2].T
    assert off(run("tsv", [delta, delta]), leading) < 1e-4


@pytest.mark.parametrize("shape", [(40, 50), (130, 300)])
@pytest.mark.parametrize("name", METHODS)
def test_adapters_merge_as_their_dense_forms(name: str, shape: tuple[int, int]) -> None:
    factors = adapters(shape, (3, 5, 4))
    dense = run(name, [factor.dense() for factor in factors])
    found = run(name, Deltas(factors=factors))
    assert off(found, dense.double().numpy()) < 1e-4
    turned = [LowRank(f.a, f.b, f.scale, transposed=True) for f in factors]
    assert off(run(name, Deltas(factors=turned)), dense.T.double().numpy()) < 1e-4


@pytest.mark.parametrize("shape", [(40, 50), (130, 300), (130, 130)])
def test_iso_c_leaves_null_directions_alone(shape: tuple[int, int]) -> None:
    matrix, polar = with_spectrum(*shape, torch.linspace(3, 1, 12, dtype=torch.float64))
    found = run("iso_c", [matrix])
    assert off(found, polar * 24.0 / min(shape)) < 1e-4
    # A full SVD agrees on the directions that there are.
    u, _, v = spectral.svd(matrix.double().numpy())
    full = spectral.iso_c([matrix.double().numpy()])
    inside = u[:, :12] @ u[:, :12].T @ full @ v[:, :12] @ v[:, :12].T
    assert off(found, inside) < 1e-4


@pytest.mark.parametrize(
    "s",
    [
        torch.logspace(0, -2, 128),
        torch.logspace(0, -4, 128),
        torch.logspace(0, -5, 128),
        torch.cat([torch.tensor([100.0, 30.0]), torch.linspace(1.0, 0.2, 126)]),
        torch.cat([torch.ones(127), torch.tensor([1e-5])]),
        torch.ones(128),
    ],
)
@pytest.mark.parametrize("columns", [128, 300])
def test_polar_factor_of_difficult_spectra(s: torch.Tensor, columns: int) -> None:
    s = s.double()
    matrix, polar = with_spectrum(128, columns, s)
    mean = float(s.mean())
    assert off(flattened(matrix), mean * polar) < 1e-3
    assert off(flattened(matrix.T), mean * polar.T) < 1e-3
    root, nuclear = inverse_root(matrix)
    assert nuclear == pytest.approx(float(s.sum()), rel=1e-3)
    assert off(root, root.T.double().numpy()) < 1e-4


def test_cut_within_a_dense_spectrum() -> None:
    # Squares at the cut differ by 3e-6 of the largest, thirty times the rounding of float32.
    s = torch.cat([torch.ones(1), torch.linspace(0.05, 0.04, 299)]).double()
    matrix, _ = with_spectrum(600, 300, s)
    found = decompose(matrix, 100)
    u, s, v = spectral.svd(matrix.double().numpy())
    np.testing.assert_allclose(found.s.numpy(), s[:100], rtol=1e-4)
    assert off(found.u @ found.u.T, u[:, :100] @ u[:, :100].T) < 1e-3
    assert off(found.dense(), u[:, :100] @ np.diag(s[:100]) @ v[:, :100].T) < 1e-3


@pytest.mark.parametrize("shape", [(300, 150), (150, 300), (20, 30)])
def test_bases_are_orthonormal_and_complete(shape: tuple[int, int]) -> None:
    matrix, _ = with_spectrum(*shape, torch.logspace(0, -3, min(shape), dtype=torch.float64))
    basis = leading_side(matrix)
    assert off(basis.T @ basis, np.eye(basis.shape[1])) < 1e-5
    assert off(basis @ (basis.T @ matrix), matrix.double().numpy()) < 1e-5


def test_products_equal_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(400, 300, generator=generator), torch.randn(300, 260, generator=generator)
    for left, right in ((a, b), (a[:, :200], b[:200]), (a[::2], b[:, 1:201]), (b.T, a.T)):
        assert off(multiply(left, right), (left.double() @ right.double()).numpy()) < 1e-6
    for dtype, bound in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        square = gram(a, dtype)
        assert square.dtype == dtype
        assert off(square, (a.double() @ a.T.double()).numpy()) < bound


@pytest.mark.parametrize("shape", [(30, 20), (150, 260)])
def test_truncation_is_the_best_and_says_what_it_loses(shape: tuple[int, int]) -> None:
    delta = tuned(shape, 9)[0]
    u, s, v = spectral.svd(delta.double().numpy())
    found, error = truncate(delta, 5)
    assert (found.a.shape, found.b.shape) == ((5, shape[1]), (shape[0], 5))
    assert off(found.dense(), u[:, :5] @ np.diag(s[:5]) @ v[:, :5].T) < 1e-4
    assert error == pytest.approx(np.linalg.norm(s[5:]) / np.linalg.norm(s), rel=1e-5)
    assert truncate(torch.zeros(shape), 3)[1] == 0.0
    assert not truncate(torch.zeros(shape), 3)[0].dense().any()


@pytest.mark.parametrize("rank", [1, 7, 12, 40])
def test_compression_of_a_weighted_sum(rank: int) -> None:
    factors, weights = adapters((40, 30), (3, 5, 4)), (1.0, -0.5, 2.0)
    total = sum(w * f.dense(torch.float64).numpy() for w, f in zip(weights, factors, strict=True))
    _, s, _ = spectral.svd(total)
    found, error = compress(factors, weights, rank)
    assert len(found.a) == min(rank, 12)
    lost = np.linalg.norm(s[rank:]) / np.linalg.norm(s)
    assert error == pytest.approx(lost, rel=1e-6, abs=1e-12)
    assert off(found.dense(), total) == pytest.approx(error, rel=1e-5, abs=1e-6)


def test_refusals_of_low_rank_approximations() -> None:
    with pytest.raises(MiscibleError, match="rank of at least 1. Got 0"):
        truncate(torch.zeros(3, 4), 0)
    with pytest.raises(MiscibleError, match=r"shape \(5,\)"):
        truncate(torch.zeros(5), 2)
    with pytest.raises(MiscibleError, match="different shapes"):
        compress([*adapters((4, 5), (2,)), *adapters((5, 4), (2,))], (1, 1), 2)
