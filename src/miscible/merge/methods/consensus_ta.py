"""TALL masks and Consensus Task Arithmetic: which parts of a sum belong to how many tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from miscible.merge.contract import Laws, PerModel, merge_method, per_model, shared
from miscible.merge.ops.masks import agreed, sum_of, tall_mask
from miscible.merge.spaces import Delta, Deltas


@merge_method("consensus_ta", paper="2405.07813", elementwise=True)
def consensus_ta(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    tall_lambda: PerModel[float] = per_model(0.4, low=0.0),
    k: int = shared(2, low=0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Add those elements of the sum of task vectors that matter to several tasks.

    An element stays where at least k TALL masks hold it (2405.07813), or all of them where
    there are fewer than k models. k = 0 is task arithmetic, 1 drops elements that matter to no
    task, 2 also those that matter to one alone. *tall_lambda* is the paper's lambda_t, chosen there
    between 0.2 and 0.6 for each task.
    """
    vectors = [delta * value for delta, value in zip(deltas, weight, strict=True)]
    total = sum_of(vectors)
    masks = [
        tall_mask(vector, total, value) for vector, value in zip(vectors, tall_lambda, strict=True)
    ]
    return Delta(total * agreed(masks, min(k, len(deltas)))).scaled(lambda_)


def _knows_the_expert(values: Mapping[str, Any]) -> str | None:
    expert, count = values["expert"], len(values["weight"])
    if expert < count:
        return None
    return (
        f"expert {expert} of tall_mask is not among the {count} models. "
        f"Models are counted from 0: give a number up to {count - 1}."
    )


# `expert` counts models in the order of the recipe.
@merge_method(
    "tall_mask",
    paper="2405.07813",
    elementwise=True,
    check=_knows_the_expert,
    exempt=(Laws.ORDER,),
)
def tall_mask_of_an_expert(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(1.0),
    tall_lambda: PerModel[float] = per_model(0.4, low=0.0),
    expert: int = shared(0, low=0),
    lambda_: float = shared(1.0),
) -> Delta:
    """Restore one task's model from the sum of all task vectors and that task's mask.

    What 2405.07813 compresses models with; *expert* is the number of the model, from 0.
    """
    vectors = [delta * value for delta, value in zip(deltas, weight, strict=True)]
    total = sum_of(vectors)
    return Delta(total * tall_mask(vectors[expert], total, tall_lambda[expert])).scaled(lambda_)
