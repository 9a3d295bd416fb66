"""Merges of adapters that are themselves low-rank: weighted sums of their deltas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.contract import Context
from miscible.merge.inputs import Inputs
from miscible.merge.plan import Input, Output
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.delta import LowRank

if TYPE_CHECKING:
    from miscible.merge.engine.streamed import Formula

ONE = 1e-12
"""How far a sum of weights may be from 1 and still leave the base as it is."""


def factors_of_sum(
    inputs: Inputs, output: Output, context: Context, base: Checkpoint
) -> LowRank | None:
    """Return the exact factors of (merged tensor - base's tensor).

    None unless every input is an adapter of *base* (or *base* itself) that changes the tensor by a
    low-rank matrix, and the method adds them up.
    """
    from miscible.merge.engine.tensor import can_stream, formula_of

    parts = [_change(inputs, source, output.name, base) for source in output.inputs]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not any(known) or not can_stream(inputs, output):
        return None
    origin = output.origin
    if origin is not None and not inputs.same_weights(inputs.models[origin.model], base):
        return None
    formula = formula_of(inputs, output, context)
    if formula is None or not _is_sum(formula):
        return None
    if origin is None and abs(sum(formula.weights) - 1.0) > ONE:
        return None
    scale = formula.scale if origin is not None else 1.0
    return _stacked(
        [(part[0], scale * w) for part, w in zip(known, formula.weights, strict=True) if part]
    )


def _change(
    inputs: Inputs, source: Input, name: str, base: Checkpoint
) -> tuple[LowRank, ...] | None:
    # The change of one input: one matrix, none where nothing changes; None if it is neither.
    model = inputs.models[source.model]
    if source.tensor != name or inputs.is_aligned(source):
        return None
    if inputs.same_weights(model, base):
        return ()
    if not isinstance(model, AdaptedCheckpoint) or not inputs.same_weights(model.base, base):
        return None
    found = model.low_rank_change(name)
    if found is None:
        return () if name not in model.adapter.weights and name in base.tensors else None
    return None if found.kernel else (found,)


def _is_sum(formula: Formula) -> bool:
    return formula.sparsifiers is None and not formula.elected


def _stacked(parts: Sequence[tuple[LowRank, float]]) -> LowRank:
    import torch

    (first, _), *_ = parts
    wide = torch.promote_types(first.a.dtype, torch.float32)
    a = torch.cat([part.a.to(wide) for part, _ in parts])
    b = torch.cat([part.b.to(wide) * (part.scale * weight) for part, weight in parts], dim=1)
    return LowRank(a, b, 1.0, first.transposed)
