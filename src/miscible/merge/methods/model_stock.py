"""Model Stock: as far from the base as the angles between the models justify."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import merge_method, shared
from miscible.merge.ops.means import model_stock_coefficients, model_stock_coefficients_each
from miscible.merge.ops.vectors import combine_along, gram_along
from miscible.merge.spaces import Delta, Deltas


def _is_flat(values: Mapping[str, Any]) -> bool:
    return not values["filter_wise"]


@merge_method("model_stock", paper="2403.19522", least=2, ignored=("int8_mask",), streams=_is_flat)
def model_stock(deltas: Deltas, *, filter_wise: bool = shared(False)) -> Delta:
    """Average the task vectors, shortened the more the less they agree in direction.

    With *filter_wise*, row by row (along the last dimension) instead of tensor by tensor.
    """
    if filter_wise:
        each = model_stock_coefficients_each(gram_along(deltas.tensors, -1))
        return Delta(combine_along(deltas.tensors, each, -1))
    return deltas.weighted_sum(model_stock_coefficients(deltas.gram()))
