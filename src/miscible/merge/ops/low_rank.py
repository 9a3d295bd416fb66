"""A merged difference as a LoRA of a given rank, and what it loses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.errors import MiscibleError
from miscible.merge.ops.spectral import (
    Singular,
    decompose,
    decompose_product,
    stacked_sides,
    wide_dtype,
)
from miscible.models.delta import LowRank

if TYPE_CHECKING:
    import torch


def truncate(delta: torch.Tensor, rank: int) -> tuple[LowRank, float]:
    """Return the best approximation of a matrix by one of at most *rank*, and its error.

    Args:
        delta: [outputs, inputs], float32 or float64.
        rank: at least 1; the result has a lower one if the matrix has.

    Returns:
        Factors in the matrix's dtype, the square roots of the singular values on either side
        (Eckart and Young, 1936), and the norm of what is left over the norm of the matrix
        (Frobenius, of the factors as returned; 0 for a matrix of zeros).

    Raises:
        MiscibleError: if *delta* is no matrix or *rank* is below 1.
    """
    _check(rank)
    if delta.ndim != 2:
        raise MiscibleError(f"a tensor of shape {tuple(delta.shape)} has no low-rank factors.")
    found = _factors(decompose(delta, rank), delta.dtype)
    norm = float(delta.double().norm())
    rest = float((delta - found.dense(delta.dtype)).double().norm())
    return found, rest / norm if norm else 0.0


def compress(
    factors: Sequence[LowRank], weights: Sequence[float], rank: int
) -> tuple[LowRank, float]:
    """Return the best approximation of sum w_i d_i of at most *rank*, and its error.

    The sum itself is exact and never multiplied out: QR of the stacked factors, then the SVD of a
    core as wide as all ranks together, in float64.

    Args:
        factors: of weights of one shape.
        weights: one for each.
        rank: at least 1; the result has a lower one if the sum has.

    Returns:
        Factors of the weight as it is stored, in float32 (float64 if one of the inputs is), with
        scale 1, and the norm of what is left over the norm of the sum (Frobenius; 0 for zeros).

    Raises:
        MiscibleError: if the shapes differ or *rank* is below 1.
    """
    import torch

    _check(rank)
    if len({factor.shape for factor in factors}) != 1:
        raise MiscibleError("low-rank differences of different shapes cannot be summed.")
    found = decompose_product(*stacked_sides(factors, weights), torch.float64)
    norm = float(found.s.norm())
    error = float(found.s[rank:].norm()) / norm if norm else 0.0
    return _factors(found.leading(rank), wide_dtype(factors)), error


def _factors(found: Singular, dtype: torch.dtype) -> LowRank:

    root = found.s.sqrt()
    b, a = (found.u.double() * root).to(dtype), (found.v.double() * root).T.to(dtype)
    if len(found) == 0:  # an adapter of rank 0 is none
        b, a = b.new_zeros(len(b), 1), a.new_zeros(1, a.shape[1])
    return LowRank(a=a.contiguous(), b=b.contiguous(), scale=1.0)


def _check(rank: int) -> None:
    if rank < 1:
        raise MiscibleError(f"a low-rank approximation needs a rank of at least 1. Got {rank}.")
