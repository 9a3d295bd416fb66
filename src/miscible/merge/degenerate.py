"""Merges that are legal and yet not what their recipe looks like."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

from miscible.merge.contract import Base, MergeMethod
from miscible.merge.recipe import Recipe
from miscible.models.checkpoint import Checkpoint

SameWeights: TypeAlias = Callable[[Checkpoint, Checkpoint], bool]


def degeneracies(
    recipe: Recipe,
    method: MergeMethod,
    models: Mapping[str, Checkpoint],
    same: SameWeights | None = None,
) -> Iterator[str]:
    """Yield a sentence for everything that leaves a method on task vectors fewer of them.

    A recipe may list its base among its models, as mergekit's do. Another reference with the
    base's weights is a task vector of zeros that the recipe's author did not know of.
    """
    same = same or _same_fingerprint
    base = recipe.base_model
    if method.base not in (Base.ORIGIN, Base.OPTIONAL) or base is None:
        return
    listed = list(dict.fromkeys(source.model for source in recipe.sources()))
    others = [reference for reference in listed if reference != base]
    zero = [r for r in others if same(models[r], models[base])]
    left = [reference for reference in others if reference not in zero]
    rest = _what_is_left(method, left)
    for reference in zero:
        yield (
            f"{models[reference].name} has the weights of the base {models[base].name}: its task "
            f"vector is zero, {rest}."
        )
    if base in listed and not zero and len(left) < 2:
        yield (
            f"the recipe lists its base {models[base].name} among its models; the base has no task "
            f"vector, {rest}."
        )


def _what_is_left(method: MergeMethod, left: list[str]) -> str:
    if not left:
        return "and the merge is the base itself"
    if len(left) == 1:
        return f"and {method.name} only scales or trims the task vector of the one other model"
    return f"and {method.name} merges the {len(left)} others alone"


def _same_fingerprint(one: Checkpoint, other: Checkpoint) -> bool:
    return one.fingerprint == other.fingerprint
