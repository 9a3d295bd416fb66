"""Running the midpoint of every two models: virtual merges, of which nothing is written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TypeVar

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.measure.pair import MidpointPair
from miscible.measure.passes import Data, Runner, observe
from miscible.measure.trace import Trace
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint
from miscible.progress import task

D = TypeVar("D", bound=Data)


def run_midpoints(
    trace: Trace, models: Mapping[str, Checkpoint], runner: Runner[D], pieces: Sequence[D]
) -> dict[tuple[str, str], MidpointPair]:
    """Return what both lose at the midpoint, of every ordered pair that was traced without failure.

    One forward pass a pair: midpoints are virtual merges, of which nothing is written.

    Args:
        trace: of the same models on the same pieces, whose losses are used.
        models: checkpoints by name.
        runner: a model in memory of their architecture; it holds the last midpoint afterwards.
        pieces: those of the trace.

    Raises:
        MiscibleError: if the pieces are not those of the trace.
    """
    if [piece.key for piece in trace.pieces] != [data.key for data in pieces]:
        raise MiscibleError("the calibration data are not those that were traced.")
    sound = [name for name in trace.models if name not in trace.failures]
    pairs = list(combinations(sound, 2))
    found: dict[tuple[str, str], MidpointPair] = {}
    with task("midpoints", len(pairs)) as advance:
        for a, b in pairs:
            wanted = {name: _pieces_of(trace, name) for name in (a, b)}
            try:
                used = {p: pieces[p] for p in {*wanted[a], *wanted[b]}}
                runner.fill(_midpoint(models[a], models[b], runner, list(used.values())))
                middle = {
                    p: float(observe(runner, data, layers=()).losses.sum())
                    for p, data in used.items()
                }
                held = MidpointPair(
                    _half(trace, a, wanted[a], middle), _half(trace, b, wanted[b], middle)
                )
            except MiscibleError as error:
                held = MidpointPair(math.nan, math.nan, f"the midpoint cannot be run: {error}")
            found[a, b] = held
            found[b, a] = held.swapped
            advance(1)
    return found


def _midpoint(a: Checkpoint, b: Checkpoint, runner: Runner[D], pieces: Sequence[D]) -> Checkpoint:
    from miscible.merge.api import merge

    sources = [{"model": name, "parameters": {"weight": 0.5}} for name in ("first", "second")]
    recipe = {"merge_method": "linear", "models": sources, "dtype": "float32"}
    return merge(recipe, models={"first": a, "second": _fitted(b, a, runner, pieces)})


def _fitted(b: Checkpoint, a: Checkpoint, runner: Runner[D], pieces: Sequence[D]) -> Checkpoint:
    """Return *b* with the head of *a* where these differ in size and all data bring their own.

    Raises:
        IncompatibleModelsError: if tensors of different shape have to be averaged.
    """
    differing = [
        name for name, info in a.tensors.items()
        if name in b.tensors and b.tensors[name].shape != info.shape
    ]  # fmt: skip
    if not differing:
        return b
    body = runner.parameters(pieces)
    heads = {name for name, _ in runner.module.named_parameters() if name not in body}
    is_head = heads.issuperset(differing)
    if not is_head or not all(data.head for data in pieces):
        name = differing[0]
        raise IncompatibleModelsError(
            f"{name!r} is {list(a.tensors[name].shape)} in {a.name} and "
            f"{list(b.tensors[name].shape)} in {b.name}.",
            fix="Give each model data of its own: its head then classifies them."
            if is_head else None,
        )  # fmt: skip
    state = {name: (a if name in differing else b).read(name) for name in b.tensors}
    return MemoryCheckpoint(b.name, state, config=a.config, folder=b.folder)


def _pieces_of(trace: Trace, name: str) -> list[int]:
    own = [p for p, piece in enumerate(trace.pieces) if piece.owner == name]
    return own or list(range(len(trace.pieces)))


def _half(trace: Trace, name: str, pieces: Sequence[int], middle: Mapping[int, float]) -> float:
    sizes = [trace.pieces[p].predictions for p in pieces]
    place = trace.models.index(name)
    own = sum(trace.loss[place, p] * size for p, size in zip(pieces, sizes, strict=True))
    return (sum(middle[p] for p in pieces) - float(own)) / sum(sizes)
