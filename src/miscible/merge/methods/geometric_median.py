"""The geometric median of the task vectors."""

from __future__ import annotations

from miscible.merge.contract import PerModel, merge_method, per_model, shared
from miscible.merge.ops.median import median_coefficients
from miscible.merge.spaces import Delta, Deltas


@merge_method("geometric_median", paper="Weiszfeld 1937", streams=True)
def geometric_median(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0, low=0.0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Take the point with the least sum of weighted distances to the task vectors.

    Tensor by tensor. A weight is that of a model's distance: it does not scale its task vector, and
    a model that outweighs all others together is the median.
    """
    return deltas.weighted_sum(median_coefficients(deltas.gram(), weight)).scaled(lambda_)
