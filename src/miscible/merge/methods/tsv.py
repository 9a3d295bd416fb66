"""TSV-Merge: task singular vectors, truncated and decorrelated."""

from __future__ import annotations

from miscible.merge.contract import PerModel, merge_method, per_model, shared
from miscible.merge.ops.spectral import as_matrix, decompose_each
from miscible.merge.ops.subspace import mean_of_others, procrustes_sum, shaped
from miscible.merge.spaces import Delta, Deltas


@merge_method("tsv", paper="2412.00081")
def tsv(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Sum each task's leading singular components after orthogonalising them between tasks.

    Of the r = min(rows, columns) components of each of T weighted task matrices the int(r / T)
    largest are kept; their left and right vectors are replaced by the nearest orthonormal sets
    (2412.00081, algorithm 1). Vectors are averaged. Numerically null components are not kept, where
    a full SVD would keep arbitrary ones.
    """
    if len(deltas) == 1:
        return deltas.weighted_sum(weight).scaled(lambda_)
    averaged = mean_of_others(deltas, weight)
    if averaged is not None:
        return averaged.scaled(lambda_)
    shape = deltas.factors[0].shape if deltas.factors else as_matrix(deltas.tensors[0]).shape
    found = decompose_each(deltas, int(min(shape) / len(deltas)))
    kept = [(part, w) for part, w in zip(found, weight, strict=True) if w and len(part)]
    if not kept:
        return deltas.weighted_sum([0.0] * len(deltas))
    merged = procrustes_sum([part for part, _ in kept], [part.s * w for part, w in kept])
    return shaped(merged, deltas).scaled(lambda_)
