"""The k-th largest magnitude of every model's difference, exact, in about one pass.

A sample of the elements brackets the threshold; one pass counts what lies above the bracket and
collects what lies within. Differences of bfloat16 numbers take few values, so a bracket may be one
value that a large part of the tensor has: then only its place among them is looked for. Where the
sample misled, histograms of all elements give the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from miscible.merge.engine.passes import ChunkInputs, Passes, scratch
from miscible.merge.kernels.constants import BINS, LARGEST_BITS
from miscible.merge.kernels.native import program

Array = np.ndarray[Any, Any]
SMALLEST_SHARE = 32
LARGEST_SAMPLE = 1 << 20
DEVIATIONS = 5.0
"""Half the width of the bracket, in standard deviations of the sampled rank."""
COLLECTED_SHARE = 16
"""At most one element in so many is collected."""
UPPER_SHIFT = 15


@dataclass(frozen=True, slots=True)
class Threshold:
    """The k-th largest magnitude.

    Attributes:
        bits: its float32 bits.
        last: index of the last element of this magnitude that is among the k largest, the lowest
            index first.
    """

    bits: int
    last: int


NOTHING = Threshold(LARGEST_BITS, -1)
EVERYTHING = Threshold(0, 2**62)


def kth_largest(passes: Passes, counts: Sequence[int]) -> list[Threshold]:
    """Return the threshold of every model but the base, for *counts* elements to keep of each.

    A count of 0 keeps nothing, one of all elements everything.
    """
    wanted = {m: int(count) for m, count in enumerate(counts, 1)}
    found = {m: NOTHING if k <= 0 else EVERYTHING for m, k in wanted.items()}
    left = {m: k for m, k in wanted.items() if 0 < k < passes.count}
    for brackets in (_sampled_brackets, _exact_brackets):
        if left:
            found |= _resolved(passes, left, brackets(passes, left))
            left = {m: k for m, k in left.items() if found[m] in (NOTHING, EVERYTHING)}
    return [found[m] for m in wanted]


def _sampled_brackets(passes: Passes, wanted: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    # The bits between which each threshold lies, most likely, from a share of every chunk.
    share = max(SMALLEST_SHARE, -(-passes.count // LARGEST_SAMPLE))
    parts = passes.over_chunks(
        lambda number, start, size, inputs: passes.values(inputs, -(-size // share)),
        share=share,
    )
    brackets = {}
    for m, k in wanted.items():
        sample = np.concatenate([part[m] for part in parts]).view(np.uint32) & LARGEST_BITS
        size, kept = sample.size, k / passes.count
        spread = DEVIATIONS * math.sqrt(kept * (1 - kept) * size) + 1
        ends = [
            size - 1 - min(max(int(rank), 0), size - 1)
            for rank in (kept * size + spread, kept * size - spread)
        ]
        low, high = np.partition(sample, ends)[ends]
        brackets[m] = (int(low), int(high) + 1)
    return brackets


def _exact_brackets(passes: Passes, wanted: Mapping[int, int]) -> dict[int, tuple[int, int]]:
    # The threshold itself, from two histograms: of the upper bits, and of the lower bits of what
    # lies in the bin that the first points to.
    low = np.zeros(passes.models, np.int64)
    upper = _histogram(passes, low, UPPER_SHIFT)
    ranks = dict(wanted)
    for m, k in wanted.items():
        place = _bin_at(upper[m], k)
        ranks[m] = k - int(upper[m][place + 1 :].sum())
        low[m] = place << UPPER_SHIFT
    lower = _histogram(passes, low, 0)
    brackets = {}
    for m in wanted:
        bits = int(low[m]) + _bin_at(lower[m][: 1 << UPPER_SHIFT], ranks[m])
        brackets[m] = (bits, bits + 1)
    return brackets


def _bin_at(bins: Array, rank: int) -> int:
    # The bin that holds the element of this rank, counted from 1 at the largest.
    above = np.cumsum(bins[::-1])
    place = int(np.searchsorted(above, rank, side="left"))
    return len(bins) - 1 - min(place, len(bins) - 1)


def _histogram(passes: Passes, low: Array, shift: int) -> Array:
    total = np.zeros((passes.models, BINS), np.int64)
    lock = Lock()

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        bins = np.zeros((passes.models, BINS), np.int64)
        status = program("histogram")(
            *passes.arguments(inputs), size, passes.rounding,
            scratch(passes.models).ctypes.data, low.ctypes.data, shift, bins.ctypes.data,
        )  # fmt: skip
        passes.check(status)
        with lock:  # whole numbers: the order does not matter
            np.add(total, bins, out=total)

    passes.over_chunks(run)
    return total


@dataclass(frozen=True, slots=True)
class _Collected:
    """Of one chunk: bits and places of what lies within each bracket, and how many there were."""

    bits: list[Array]
    places: list[Array]
    inside: Array
    above: Array


def _resolved(
    passes: Passes, wanted: Mapping[int, int], brackets: Mapping[int, tuple[int, int]]
) -> dict[int, Threshold]:
    low = np.full(passes.models, LARGEST_BITS, np.int64)
    high = low.copy()
    for m, (below, above) in brackets.items():
        low[m], high[m] = below, above
    # Of a bracket that is one value only the counts are used.
    counted = frozenset(np.flatnonzero(high - low == 1).tolist())
    parts = passes.over_chunks(
        lambda number, start, size, inputs: _collect(
            passes, low, high, start, size, inputs, size // COLLECTED_SHARE + 64, counted
        )
    )
    found: dict[int, Threshold] = {}
    for m, k in wanted.items():
        rank = k - sum(int(part.above[m]) for part in parts)  # within the bracket, from 1
        inside = np.array([part.inside[m] for part in parts])
        if not 1 <= rank <= inside.sum():
            continue
        if high[m] - low[m] == 1:
            found[m] = Threshold(int(low[m]), _place_of_tie(passes, m, rank, inside, low, high))
        elif all(part.inside[m] == len(part.bits[m]) for part in parts):
            bits = np.concatenate([part.bits[m] for part in parts])
            places = np.concatenate([part.places[m] for part in parts])
            threshold = int(np.partition(bits, bits.size - rank)[bits.size - rank])
            ties = rank - int((bits > threshold).sum())
            last = places[np.flatnonzero(bits == threshold)[ties - 1]]  # places ascend
            found[m] = Threshold(threshold, int(last))
    return found


def _place_of_tie(passes: Passes, m: int, rank: int, inside: Array, low: Array, high: Array) -> int:
    # The element that is the rank-th of its value lies in one chunk, which is looked through.
    before = np.cumsum(inside) - inside
    chunk = int(np.searchsorted(before, rank, side="left")) - 1
    part = passes.one_chunk(
        chunk,
        lambda number, start, size, inputs: _collect(passes, low, high, start, size, inputs, size),
    )
    return int(part.places[m][rank - int(before[chunk]) - 1])


def _collect(
    passes: Passes,
    low: Array,
    high: Array,
    start: int,
    size: int,
    inputs: ChunkInputs,
    room: int,
    counted: frozenset[int] = frozenset(),
) -> _Collected:
    models = passes.models
    bits, places = np.empty((models, room), np.uint32), np.empty((models, room), np.int64)
    inside, above = np.zeros(models, np.int64), np.zeros(models, np.int64)
    status = program("candidates")(
        *passes.arguments(inputs), size, passes.rounding, scratch(models).ctypes.data,
        low.ctypes.data, high.ctypes.data, start, bits.ctypes.data, places.ctypes.data, room,
        inside.ctypes.data, above.ctypes.data,
    )  # fmt: skip
    passes.check(status)
    held = np.minimum(inside, room)
    held[list(counted)] = 0
    return _Collected(
        [bits[m, : held[m]].copy() for m in range(models)],
        [places[m, : held[m]].copy() for m in range(models)],
        inside,
        above,
    )
