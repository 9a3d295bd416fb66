"""What merging one tensor will read and run, found out without reading it.

A method that is streamed is run on a tensor of which only shapes and dtypes are known. What it asks
for is written down; what it is told of the inner products is what fine-tunes of one model look
like.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from miscible.errors import MiscibleError
from miscible.merge.contract import Context
from miscible.merge.dense import wrapped
from miscible.merge.engine.passes import Passes, Pool
from miscible.merge.engine.sources import CODES, Source
from miscible.merge.engine.streamed import (
    Formula,
    StreamedDelta,
    StreamedDeltas,
    StreamedWeight,
    StreamedWeights,
)
from miscible.merge.engine.tensor import steps_of
from miscible.merge.kernels.constants import DELTA, F32
from miscible.merge.ops.random import ElementRandom
from miscible.merge.ops.sparsify import KeepAtRandom, KeepBand, KeepByRank, KeepLargest
from miscible.models.adapted import AdaptedCheckpoint

if TYPE_CHECKING:
    from miscible.merge.plan import Output
    from miscible.merge.virtual import VirtualCheckpoint

Array = np.ndarray[Any, Any]
LIKENESS = 0.1
"""Cosine that task vectors are taken to have; only numbers that no cost depends on follow."""


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """What a streamed tensor will cost.

    Attributes:
        passes: over its inputs, with the chunks that the engine will use.
        kinds: of work, one for each pass over all elements (see `miscible.merge.engine.rates`).
        thresholds: number of searches for magnitudes.
        masked: models of which a mask of a bit an element is held.
        whole: bytes of inputs that are held in memory as a whole.
        computed: whether an input is computed, with torch.
    """

    passes: Told
    kinds: tuple[str, ...]
    thresholds: int
    masked: int
    whole: int
    computed: bool


def rehearse(merge: VirtualCheckpoint, output: Output, pool: Pool | None) -> Rehearsed:
    """Return what merging an output chunk by chunk would take.

    Args:
        merge: of which headers alone are read.
        output: one that can be streamed.
        pool: where the engine would give it one; it is not used.
    """
    named = output.inputs if output.origin is None else (output.origin, *output.inputs)
    sources, whole, computed = [], 0, False
    for number, source in enumerate(named):
        model = merge.models[source.model]
        place, code = model.extent(source.tensor), F32
        if merge.inputs.is_aligned(source):
            computed = True
        elif place is not None and place[1].info.dtype in CODES:
            code = CODES[place[1].info.dtype]
        elif isinstance(model, AdaptedCheckpoint) and output.origin is not None and number:
            code, computed = F32 | DELTA, True
        else:
            computed = True
            whole += 4 * model.tensors[source.tensor].size
        sources.append(_Unread(code))
    shape = merge.inputs.shape(named[0])
    passes = Told(output.name, sources, shape, origin=output.origin is not None, pool=pool)
    if not passes.count:
        return Rehearsed(passes, (), 0, 0, 0, computed)
    if not output.method.can_stream(output.values):
        kind = "values" if steps_of(output, _context(output)) is None else "elements"
        return Rehearsed(passes, (kind,), 0, 0, whole, computed)
    try:
        formula = _formula(output, passes)
    except (MiscibleError, ArithmeticError):  # what it was told does not suit it
        return Rehearsed(passes, ("gram", "sum"), 0, 0, whole, computed)
    kinds, thresholds, masked = _steps(formula, passes.count)
    return Rehearsed(passes, ("gram",) * passes.asked + kinds, thresholds, masked, whole, computed)


class _Unread:
    # A source that is not read.
    def __init__(self, code: int) -> None:
        self.model = self.tensor = ""
        self.code = code

    def fill(self, start: int, buffer: memoryview) -> None:
        raise AssertionError("a rehearsal reads nothing")


class Told(Passes):
    """Passes over nothing, whose inner products are told."""

    def __init__(
        self,
        tensor: str,
        sources: Sequence[Source],
        shape: Sequence[int],
        *,
        origin: bool,
        pool: Pool | None,
    ) -> None:
        super().__init__(tensor, sources, shape, origin=origin, pool=pool)
        self.asked = 0

    @property
    def held(self) -> bool:
        """Whether what is read once stays in memory."""
        return self._held

    def gram(self) -> Array:
        """Return inner products of vectors of equal length that are LIKENESS alike."""
        self.asked += 1
        models = self.models - int(self.origin)
        return np.full((models, models), LIKENESS) + (1.0 - LIKENESS) * np.eye(models)


def _formula(output: Output, passes: Told) -> Formula:
    context = _context(output)
    if output.origin is None:
        result = output.method(StreamedWeights(passes), output.values, context)
    else:
        result = wrapped(output, context)(StreamedDeltas(passes))
    assert isinstance(result, (StreamedWeight, StreamedDelta))
    return result.formula


def _context(output: Output) -> Context:
    random = tuple(ElementRandom(0, i.model, output.name) for i in output.inputs)
    return Context(output.site, random)


def _steps(formula: Formula, count: int) -> tuple[tuple[str, ...], int, int]:
    sparsifiers = formula.sparsifiers or ()
    if formula.sparsifiers is None and not formula.elected:
        return ("sum",), 0, 0
    # Of what is kept whole, or not at all, no threshold is looked for.
    searches = any(isinstance(s, KeepLargest) and 0.0 < s.density < 1.0 for s in sparsifiers)
    bands = [s for s in sparsifiers if isinstance(s, KeepBand)]
    lower = any(s.density + s.gamma < 1.0 and int(s.density * count) for s in bands)
    upper = any(int(s.gamma * count) and s.density < 1.0 for s in bands)
    thresholds = int(searches or lower) + int(upper)
    masked = sum(isinstance(s, KeepByRank) and s.density < 1.0 for s in sparsifiers)
    kinds = ("largest",) * thresholds + (("ranks",) if masked else ())
    kinds += ("norms",) if formula.rescale else ()
    drawn = any(isinstance(s, KeepAtRandom) for s in sparsifiers)
    return (*kinds, "random" if drawn else "consensus"), thresholds, masked
