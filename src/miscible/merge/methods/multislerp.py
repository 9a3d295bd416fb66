"""Weighted mean of several models on the sphere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import REQUIRED, Base, PerModel, merge_method, per_model, shared
from miscible.merge.ops.means import multislerp_coefficients
from miscible.merge.spaces import Delta, Deltas, Site, Weight, Weights


def _sums_to_one(values: Mapping[str, Any]) -> bool:
    return bool(values["normalize_weights"]) or sum(values["weight"]) == 1.0


def _has_a_sum(values: Mapping[str, Any]) -> str | None:
    weight = values["weight"]
    if values["normalize_weights"] and len(weight) > 1 and sum(weight) == 0:
        return (
            "the weights of multislerp sum to 0 and cannot be normalised. Change a weight or set "
            "'normalize_weights: false'."
        )
    return None


@merge_method(
    "multislerp",
    paper="Buss and Fillmore 2001",
    base=Base.OPTIONAL,
    ignored=("int8_mask",),
    averages=_sums_to_one,
    check=_has_a_sum,
    streams=True,
)
def multislerp(
    inputs: Weights | Deltas,
    *,
    site: Site,
    weight: PerModel[float] = per_model(REQUIRED),
    normalize_weights: bool = shared(True),
    eps: float = shared(1e-8, low=0.0),
) -> Weight | Delta:
    """Average directions and norms of the models, or of their task vectors, by weight.

    A single model is returned as it is. *eps* is the length of the mean of unit vectors from which
    a direction can be told.

    Raises:
        IncompatibleModelsError: if the directions of three models or more cancel.
    """
    total = sum(weight) if normalize_weights and len(weight) > 1 else 1.0
    shares = [value / total for value in weight]
    coefficients = multislerp_coefficients(inputs.gram(), shares, eps)
    if coefficients is None:
        raise IncompatibleModelsError(
            "the weighted directions of the models cancel, so their mean on the sphere has none.",
            where=f"tensor {site.tensor!r}",
            fix="Change a weight, leave a model out, or use 'linear'.",
        )
    return inputs.weighted_sum(coefficients)
