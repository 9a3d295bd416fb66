"""EMR-Merging: one elected task vector, from which each model is restored by mask and rescale."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import PerModel, merge_method, per_model, shared
from miscible.merge.ops.unify import restored, unified
from miscible.merge.spaces import Delta, Deltas


def _knows_the_expert(values: Mapping[str, Any]) -> str | None:
    expert, count = values["expert"], len(values["weight"])
    if expert < count:
        return None
    return (
        f"expert {expert} of emr is not among the {count} models. "
        f"Give -1 for the unified model, or a number from 0 to {count - 1}."
    )


def _unified(values: Mapping[str, Any]) -> bool:
    return bool(values["expert"] < 0)


@merge_method("emr", paper="2405.17461", check=_knows_the_expert, elementwise=_unified)
def emr(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    expert: int = shared(-1, low=-1),
    lambda_: float = shared(1.0),
) -> Delta:
    """Elect a unified task vector; with an expert's number, restore that model from it.

    With *expert* -1 the unified task vector itself is added. Otherwise it
    is masked where its sign is not the expert's, and rescaled to the expert's L1 norm: in the paper
    over all parameters of a model at once, here in each tensor.
    """
    vectors = [delta * value for delta, value in zip(deltas, weight, strict=True)]
    elected = unified(vectors)
    return Delta(elected if expert < 0 else restored(vectors[expert], elected)).scaled(lambda_)
