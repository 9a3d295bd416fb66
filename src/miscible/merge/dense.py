"""Merging one tensor in memory with torch: any method, any dtype, any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from miscible.errors import IncompatibleModelsError
from miscible.merge.contract import Context, Delta, Deltas, Weights
from miscible.merge.inputs import Inputs, torch_dtype
from miscible.merge.plan import Output

if TYPE_CHECKING:
    import torch

    from miscible.models.delta import LowRank


def merge_dense(inputs: Inputs, output: Output, context: Context) -> torch.Tensor:
    """Return a merged tensor in float32, or float64 where an input is, on the inputs' device."""
    wide = _wide(inputs, output)
    if output.origin is None:
        weights = Weights([inputs.exact(i, wide, output) for i in output.inputs])
        return output.method(weights, output.values, context).tensor
    base = inputs.exact(output.origin, wide, output)
    factors = _factors(inputs, output) if wide == torch_dtype("F32") else None
    deltas = (
        Deltas([inputs.delta(i, output.origin, base, output) for i in output.inputs])
        if factors is None
        else Deltas(factors=factors)
    )
    if factors is None and all(not delta.any() for delta in deltas.tensors):
        return base  # what no model changed stays as it is
    return base.add_(wrapped(output, context)(deltas).tensor)


def wrapped(output: Output, context: Context) -> Callable[[Deltas], Delta]:
    """Return the method of an output on deltas, within its wrappers."""

    def merge(deltas: Deltas) -> Delta:
        merged = output.method(deltas, output.values, context)
        assert isinstance(merged, Delta)
        return merged

    wrapped_merge: Callable[[Deltas], Delta] = merge
    for wrapper, values in reversed(output.wrappers):
        wrapped_merge = partial(wrapper, merge=wrapped_merge, values=values, context=context)
    return wrapped_merge


def copy_of_equals(inputs: Inputs, output: Output) -> torch.Tensor:
    """Return a tensor that is not floating, which must be the same in all models.

    Raises:
        IncompatibleModelsError: if it differs.
    """
    first, *others = [inputs.models[i.model].read(i.tensor) for i in output.inputs]
    import torch

    for source, other in zip(output.inputs[1:], others, strict=True):
        if not torch.equal(_bytes(first), _bytes(other)):
            dtype = inputs.models[source.model].tensors[source.tensor].dtype
            raise IncompatibleModelsError(
                f"tensor {output.name!r} ({dtype}) takes no part in arithmetic and differs between "
                f"{output.inputs[0].model} and {source.model}.",
                fix="Convert quantised weights to bfloat16 first."
                if dtype.startswith("F")
                else "The models must agree on it.",
            )
    return first


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return tensor.contiguous().flatten().view(torch.uint8)


def _wide(inputs: Inputs, output: Output) -> torch.dtype:
    import torch

    dtypes = {inputs.models[i.model].tensors[i.tensor].dtype for i in output.named}
    return torch_dtype("F64") if "F64" in dtypes else torch.float32


def _factors(inputs: Inputs, output: Output) -> Sequence[LowRank] | None:
    # The exact factors of all differences, if every input has them.
    from miscible.models.adapters import AdaptedCheckpoint

    assert output.origin is not None
    found = []
    for source in output.inputs:
        model = inputs.models[source.model]
        if not isinstance(model, AdaptedCheckpoint) or not inputs.is_change_of(
            source, output.origin
        ):
            return None
        low_rank = model.low_rank_change(source.tensor)
        if low_rank is None or low_rank.kernel or inputs.device != "cpu":
            return None
        found.append(low_rank)
    return found or None
