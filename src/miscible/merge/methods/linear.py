"""Weighted averages of weights."""

from __future__ import annotations

from miscible.errors import RecipeError
from miscible.merge.contract import (
    REQUIRED,
    Base,
    PerModel,
    Weight,
    Weights,
    merge_method,
    per_model,
    shared,
)


@merge_method("linear", paper="2203.05482", base=Base.INPUT, ignored=("int8_mask",))
def linear(
    weights: Weights,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    normalize: bool = shared(True),
) -> Weight:
    """Average the models' weights (model soup).

    Raises:
        RecipeError: if the weights sum to 0 and are to be normalised.
    """
    total = sum(weight)
    if not normalize:
        return weights.weighted_sum(weight)
    if total == 0:
        raise RecipeError(
            "the weights of linear sum to 0 and cannot be normalised.",
            fix="Change a weight or set 'normalize: false'.",
        )
    return weights.weighted_sum([value / total for value in weight])
