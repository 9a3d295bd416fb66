"""Merging in subspaces: sums of singular triplets of several matrices, made orthogonal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.ops.polar import flattened, polar
from miscible.merge.ops.products import multiply
from miscible.merge.ops.spectral import (
    Singular,
    as_matrix,
    decompose_product,
    is_matrix,
    stacked_sides,
    wide_dtype,
)
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch


def procrustes_sum(parts: Sequence[Singular], values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return sum u_i diag(values_i) v_i^T with all u (and all v) made orthonormal together.

    The nearest orthonormal set is the polar factor of the concatenation (TSV-Merge, 2412.00081,
    section 3.3; Iso-CTS, 2502.04959, section 4.2). Directions that several parts share to rounding
    make it rank-deficient; it is then the partial isometry, which adds them up.

    Args:
        parts: singular vectors, no more in all than the smaller side has entries.
        values: what stands in place of their singular values.
    """
    import torch

    left = polar(torch.cat([part.u.T for part in parts]))
    right = polar(torch.cat([part.v.T for part in parts]))
    roots = [one.root for one in (left, right) if one.root is not None]
    kinds = [left.rows.dtype, *(root.dtype for root in roots)]
    dtype = torch.float64 if torch.float64 in kinds else left.rows.dtype
    scale = torch.cat(list(values)).to(dtype)
    roots = [root.to(dtype) for root in roots]
    u, v = left.rows.T.to(dtype), right.rows.to(dtype)
    if left.root is None:
        u = u * scale
    elif right.root is None:
        v = scale[:, None] * v
    else:
        roots = [multiply(roots[0] * scale, roots[1])]
    if not roots:
        return multiply(u, v).to(left.rows.dtype)
    if len(u) < v.shape[1]:
        return multiply(multiply(u, roots[0]), v).to(left.rows.dtype)
    return multiply(u, multiply(roots[0], v)).to(left.rows.dtype)


def isotropic(deltas: Deltas, weights: Sequence[float]) -> torch.Tensor:
    """Return sum w_i d_i with all singular values replaced by their mean (Iso-C, 2502.04959).

    The mean is over the smaller side, numerically null directions included, which stay 0.
    """
    total = summed(deltas, weights)
    if isinstance(total, Singular):
        mean = float(total.s.sum()) / min(len(total.u), len(total.v))
        return multiply(total.u * mean, total.v.T)
    return flattened(total)


def summed(deltas: Deltas, weights: Sequence[float]) -> torch.Tensor | Singular:
    """Return sum w_i d_i as a matrix, or decomposed where factors make that cheap."""
    factors = deltas.factors
    if factors is not None and 2 * sum(len(f.a) for f in factors) < min(factors[0].shape):
        return decompose_product(*stacked_sides(factors, weights), wide_dtype(factors))
    matrices = [as_matrix(delta) for delta in deltas.tensors]
    return Deltas(matrices).weighted_sum(weights).tensor


def mean_of_others(deltas: Deltas, weights: Sequence[float]) -> Delta | None:
    """Return the mean of w_i d_i for what is no matrix, as spectral methods merge it, else None."""
    if deltas.factors is not None or is_matrix(deltas.tensors[0]):
        return None
    return deltas.weighted_sum([weight / len(deltas) for weight in weights])


def shaped(matrix: torch.Tensor, deltas: Deltas) -> Delta:
    """Return a merged matrix in the shape and dtype of the differences."""
    if deltas.factors is not None:
        return Delta(matrix.to(wide_dtype(deltas.factors)))
    like = deltas.tensors[0]
    return Delta(matrix.reshape(like.shape).to(like.dtype))
