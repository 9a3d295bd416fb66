"""Carrying out what was written down: a formula, after the passes that it needs, or steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from miscible.merge.engine.elements import Steps
from miscible.merge.engine.passes import ChunkInputs, Passes, Write, scratch
from miscible.merge.engine.ranks import rank_masks
from miscible.merge.engine.streamed import Formula
from miscible.merge.engine.thresholds import Threshold, kth_largest
from miscible.merge.kernels.constants import (
    KEEP_ALL,
    KEEP_BAND,
    KEEP_LARGEST,
    KEEP_MASK,
    KEEP_RANDOM,
    SETTINGS,
    SIGNS,
    SUM,
)
from miscible.merge.kernels.native import program
from miscible.merge.ops.random import RANGE
from miscible.merge.ops.sparsify import (
    KeepAll,
    KeepAtRandom,
    KeepBand,
    KeepByRank,
    KeepLargest,
    Sparsifier,
)

Array = np.ndarray[Any, Any]
DTYPES = {0: "float32", 1: "bfloat16", 2: "float16"}


class Plan:
    """What the sparsifiers of a formula come to: kinds, settings, and factors by model."""

    def __init__(self, passes: Passes, formula: Formula) -> None:
        models = passes.models
        self.kinds = np.full(models, KEEP_ALL, np.int64)
        self.settings = np.zeros((models, SETTINGS), np.int64)
        self.ratios = np.ones(models)
        self.masks: dict[int, Array] = {}
        if formula.sparsifiers is not None:
            self._settle(passes, formula)
            if formula.rescale:
                self.ratios = self._l1_ratios(passes)

    def _settle(self, passes: Passes, formula: Formula) -> None:
        sparsifiers = (KeepAll(), *(formula.sparsifiers or ()))
        lower = [_kept(s, passes.count) for s in sparsifiers[1:]]
        upper = [_dropped(s, passes.count) for s in sparsifiers[1:]]
        edges = _thresholds(passes, sparsifiers[1:], lower)
        tops = _thresholds(passes, sparsifiers[1:], upper) if any(upper) else None
        for m, sparsifier in enumerate(sparsifiers):
            if isinstance(sparsifier, KeepLargest) and sparsifier.density < 1.0:
                self.kinds[m] = KEEP_LARGEST
                self.settings[m, :2] = edges[m - 1].bits, edges[m - 1].last
            elif isinstance(sparsifier, KeepBand):
                self.kinds[m] = KEEP_BAND
                top = Threshold(2**31 - 1, -1) if tops is None else tops[m - 1]
                self.settings[m] = edges[m - 1].bits, edges[m - 1].last, top.bits, top.last
            elif isinstance(sparsifier, KeepAtRandom):
                limit = round(sparsifier.density * RANGE)
                if limit < RANGE:  # where all words are below it, it does not fit 32 bits
                    self.kinds[m] = KEEP_RANDOM
                    self.settings[m, :3] = limit, *formula.random[m - 1].keys
        ranked = [
            (m, s)
            for m, s in enumerate(sparsifiers)
            if isinstance(s, KeepByRank) and s.density < 1.0
        ]
        if ranked:
            draws = {m: formula.random[m - 1].keys for m, _ in ranked}
            self.masks = rank_masks(passes, dict(ranked), draws)
            for m, mask in self.masks.items():
                self.kinds[m], self.settings[m, 0] = KEEP_MASK, mask.ctypes.data

    def _l1_ratios(self, passes: Passes) -> Array:
        models = passes.models

        def run(number: int, start: int, size: int, inputs: ChunkInputs) -> Array:
            sums = np.zeros(2 * models)
            passes.check(
                program("norms")(
                    *passes.arguments(inputs), size, passes.rounding,
                    scratch(models).ctypes.data, self.kinds.ctypes.data, self.settings.ctypes.data,
                    start, sums.ctypes.data,
                )
            )  # fmt: skip
            return sums

        whole, kept = sum(passes.over_chunks(run), np.zeros(2 * models)).reshape(2, models)
        return np.divide(whole, kept, out=np.ones(models), where=kept > 0)


def write_formula(passes: Passes, formula: Formula, code: int, write: Write) -> None:
    """Compute a formula chunk by chunk in the dtype *code* and hand the bytes to *write*."""
    first = int(passes.origin)
    weights = np.zeros(passes.models)
    weights[first : first + len(formula.weights)] = formula.weights
    if formula.sparsifiers is None and not formula.elected:
        _write_sum(passes, formula, weights, code, write)
    else:
        _write_consensus(passes, formula, weights, code, write)


def _write_sum(passes: Passes, formula: Formula, weights: Array, code: int, write: Write) -> None:
    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        out = passes.output(code, size)
        status = program("weighted_sum")(
            *passes.arguments(inputs), int(passes.origin), weights.ctypes.data, formula.scale,
            size, passes.rounding, scratch(passes.models).ctypes.data, out.ctypes.data, code,
        )  # fmt: skip
        if status:
            passes.values(inputs, size)  # tells an input that is not finite
        passes.check(status, DTYPES[code])
        passes.written(start, size, inputs, out.data, write)

    passes.last()
    passes.over_chunks(run)


def _write_consensus(
    passes: Passes, formula: Formula, weights: Array, code: int, write: Write
) -> None:
    plan = Plan(passes, formula)
    rule = SIGNS if formula.elected else SUM

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        out = passes.output(code, size)
        status = program("consensus")(
            *passes.arguments(inputs), size, passes.rounding, scratch(passes.models).ctypes.data,
            plan.kinds.ctypes.data, plan.settings.ctypes.data, start, plan.ratios.ctypes.data,
            weights.ctypes.data, rule, int(formula.normalize), formula.scale, out.ctypes.data, code,
        )  # fmt: skip
        passes.check(status, DTYPES[code])
        passes.written(start, size, inputs, out.data, write)

    passes.last()
    passes.over_chunks(run)


def write_elements(passes: Passes, steps: Steps, code: int, write: Write) -> None:
    """Do to every element what is written down; hand the bytes, in the dtype *code*, to *write*."""

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        out = passes.output(code, size)
        status = program("elements")(
            *passes.arguments(inputs), int(passes.origin), size, passes.rounding,
            scratch(steps.rows).ctypes.data, steps.constants.ctypes.data, len(steps.constants),
            steps.rows, steps.numbers.ctypes.data, len(steps.numbers), steps.result,
            out.ctypes.data, code,
        )  # fmt: skip
        passes.check(status, DTYPES[code])
        passes.written(start, size, inputs, out.data, write)

    passes.last()
    passes.over_chunks(run)


def _thresholds(
    passes: Passes, sparsifiers: Sequence[Sparsifier], counts: Sequence[int]
) -> list[Threshold]:
    if not any(isinstance(s, (KeepLargest, KeepBand)) for s in sparsifiers):
        return [Threshold(0, 0)] * len(sparsifiers)
    return kth_largest(passes, counts)


def _kept(sparsifier: Sparsifier, size: int) -> int:
    # Of the largest elements, how many lie above the lower edge.
    if isinstance(sparsifier, KeepLargest):
        density = sparsifier.density
        return size if density >= 1.0 else max(1, int(density * size)) if density > 0.0 else 0
    if isinstance(sparsifier, KeepBand):
        return sum(_band(sparsifier, size))
    return size


def _dropped(sparsifier: Sparsifier, size: int) -> int:
    # Of the largest elements, how many lie above the upper edge.
    return _band(sparsifier, size)[0] if isinstance(sparsifier, KeepBand) else 0


def _band(sparsifier: KeepBand, size: int) -> tuple[int, int]:
    kept = int(sparsifier.density * size)
    return min(int(sparsifier.gamma * size), size - kept), kept
