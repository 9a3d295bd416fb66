"""The two factors that hold a difference at a rank, and how far they are from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miscible.merge.ops.low_rank import compress, truncate
from miscible.models.delta import LowRank

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-6
"""What the smallest exact rank may lose of a difference's norm."""


@dataclass(frozen=True, slots=True, eq=False)
class Approximation:
    """A difference at a rank.

    Attributes:
        factors: rounded to the dtype in which they are written, of scale 1.
        norm: Frobenius norm of the difference.
        error: norm of what the factors as written lack, relative to `norm`.
    """

    factors: LowRank
    norm: float
    error: float


def approximate_sum(
    parts: Sequence[LowRank], weights: Sequence[float], rank: int | None, dtype: torch.dtype
) -> Approximation | None:
    """Return sum w_i d_i of low-rank differences at a rank, without multiplying it out.

    Args:
        parts: matrices of one shape, stored the same way round.
        weights: one a part.
        rank: None for the smallest that loses no more than `TOLERANCE`.
        dtype: in which the factors are written.

    Returns:
        None where the sum is zero.
    """
    most = sum(part.a.shape[0] for part in parts)
    whole, _ = compress(parts, weights, most)
    values = _singular_values(whole)
    norm = float(values.norm())
    if norm == 0.0:
        return None
    factors = _written(whole, rank or _smallest_rank(values, TOLERANCE * norm), dtype)
    rest, _ = compress([*parts, factors], [*weights, -1.0], 2 * most)
    return Approximation(factors, norm, float(_singular_values(rest).norm()) / norm)


def approximate_matrix(
    delta: torch.Tensor,
    rank: int | None,
    dtype: torch.dtype,
    *,
    wide: torch.dtype,
    noise: float = 0.0,
    transposed: bool = False,
) -> Approximation | None:
    """Return a matrix at a rank.

    Args:
        delta: the difference as the weight is stored, float64.
        rank: None for the smallest that loses no more than `TOLERANCE`, or *noise*.
        dtype: in which the factors are written.
        wide: in which it is decomposed: float64 takes longer, and gains nothing on a difference of
            tensors that were computed in float32.
        noise: norm below which a difference means nothing.
        transposed: whether the weight is stored [inputs, outputs].

    Returns:
        None where the difference means nothing.
    """
    norm = float(delta.norm())
    if norm <= noise:
        return None
    matrix = (delta.T if transposed else delta).to(wide)
    found, _ = truncate(matrix, rank or min(matrix.shape))
    kept = rank or _smallest_rank(_singular_values(found), max(TOLERANCE * norm, noise))
    held = _written(found, kept, dtype)
    factors = LowRank(held.a, held.b, held.scale, transposed)
    lost = delta - factors.dense(delta.dtype)
    return Approximation(factors, norm, float(lost.norm()) / norm)


def _smallest_rank(values: torch.Tensor, tolerance: float) -> int:
    tails = values.square().flip(0).cumsum(0).sqrt()  # norms of the last 1, 2, ... values
    return max(1, len(values) - int((tails <= tolerance).sum()))


def _singular_values(factors: LowRank) -> torch.Tensor:
    # Both factors carry the root of a value, in a column of one and a row of the other.
    values: torch.Tensor = factors.b.double().norm(dim=0) * factors.a.double().norm(dim=1)
    return values


def _written(factors: LowRank, rank: int, dtype: torch.dtype) -> LowRank:
    a, b = factors.a[:rank].to(dtype), factors.b[:, :rank].to(dtype)
    return LowRank(a, b, factors.scale, factors.transposed)
