"""Spherical interpolation of two models."""

from __future__ import annotations

from miscible.merge.contract import REQUIRED, Base, merge_method, shared
from miscible.merge.ops.means import slerp_coefficients
from miscible.merge.spaces import Weight, Weights


@merge_method(
    "slerp",
    paper="Shoemake 1985",
    base=Base.FIRST,
    least=2,
    most=2,
    ignored=("int8_mask",),
    averages=True,
    streams=True,
)
def slerp(weights: Weights, *, t: float = shared(REQUIRED)) -> Weight:
    """Walk the share t of the great circle from the base to the other model, tensor by tensor."""
    return weights.weighted_sum(slerp_coefficients(weights.gram(), t))
