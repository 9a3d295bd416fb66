"""MagMax: the largest change of each element wins."""

from __future__ import annotations

from miscible.merge.contract import PerModel, merge_method, per_model, shared
from miscible.merge.ops.unify import largest_magnitude
from miscible.merge.spaces import Delta, Deltas


@merge_method("magmax", paper="2407.06322", elementwise=True)
def magmax(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Take each element from the weighted task vector in which it is largest in magnitude.

    Of equal magnitudes with different signs the positive one is taken.
    """
    vectors = [delta * value for delta, value in zip(deltas, weight, strict=True)]
    return Delta(largest_magnitude(vectors)).scaled(lambda_)
