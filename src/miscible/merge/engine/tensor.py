"""One output tensor from its inputs to its bytes, streamed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from miscible.merge.contract import Context, Deltas, Weights
from miscible.merge.dense import wrapped
from miscible.merge.engine.elements import Steps, written_down
from miscible.merge.engine.execute import write_elements, write_formula
from miscible.merge.engine.passes import ChunkInputs, Passes, Pool, Seen, Write
from miscible.merge.engine.sources import CODES, OpenFiles, width_of
from miscible.merge.engine.streamed import (
    Formula,
    StreamedDelta,
    StreamedDeltas,
    StreamedWeight,
    StreamedWeights,
)
from miscible.merge.inputs import Inputs, does_not_fit
from miscible.merge.plan import Output

if TYPE_CHECKING:
    import torch

STREAMED = frozenset(CODES)
SLICE = 1 << 16
"""Elements that a method which looks at each alone, in torch, is given at a time."""


def can_stream(inputs: Inputs, output: Output) -> bool:
    """Return whether an output is merged chunk by chunk: its method and all dtypes allow it."""
    method = output.method
    if inputs.device != "cpu" or inputs.dtype == "float64":
        return False
    if not (method.can_stream(output.values) or method.is_elementwise(output.values)):
        return False
    if method.needs is not None or not all(w.streams for w, _ in output.wrappers):
        return False
    return all(inputs.models[i.model].tensors[i.tensor].dtype in STREAMED for i in output.named)


def stream_tensor(
    inputs: Inputs,
    output: Output,
    context: Context,
    dtype: str,
    files: OpenFiles,
    write: Write,
    *,
    pool: Pool | None = None,
    seen: Seen | None = None,
) -> None:
    """Merge one tensor and hand its bytes, in *dtype* (``BF16``), to *write* chunk by chunk.

    Raises:
        MiscibleError: if an input holds NaN or infinity, or the result does not fit the dtype.
    """
    passes = _passes(inputs, output, files, pool=pool, seen=seen)
    if not passes.count:
        return
    if output.method.can_stream(output.values):
        write_formula(passes, _formula(passes, output, context), CODES[dtype], write)
    elif (steps := steps_of(output, context)) is not None:
        write_elements(passes, steps, CODES[dtype], write)
    else:
        _write_in_torch(passes, output, context, CODES[dtype], write)


def steps_of(output: Output, context: Context) -> Steps | None:
    """Return what an element-wise method does to an element, None where it has to run in torch."""
    return written_down(partial(_merged, output, context), len(output.named))


def formula_of(inputs: Inputs, output: Output, context: Context) -> Formula | None:
    """Return what would be computed, None where the method has no formula; reads what it asks."""
    if not output.method.can_stream(output.values):
        return None
    with OpenFiles() as files:
        return _formula(_passes(inputs, output, files), output, context)


def _formula(passes: Passes, output: Output, context: Context) -> Formula:
    result = (
        output.method(StreamedWeights(passes), output.values, context)
        if output.origin is None
        else wrapped(output, context)(StreamedDeltas(passes))
    )
    assert isinstance(result, (StreamedWeight, StreamedDelta))
    return result.formula


def show_tensor(
    inputs: Inputs, output: Output, data: memoryview, dtype: str, files: OpenFiles, seen: Seen
) -> None:
    """Show a tensor that was merged whole as one that is streamed would be seen."""
    passes = _passes(inputs, output, files, seen=seen)
    width = width_of(CODES[dtype])

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        seen(passes, start, size, inputs, data[start * width : (start + size) * width])

    passes.over_chunks(run)


def _passes(
    inputs: Inputs,
    output: Output,
    files: OpenFiles,
    *,
    pool: Pool | None = None,
    seen: Seen | None = None,
) -> Passes:
    named = output.inputs if output.origin is None else (output.origin, *output.inputs)
    return Passes(
        output.name,
        [inputs.source(i, output.origin, output, files) for i in named],
        inputs.shape(named[0]),
        origin=output.origin is not None,
        rounding=0 if inputs.dtype in (None, "float32", "float64") else _rounding(inputs.dtype),
        pool=pool,
        seen=seen,
    )


def _write_in_torch(
    passes: Passes, output: Output, context: Context, code: int, write: Write
) -> None:
    # A method that looks at each element alone runs on chunks as it would on tensors.
    import torch

    dtype = {0: torch.float32, 1: torch.bfloat16, 2: torch.float16}[code]

    width = width_of(code)

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        tensors = torch.from_numpy(passes.values(inputs, size))
        out = passes.output(code, size)
        # A slice at a time: what methods leave behind in between stays small.
        for first in range(0, size, SLICE):
            stored = merged(list(tensors[:, first : first + SLICE])).to(dtype)
            if not stored.isfinite().all():
                raise does_not_fit(output.name, str(dtype).removeprefix("torch."))
            data = stored.contiguous().view(torch.uint8).numpy()
            out[first * width : first * width + data.size] = data
        passes.written(start, size, inputs, out.data, write)

    def merged(tensors: list[torch.Tensor]) -> torch.Tensor:
        if passes.origin and not any(delta.any() for delta in tensors[1:]):
            return tensors[0]
        result: torch.Tensor = _merged(output, context, tensors)
        return result

    passes.over_chunks(run)


def _merged(output: Output, context: Context, tensors: list[Any]) -> Any:
    # The definition, on tensors or on what stands for them.
    if output.origin is None:
        return output.method(Weights(tensors), output.values, context).tensor
    base, *deltas = tensors
    return base + wrapped(output, context)(Deltas(deltas)).tensor


def _rounding(dtype: str) -> int:
    # float32 in the file is rounded; what is narrower already does not change.
    return {"bfloat16": CODES["BF16"], "float16": CODES["F16"]}[dtype]
