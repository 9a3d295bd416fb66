"""Doses measured on a sample while a merge is written.

Of every chunk one element in 32 is looked at, as it passes, so the sample is spread evenly over all
tensors; of small merges everything is.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np

from miscible.merge.engine.passes import Passes, scratch
from miscible.merge.engine.sources import CODES, OpenFiles, Source, width_of
from miscible.merge.inputs import Inputs
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
        return sum(parts, np.zeros((size, size)))

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
        # Rows of the chunk: the reference, the parents; the merge is put behind them.
        self._base = None if missing is not None else order.index(sample.reference)
        self._rows = [order.index(parent) for parent in sample.parents]
        self._code = code

    def __call__(
        self, passes: Passes, start: int, size: int, address: int, out: memoryview
    ) -> None:
        """Add the inner products of a share of the chunk."""
        taken = -(-size // self._sample.share)
        rows = [self._base, *self._rows]
        codes = [passes.codes[row] if row is not None else CODES["F32"] for row in rows]
        if self._missing is not None:
            codes[0] = self._missing.code
        widths = [width_of(int(code)) for code in (*codes, self._code)]
        stride = taken * 4
        held = np.empty((len(rows) + 1) * stride, np.uint8)
        whole = passes.bytes_at(address)
        for number, row in enumerate(rows):
            target = held[number * stride : number * stride + taken * widths[number]]
            if row is None:
                assert self._missing is not None
                self._missing.fill(start, target.data)
            else:
                begin = row * passes.stride
                target[:] = whole[begin : begin + len(target)]
        last = len(rows) * stride
        held[last : last + taken * widths[-1]] = np.frombuffer(out, np.uint8)[: taken * widths[-1]]
        models = len(rows) + 1
        all_codes = np.array([*codes, self._code], np.int64)
        gram = np.zeros((models, models))
        status = program("gram")(
            held.ctypes.data, stride, all_codes.ctypes.data, models, 1, taken, 0,
            scratch(models).ctypes.data, gram.ctypes.data,
        )  # fmt: skip
        if status == 0:
            order = [models - 1, *range(1, models - 1)]  # the merge first
            self._sample.add(self._name, start, gram[np.ix_(order, order)])
