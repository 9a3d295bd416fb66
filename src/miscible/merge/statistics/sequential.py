"""RegMean++: Gram matrices of each layer's inputs as the merged layers before it make them.

In RegMean (2212.09849) the inputs of layer l of model i come from model i's own layers; in
RegMean++ (2508.03121) from the merged ones, X_i^(l) = f_M^(l-1)(X_i^(l-1)). Within a layer the
linear maps of model i see what model i makes of X_i^(l). Layers are therefore merged in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import torch
from torch import nn

from miscible.errors import IncompatibleModelsError
from miscible.merge.statistics.collect import Batch, call, mask_of
from miscible.merge.statistics.hook import GramHook, linear_layers, named_stack
from miscible.models.layout import place_of, stack_sizes
from miscible.progress import task

Reader: TypeAlias = Callable[[str], torch.Tensor]
"""Returns a model's tensor by its name."""
Merge: TypeAlias = Callable[
    [str, Sequence[torch.Tensor], Sequence[torch.Tensor | None]], torch.Tensor
]
"""Merges one tensor: its name, a tensor a model, a Gram a model (None without one)."""


def collect_sequential(
    model: nn.Module,
    readers: Sequence[Reader],
    batches: Sequence[Sequence[Batch]],
    merge: Merge,
) -> list[dict[str, torch.Tensor]]:
    """Return each model's Gram matrices by the definition of RegMean++.

    Merging the models by *merge* with these matrices gives RegMean++. Linear layers behind the
    stack of layers (an output head) see what the whole merged model makes; tensors before it have
    no matrix, so that the inputs of the first layer are those of the final merge.

    Args:
        model: the architecture; its weights are overwritten, in the end by the merge.
        readers: one a model.
        batches: calibration batches, a list a model.
        merge: the merging method, the same one that will be used with the result.

    Raises:
        IncompatibleModelsError: if the model is not one stack of layers, each of which takes what
            the one before it returns, or a tensor has another shape.
    """
    prefix = _stack(model)
    layers = named_stack(model, prefix)
    targets = _targets(model)
    inside = {name for name in targets if place_of(name).stack == prefix}
    found: list[dict[str, torch.Tensor]] = [{} for _ in readers]

    def put(name: str, tensor: torch.Tensor) -> None:
        if tensor.shape != targets[name].shape:
            raise IncompatibleModelsError(
                f"tensor {name!r} has shape {tuple(tensor.shape)}, the architecture needs "
                f"{tuple(targets[name].shape)}.",
                fix="Layer by layer needs models of the same architecture and vocabulary.",
            )
        targets[name].copy_(tensor)

    def fill(names: Sequence[str]) -> None:
        for name in names:
            grams = [held.get(name) for held in found]
            put(name, merge(name, [read(name) for read in readers], grams))

    steps = len(layers) + 2
    with torch.no_grad(), task("collect Gram matrices layer by layer", steps) as advance:
        fill([name for name in targets if name not in inside])
        streams = [[_Stream.record(model, layers, batch) for batch in own] for own in batches]
        advance(1)
        for number, (begin, layer) in enumerate(layers):
            own = [name for name in inside if name.startswith(begin)]
            for grams, read, stream in zip(found, readers, streams, strict=True):
                for name in own:
                    put(name, read(name))
                hook = GramHook(model, own)
                with hook.watching():
                    for batch in stream:
                        hook.mask = batch.mask
                        batch.run(layer, number)
                grams |= hook.grams()
            fill(own)
            for stream in streams:
                for batch in stream:
                    batch.hidden = batch.run(layer, number)
            advance(1)
        for grams, batches_of_one in zip(found, batches, strict=True):
            grams |= _behind(model, layers[-1][1], batches_of_one, inside)
        fill([name for name in linear_layers(model) if name not in inside])
        advance(1)
    return found


@dataclass(slots=True)
class _Stream:
    """A batch on its way through the layers.

    Attributes:
        hidden: what the next layer receives.
        arguments: what each layer receives besides (masks, positions), the same at any weights.
        mask: see `GramHook`.
    """

    hidden: torch.Tensor
    arguments: list[tuple[tuple[Any, ...], Mapping[str, Any]]]
    mask: torch.Tensor | None

    @classmethod
    def record(
        cls, model: nn.Module, layers: Sequence[tuple[str, nn.Module]], batch: Batch
    ) -> _Stream:
        seen: list[tuple[torch.Tensor, tuple[tuple[Any, ...], Mapping[str, Any]], Any]] = []

        def observe(
            module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
        ) -> None:
            if not args or not isinstance(args[0], torch.Tensor):
                raise _unchained("takes no tensor as its first argument")
            seen.append((args[0], (args[1:], kwargs), output))

        handles = [layer.register_forward_hook(observe, with_kwargs=True) for _, layer in layers]
        try:
            call(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        if len(seen) != len(layers):
            raise _unchained("runs a number of times other than once")
        for (_, _, made), (taken, _, _) in pairwise(seen):
            if not _first(made).equal(taken):
                raise _unchained("receives something else than the layer before it returns")
        return cls(seen[0][0], [arguments for _, arguments, _ in seen], mask_of(batch))

    def run(self, layer: nn.Module, number: int) -> torch.Tensor:
        positional, named = self.arguments[number]
        return _first(layer(self.hidden, *positional, **named))


def _behind(
    model: nn.Module, last: nn.Module, batches: Sequence[Batch], inside: set[str]
) -> dict[str, torch.Tensor]:
    # Linear layers outside of the stack that run after its last layer.
    outside = {name: layer for name, layer in linear_layers(model).items() if name not in inside}
    before: set[str] = set()
    passed = False

    def pass_by(*_: Any) -> None:
        nonlocal passed
        passed = True

    def note(name: str) -> Any:
        return lambda *_: None if passed else before.add(name)

    handles = [last.register_forward_hook(pass_by)]
    handles += [layer.register_forward_pre_hook(note(name)) for name, layer in outside.items()]
    hook = GramHook(model, set(outside))
    try:
        with hook.watching():
            for batch in batches:
                passed, hook.mask = False, mask_of(batch)
                call(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: gram for name, gram in hook.grams().items() if name not in before}


def _stack(model: nn.Module) -> str:
    names = [name for name, _ in model.named_parameters()]
    stacks = list(stack_sizes(names))
    if len(stacks) != 1:
        raise IncompatibleModelsError(
            f"layer by layer needs a model with one stack of layers, this one has {len(stacks)}."
        )
    return stacks[0]


def _targets(model: nn.Module) -> dict[str, torch.Tensor]:
    kept = model.state_dict()
    buffers = {name: held for name, held in model.named_buffers() if name in kept}
    targets = dict(model.named_parameters()) | buffers
    return {name: held for name, held in targets.items() if held.is_floating_point()}


def _first(output: Any) -> torch.Tensor:
    found = output[0] if isinstance(output, tuple) else output
    if not isinstance(found, torch.Tensor):
        raise _unchained("returns no tensor")
    return found


def _unchained(how: str) -> IncompatibleModelsError:
    return IncompatibleModelsError(
        f"layer by layer needs layers that feed into each other, and one here {how}.",
        fix="Collect the statistics without --sequential.",
    )
