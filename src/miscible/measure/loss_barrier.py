"""Loss barrier: what two models lose when they meet halfway (1912.05671, section 2).

With m the mean of both models' weights and L the mean loss, the half of model a is L_a(m) - L_a(a),
and the barrier is the mean of both halves. L_a is the loss on a's own data where models came with
data of their own, else that on the data of all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from miscible.errors import MiscibleError
from miscible.measure.contract import Pair, Value, metric
from miscible.measure.pair import ActivationPair
from miscible.measure.trace import Trace
from miscible.models.checkpoint import Checkpoint
from miscible.progress import task

if TYPE_CHECKING:
    from miscible.measure.passes import Data, Runner

D = TypeVar("D", bound="Data")
NAME = "loss_barrier"


@dataclass(frozen=True, slots=True)
class LossBarrier:
    """What two models lose at their midpoint, in nats a prediction.

    Attributes:
        half_a, half_b: what each loses on its data; negative where the midpoint is better. NaN if
            the midpoint could not be had.
        reason: why not, as a sentence.
    """

    half_a: float
    half_b: float
    reason: str = ""

    @property
    def barrier(self) -> float:
        """Mean of both halves."""
        return (self.half_a + self.half_b) / 2


def loss_barriers(
    trace: Trace, models: Mapping[str, Checkpoint], runner: Runner[D], pieces: Sequence[D]
) -> dict[tuple[str, str], LossBarrier]:
    """Return the barrier of every ordered pair that was traced without failure.

    One forward pass a pair: midpoints are virtual merges, of which nothing is written.

    Args:
        trace: of the same models on the same pieces, whose losses are used.
        models: checkpoints by name.
        runner: a model in memory of their architecture; it holds the last midpoint afterwards.
        pieces: those of the trace.

    Raises:
        MiscibleError: if the pieces are not those of the trace.
    """
    from miscible.measure.passes import observe

    if [piece.key for piece in trace.pieces] != [data.key for data in pieces]:
        raise MiscibleError("the calibration data are not those that were traced.")
    sound = [name for name in trace.models if name not in trace.failures]
    pairs = list(combinations(sound, 2))
    found: dict[tuple[str, str], LossBarrier] = {}
    with task("loss barriers", len(pairs)) as advance:
        for a, b in pairs:
            wanted = {name: _pieces_of(trace, name) for name in (a, b)}
            try:
                runner.fill(_midpoint(models[a], models[b]))
                middle = {
                    p: float(observe(runner, pieces[p], layers=()).losses.sum())
                    for p in {*wanted[a], *wanted[b]}
                }
                held = LossBarrier(
                    _half(trace, a, wanted[a], middle), _half(trace, b, wanted[b], middle)
                )
            except MiscibleError as error:
                held = LossBarrier(math.nan, math.nan, str(error))
            found[a, b] = held
            found[b, a] = LossBarrier(held.half_b, held.half_a, held.reason)
            advance(1)
    return found


def with_barriers(
    pairs: Mapping[tuple[str, str], ActivationPair],
    barriers: Mapping[tuple[str, str], LossBarrier],
) -> dict[tuple[str, str], ActivationPair]:
    """Return *pairs* with the barriers in them, so that the metrics find them."""
    return {
        key: replace(pair, more={**pair.more, NAME: np.array([held.half_a, held.half_b])})
        if (held := barriers.get(key)) is not None
        else pair
        for key, pair in pairs.items()
    }


@metric("loss_barrier", category="loss", needs="activations")
def loss_barrier(pair: Pair) -> float | Value:
    """Loss at the midpoint of both models above the mean of their own losses, in nats."""
    return _value(pair, (0.5, 0.5))


@metric("loss_barrier_first", category="loss", needs="activations", symmetric=False)
def loss_barrier_first(pair: Pair) -> float | Value:
    """Loss at the midpoint above that of the pair's first model, in nats."""
    return _value(pair, (1.0, 0.0))


def _value(pair: Pair, weights: tuple[float, float]) -> float | Value:
    assert pair.activations is not None, "the contract asks for it"
    halves = pair.activations.more.get(NAME)
    if halves is None:
        return Value(math.nan, "excluded", "no midpoint was run.", 0.0)
    if not np.isfinite(halves).all():
        return Value(math.nan, "failed", "the midpoint of the two models cannot be run.", 0.0)
    return float(weights[0] * halves[0] + weights[1] * halves[1])


def _midpoint(a: Checkpoint, b: Checkpoint) -> Checkpoint:
    from miscible.merge.api import merge

    sources = [{"model": name, "parameters": {"weight": 0.5}} for name in ("first", "second")]
    recipe = {"merge_method": "linear", "models": sources, "dtype": "float32"}
    return merge(recipe, models={"first": a, "second": b})


def _pieces_of(trace: Trace, name: str) -> list[int]:
    own = [p for p, piece in enumerate(trace.pieces) if piece.owner == name]
    return own or list(range(len(trace.pieces)))


def _half(trace: Trace, name: str, pieces: Sequence[int], middle: Mapping[int, float]) -> float:
    sizes = [trace.pieces[p].predictions for p in pieces]
    place = trace.models.index(name)
    own = sum(trace.loss[place, p] * size for p, size in zip(pieces, sizes, strict=True))
    return (sum(middle[p] for p in pieces) - float(own)) / sum(sizes)
