"""Sums of task vectors."""

from __future__ import annotations

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.consensus import plain_sum
from miscible.merge.spaces import Delta, Deltas


@merge_method("task_arithmetic", paper="2212.04089", ignored=("density", "int8_mask"), streams=True)
def task_arithmetic(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    normalize: bool = shared(False),
    lambda_: float = shared(1.0),
) -> Delta:
    """Add weighted task vectors to the base."""
    return plain_sum(deltas, weight, normalize=normalize).scaled(lambda_)
