"""What running models gave, by layer or role."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from miscible.measure.calibrated import RunPairs
from miscible.measure.contract import By
from miscible.measure.scopes import BEFORE, renamed, same_stacks, scopes_of
from miscible.models.layout import Layout

if TYPE_CHECKING:
    from miscible.measure.passes import Runner
    from miscible.measure.trace import Trace


def run_scopes(
    held: Trace,
    runner: Runner[Any],
    layers: Sequence[int],
    tensors: Sequence[str],
    by: By,
    layout: Layout,
) -> dict[str, RunPairs]:
    """Return the gradients of each layer or role, and the states of each layer, of all pairs.

    Args:
        held: of the whole models, with the Grams of single parameters.
        runner: a model in memory of their architecture.
        layers: whose states were kept: that of whole models, then all in order.
        tensors: names of the base's tensors, after which layers are called.
    """
    sizes = {name: each.numel() for name, each in runner.module.named_parameters()}
    stacks = same_stacks(sizes, tensors, layout)
    found: dict[str, RunPairs] = {}
    for scope, names in scopes_of(sizes, by, layout).items():
        shared = [name for name in names if name in held.tensor_grams]
        if shared:
            share = sum(sizes[n] for n in shared) / sum(sizes[n] for n in names)
            pairs = held.of_parameters(shared, share).gradient_pairs()
            found[renamed(scope, stacks)] = RunPairs(gradients=pairs)
    if by == "layer" and layers:
        prefix = _stack(runner, layout)
        for place, layer in enumerate(layers[1:], 1):
            scope = BEFORE if layer == 0 else renamed(f"{prefix}{layer - 1}", stacks)
            pairs_of = held.activation_pairs(layer=place)
            found[scope] = replace(found.get(scope, RunPairs()), activations=pairs_of)
    return found


def _stack(runner: Runner[Any], layout: Layout) -> str:
    """Return what the parameters of the blocks whose states are taken begin with."""
    from miscible.models.blocks import stack_of_blocks

    blocks = stack_of_blocks(runner.module)[1]
    return next(f"{name}." for name, each in runner.module.named_modules() if each is blocks)
