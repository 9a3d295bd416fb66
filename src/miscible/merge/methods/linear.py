"""Weighted averages of weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import (
    REQUIRED,
    Base,
    PerModel,
    merge_method,
    per_model,
    shared,
)
from miscible.merge.spaces import Weight, Weights


def _sums_to_one(values: Mapping[str, Any]) -> bool:
    return bool(values["normalize"]) or sum(values["weight"]) == 1.0


def _has_a_sum(values: Mapping[str, Any]) -> str | None:
    if values["normalize"] and sum(values["weight"]) == 0:
        return (
            "the weights of linear sum to 0 and cannot be normalised. Change a weight or set "
            "'normalize: false'."
        )
    return None


@merge_method(
    "linear",
    paper="2203.05482",
    base=Base.INPUT,
    ignored=("int8_mask",),
    averages=_sums_to_one,
    check=_has_a_sum,
    streams=True,
)
def linear(
    weights: Weights,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    normalize: bool = shared(True),
) -> Weight:
    """Average the models' weights (model soup)."""
    total = sum(weight) if normalize else 1.0
    return weights.weighted_sum([value / total for value in weight])
