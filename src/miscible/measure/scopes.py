"""Layers and roles: into what a model is divided where metrics are asked for by part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from miscible.errors import MiscibleError, did_you_mean
from miscible.measure.contract import By
from miscible.models.layout import Layout

BEFORE, AFTER = "before the layers", "after the layers"


def scope_of(name: str, by: By, layout: Layout) -> str:
    """Return the part of the model to which a tensor belongs.

    Layers are called as in the tensors' names (``model.layers.3``).
    """
    place = layout.place_of(name)
    if by == "role":
        return place.role
    if place.stack is None:
        return BEFORE if place.first else AFTER
    return f"{place.stack}{place.index}"


def scopes_of(names: Iterable[str], by: By, layout: Layout) -> dict[str, list[str]]:
    """Return the tensors of each part, in the order of the model.

    Raises:
        MiscibleError: if *by* is neither ``layer`` nor ``role``.
    """
    if by not in ("layer", "role"):
        raise MiscibleError(
            f"a model has no parts by {by!r}.", fix=did_you_mean(str(by), ("layer", "role"))
        )
    held = list(names)
    sizes = layout.stack_sizes(held)
    found: dict[str, list[str]] = {BEFORE: []} if by == "layer" else {}
    if by == "layer":
        for stack, size in sizes.items():
            found |= {f"{stack}{index}": [] for index in range(size)}
    for name in held:
        found.setdefault(scope_of(name, by, layout), []).append(name)
    return {scope: members for scope, members in found.items() if members}


def same_stacks(names: Iterable[str], others: Iterable[str], layout: Layout) -> dict[str, str]:
    """Return what the stacks of layers in *names* are called in *others*.

    Libraries name the tensors of a file otherwise than those of the module that it becomes. Stacks
    of one name are the same, and so are two that are the only ones of their number of layers.
    """
    here, there = layout.stack_sizes(list(names)), layout.stack_sizes(list(others))
    found = {stack: stack for stack in here if stack in there}
    for stack, size in here.items():
        alone = [s for s, n in here.items() if n == size] == [stack]
        matching = [s for s, n in there.items() if n == size and s not in found]
        if stack not in found and alone and len(matching) == 1:
            found[stack] = matching[0]
    return found


def renamed(scope: str, stacks: Mapping[str, str]) -> str:
    """Return what a layer is called where its stack has another name."""
    for stack, other in stacks.items():
        if scope.startswith(stack) and scope.removeprefix(stack).isdigit():
            return other + scope.removeprefix(stack)
    return scope
