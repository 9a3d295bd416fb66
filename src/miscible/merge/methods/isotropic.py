"""Iso-C and Iso-CTS: merged task matrices with a flat spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

from miscible.merge.contract import Laws, PerModel, merge_method, per_model, shared
from miscible.merge.ops.products import multiply
from miscible.merge.ops.spectral import NULL, Singular, as_matrix, decompose
from miscible.merge.ops.subspace import isotropic, mean_of_others, procrustes_sum, shaped, summed
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch

# A flat spectrum is not that of the one model, and no weight brings it back.
_FLAT = (Laws.ONE_MODEL,)


@merge_method("iso_c", paper="2502.04959", exempt=_FLAT)
def iso_c(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Sum the task matrices and replace all singular values by their mean.

    The mean is over min(rows, columns) values (2502.04959, equation 6). Numerically null directions
    stay 0, where a full SVD would fill arbitrary ones: a sum of adapters keeps its rank. Vectors
    are averaged.
    """
    merged = mean_of_others(deltas, weight)
    return (merged or shaped(isotropic(deltas, weight), deltas)).scaled(lambda_)


@merge_method("iso_cts", paper="2502.04959", exempt=_FLAT)
def iso_cts(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    common: float = shared(0.8, low=0.0, high=1.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Flatten the spectrum over the sum's leading directions and each task's own beyond them.

    Of r = min(rows, columns) directions, s = round((r - int(common r)) / T) come from each of the T
    task matrices, projected off the leading r - T s left singular vectors of their sum, which make
    up the rest. All are orthogonalised, and their singular values replaced by the mean over r
    (2502.04959, algorithm 2). Vectors are averaged.
    """
    merged = mean_of_others(deltas, weight)
    if merged is not None:
        return merged.scaled(lambda_)
    total = summed(deltas, weight)
    rank = min(len(total.u), len(total.v)) if isinstance(total, Singular) else min(total.shape)
    own = min(round((rank - int(common * rank)) / len(deltas)), rank // len(deltas))
    if own == 0:
        return shaped(isotropic(deltas, weight), deltas).scaled(lambda_)
    leading = total if isinstance(total, Singular) else decompose(total, rank - own * len(deltas))
    parts = [leading.leading(rank - own * len(deltas))]
    for delta, w in zip(deltas.tensors, weight, strict=True):
        parts.append(_beyond(as_matrix(delta) * w, parts[0].u, own))
    parts = [part for part in parts if len(part)]
    if not parts:
        return deltas.weighted_sum([0.0] * len(deltas))
    mean = sum(float(part.s.sum()) for part in parts) / rank
    flat = procrustes_sum(parts, [part.s.new_full((len(part),), mean) for part in parts])
    return shaped(flat, deltas).scaled(lambda_)


def _beyond(matrix: torch.Tensor, basis: torch.Tensor, count: int) -> Singular:
    """Return the leading triplets of what of *matrix* lies outside of an orthonormal basis."""
    basis = basis.to(matrix.dtype)
    rest = matrix - multiply(basis, multiply(basis.T, matrix))
    # Relative to the matrix: what a projection leaves of directions inside is rounding.
    return decompose(rest, count).above(NULL * float(matrix.norm()))
