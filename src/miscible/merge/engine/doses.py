"""Doses measured on a sample while a merge is written.

Of every chunk one element in 32 is looked at, as it passes, so the sample is spread evenly over all
tensors; of small merges everything is.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from miscible.merge.engine.passes import IN_MEMORY, ChunkInputs, Passes, scratch
from miscible.merge.engine.sources import OpenFiles, Source, width_of
from miscible.merge.inputs import Inputs
from miscible.merge.kernels.constants import DELTA, F32
from miscible.merge.kernels.native import program
from miscible.merge.plan import Input, Output

Array = np.ndarray[Any, Any]
SAMPLED_SHARE = 32
WHOLE_BELOW = 1 << 24
"""Merges of fewer elements are looked at whole."""


class DoseSample:
    """Inner products of the merge's and the parents' differences from a reference model.

    Args:
        inputs: of the merge.
        reference: reference of the model from which differences are counted.
        parents: references of the others.
        share: one element in so many is looked at.
        files: from which the reference is read where it is not among the inputs.
    """

    def __init__(
        self,
        inputs: Inputs,
        reference: str,
        parents: Sequence[str],
        share: int,
        files: OpenFiles,
    ) -> None:
        self._inputs, self._reference, self._parents = inputs, reference, list(parents)
        self._share, self._files = share, files
        self._parts: dict[tuple[str, int], Array] = {}
        self._lock = Lock()

    def of(self, output: Output, code: int) -> _Watch | None:
        """Return what watches one output, None if not every parent has a part in it."""
        named = {i.model: i for i in output.named}
        if any(parent not in named for parent in self._parents):
            return None
        missing = None
        if self._reference not in named:
            tensors = self._inputs.models[self._reference].tensors
            found = Input(self._reference, output.name)
            if output.name not in tensors or self._inputs.is_aligned(found):
                return None
            if tensors[output.name].shape != self._inputs.shape(output.named[0]):
                return None  # with slices, another layer of that number
            missing = self._inputs.source(found, None, output, self._files)
        return _Watch(self, output, missing, code)

    def gram_of(self, tensors: Sequence[str]) -> Array:
        """Return the inner products over some tensors: [1 + parents, 1 + parents], merge first."""
        size, wanted = 1 + len(self._parents), set(tensors)
        parts = [self._parts[key] for key in sorted(self._parts) if key[0] in wanted]
        gram = sum(parts, np.zeros((size + 1, size + 1)))  # the reference, the parents, the merge
        order = [size, *range(1, size)]
        return gram[np.ix_(order, order)]

    def add(self, tensor: str, start: int, gram: Array) -> None:
        """Add what was found in one chunk."""
        with self._lock:
            self._parts[tensor, start] = gram

    @property
    def share(self) -> int:
        return self._share

    @property
    def reference(self) -> str:
        return self._reference

    @property
    def parents(self) -> list[str]:
        return self._parents


class _Watch:
    """Sees the chunks of one output."""

    def __init__(
        self, sample: DoseSample, output: Output, missing: Source | None, code: int
    ) -> None:
        self._sample, self._name, self._missing = sample, output.name, missing
        first = () if output.origin is None else (output.origin,)
        order = [i.model for i in (*first, *output.inputs)]
        # Rows of the sample: the reference, the parents; the merge is put behind them.
        self._base = None if missing is not None else order.index(sample.reference)
        self._rows = [order.index(parent) for parent in sample.parents]
        self._code = code

    def __call__(
        self, passes: Passes, start: int, size: int, inputs: ChunkInputs, out: memoryview
    ) -> None:
        """Add the inner products of a share of the chunk."""
        taken = -(-size // self._sample.share)
        stored = passes.stored(inputs, taken)
        if stored is None:
            return
        held = np.empty((len(self._rows) + 2, taken), np.float32)
        held[1:-1] = stored[self._rows]
        codes = np.full(len(held), F32, np.int64)
        codes[1:-1] |= passes.codes[self._rows] & DELTA
        merged = held[-1].view(np.uint8)[: taken * width_of(self._code)]
        merged[:] = np.frombuffer(out, np.uint8)[: len(merged)]
        codes[-1] = self._code
        if self._missing is None:
            held[0] = stored[self._base]
        else:
            reference = held[0].view(np.uint8)[: taken * width_of(self._missing.code)]
            self._missing.fill(start, reference.data)
            codes[0] = self._missing.code
        files = np.array([taken, *[IN_MEMORY, 0] * len(held)], np.int64)
        gram = np.zeros((len(held), len(held)))
        status = program("gram")(
            held.ctypes.data, held.strides[0], files.ctypes.data, codes.ctypes.data, len(held),
            1, taken, 0, scratch(len(held)).ctypes.data, gram.ctypes.data,
        )  # fmt: skip
        if status == 0:
            self._sample.add(self._name, start, gram)
