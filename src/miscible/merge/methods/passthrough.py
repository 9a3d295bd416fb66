"""Copies of one model's tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import Base, PerModel, merge_method, per_model
from miscible.merge.spaces import Weight, Weights


def _copies(values: Mapping[str, Any]) -> bool:
    return all(scale == 1.0 for scale in values["scale"])


@merge_method(
    "passthrough",
    paper="none",
    base=Base.INPUT,
    most=1,
    ignored=("int8_mask",),
    averages=_copies,
    streams=True,
)
def passthrough(weights: Weights, *, scale: PerModel[float] = per_model(1.0)) -> Weight:
    """Copy the model's weights, times a scale."""
    return weights.weighted_sum(scale)
