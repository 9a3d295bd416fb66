"""Karcher mean: the centre of several models on the sphere."""

from __future__ import annotations

from miscible.merge.contract import Base, merge_method, shared
from miscible.merge.ops.means import karcher_coefficients
from miscible.merge.spaces import Weight, Weights


@merge_method(
    "karcher",
    paper="Karcher 1977",
    base=Base.INPUT,
    ignored=("int8_mask",),
    averages=True,
    streams=True,
)
def karcher(
    weights: Weights,
    *,
    max_iter: int = shared(10, low=0),
    tol: float = shared(1e-5, low=0.0),
) -> Weight:
    """Find the direction nearest to all models on the sphere, at the mean of their norms."""
    return weights.weighted_sum(karcher_coefficients(weights.gram(), max_iter, tol))
