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
from typing import Any

import numpy as np

from miscible.merge.engine.passes import Passes, scratch
from miscible.merge.kernels.constants import BINS, LARGEST_BITS
from miscible.merge.kernels.native import program

Array = np.ndarray[Any, Any]
SAMPLED_SHARE = 32
SMALLEST_SAMPLE = 1 << 13
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
    share = SAMPLED_SHARE if passes.count > SMALLEST_SAMPLE * SAMPLED_SHARE else 1
    while left:
        brackets = _brackets(passes, left, share)
        found |= _resolved(passes, left, brackets)
        left = {m: k for m, k in left.items() if found[m] in (NOTHING, EVERYTHING)}
        share = 1  # exact brackets are one value wide, and always resolve
    return [found[m] for m in wanted]


def _brackets(passes: Passes, wanted: Mapping[int, int], share: int) -> dict[int, tuple[int, int]]:
    # The bits between which each threshold lies, from two histograms: of the upper bits, and of all
    # the bits within the bins that the first points to.
    low = np.zeros(passes.models, np.int64)
    upper = _histogram(passes, low, UPPER_SHIFT, share)
    ranks: dict[int, tuple[float, float]] = {}
    for m, k in wanted.items():
        size = int(upper[m].sum())
        kept = k / passes.count
        spread = 0.0 if share == 1 else DEVIATIONS * math.sqrt(kept * (1 - kept) * size) + 1
        rank = k if share == 1 else kept * size
        ranks[m] = (max(rank - spread, 1), min(rank + spread, size))
    edges: dict[int, list[int]] = {m: [] for m in wanted}
    for end in (1, 0):  # the lower edge has the higher rank
        coarse = {m: _bin_at(upper[m], ranks[m][end]) for m in wanted}
        for m, place in coarse.items():
            low[m] = place << UPPER_SHIFT
        lower = _histogram(passes, low, 0, share)
        for m, place in coarse.items():
            beyond = int(upper[m][place + 1 :].sum())
            fine = lower[m][: 1 << UPPER_SHIFT]
            edges[m].append(int(low[m]) + _bin_at(fine, ranks[m][end] - beyond))
        if share == 1:  # both edges are the threshold itself
            return {m: (edge[0], edge[0] + 1) for m, edge in edges.items()}
    return {m: (below, above + 1) for m, (below, above) in edges.items()}


def _bin_at(bins: Array, rank: float) -> int:
    # The bin that holds the element of this rank, counted from 1 at the largest.
    above = np.cumsum(bins[::-1])
    place = int(np.searchsorted(above, rank, side="left"))
    return len(bins) - 1 - min(place, len(bins) - 1)


def _histogram(passes: Passes, low: Array, shift: int, share: int) -> Array:
    run_histogram = program("histogram")

    def run(number: int, start: int, size: int, address: int) -> Array:
        bins = np.zeros((passes.models, BINS), np.int64)
        status = run_histogram(
            *passes.arguments(address), -(-size // share), passes.rounding,
            scratch(passes.models).ctypes.data, low.ctypes.data, shift, bins.ctypes.data,
        )  # fmt: skip
        passes.check(status)
        return bins

    total = np.zeros((passes.models, BINS), np.int64)
    for bins in passes.over_chunks(run, share=share):
        total += bins
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
    parts = passes.over_chunks(
        lambda number, start, size, address: _collect(
            passes, low, high, start, size, address, size // COLLECTED_SHARE + 64
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
        lambda number, start, size, address: _collect(
            passes, low, high, start, size, address, size
        ),
    )
    return int(part.places[m][rank - int(before[chunk]) - 1])


def _collect(
    passes: Passes, low: Array, high: Array, start: int, size: int, address: int, room: int
) -> _Collected:
    models = passes.models
    bits, places = np.empty((models, room), np.uint32), np.empty((models, room), np.int64)
    inside, above = np.zeros(models, np.int64), np.zeros(models, np.int64)
    status = program("candidates")(
        *passes.arguments(address), size, passes.rounding, scratch(models).ctypes.data,
        low.ctypes.data, high.ctypes.data, start, bits.ctypes.data, places.ctypes.data, room,
        inside.ctypes.data, above.ctypes.data,
    )  # fmt: skip
    passes.check(status)
    held = np.minimum(inside, room)
    return _Collected(
        [bits[m, : held[m]].copy() for m in range(models)],
        [places[m, : held[m]].copy() for m in range(models)],
        inside,
        above,
    )
