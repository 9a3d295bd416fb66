"""Effective dose: how much of each parent a merge contains.

Methods at their default parameters take very different amounts of each parent, so comparing them
at face value compares doses. The dose is read off the weights: with task vectors d_i and the
merge's own task vector m, it is the projection of m on d_i and the least-squares coefficients of m
in the d_i (see `miscible.records.DoseRow`). Sums run over all floating tensors, in float64 between
tensors and chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from miscible.errors import IncompatibleModelsError
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.progress import task
from miscible.records import DoseRow

if TYPE_CHECKING:
    import numpy as np
    import torch

CHUNK = 1 << 18


def measure_doses(
    merge: Checkpoint, base: Checkpoint, parents: Mapping[str, Checkpoint]
) -> list[DoseRow]:
    """Return one row a parent; reads every tensor that can differ from the base once.

    Raises:
        IncompatibleModelsError: if tensors of the merge are not in the base or a parent.
    """
    gram = _gram(merge, base, list(parents.values()))
    return doses_from_gram(merge.name, list(parents), gram)


def doses_from_gram(merge: str, parents: Sequence[str], gram: np.ndarray) -> list[DoseRow]:
    """Return the rows from inner products: *gram* is [1 + parents, 1 + parents], merge first."""
    import numpy as np

    inner, own, norm = gram[1:, 1:], gram[1:, 0], gram[0, 0]
    coefficients = np.linalg.lstsq(inner, own, rcond=None)[0]
    explained = float(coefficients @ own)
    residual = math.sqrt(max(0.0, 1.0 - explained / norm)) if norm > 0 else 0.0
    total = float(coefficients.sum())
    rows = []
    for i, parent in enumerate(parents):
        size = float(inner[i, i])
        rows.append(
            DoseRow(
                model=merge,
                parent=parent,
                projection=float(own[i]) / size if size > 0 else math.nan,
                coefficient=float(coefficients[i]),
                share=float(coefficients[i]) / total if abs(total) > 1e-12 else math.nan,
                cosine=float(own[i]) / math.sqrt(size * norm) if size * norm > 0 else math.nan,
                residual=residual,
            )
        )
    return rows


def scaled(rows: Sequence[DoseRow], factor: float) -> list[DoseRow]:
    """Return the doses after the merged delta was multiplied by *factor*."""
    return [
        replace(row, projection=row.projection * factor, coefficient=row.coefficient * factor)
        for row in rows
    ]


def _gram(merge: Checkpoint, base: Checkpoint, parents: Sequence[Checkpoint]) -> np.ndarray:
    import numpy as np

    names = _candidates(merge, base, parents)
    total = np.zeros((1 + len(parents), 1 + len(parents)))
    with task(f"dose of {merge.name}", len(names)) as advance:
        for name in names:
            origin = base.read(name)
            rows = [_delta(model, name, base, origin) for model in (merge, *parents)]
            total += _inner_products(rows)
            advance(1)
    return total


def _candidates(merge: Checkpoint, base: Checkpoint, parents: Sequence[Checkpoint]) -> list[str]:
    changes = [possible_changes(model, base) for model in (merge, *parents)]
    known = [held for held in changes if held is not None]
    names = [name for name, info in merge.tensors.items() if info.floating]
    if len(known) == len(changes):
        touched = frozenset().union(*known)
        names = [name for name in names if name in touched]
    for model in (base, *parents):
        for name in names:
            info = model.tensors.get(name)
            if info is None or info.shape != merge.tensors[name].shape:
                raise IncompatibleModelsError(
                    f"tensor {name!r} of {merge.name} is missing or of another shape.",
                    where=model.name,
                )
    return names


def possible_changes(model: Checkpoint, base: Checkpoint) -> frozenset[str] | None:
    """Return the tensors in which *model* can differ from *base*, None if that is unknown."""
    if model.fingerprint == base.fingerprint:
        return frozenset()
    if isinstance(model, AdaptedCheckpoint) and model.base.fingerprint == base.fingerprint:
        return frozenset(model.adapter.weights)
    if isinstance(model, VirtualCheckpoint):
        return _changes_of_merge(model, base)
    return None


def _changes_of_merge(merge: VirtualCheckpoint, base: Checkpoint) -> frozenset[str] | None:
    if merge.plan.layers is not None or merge.recipe.dtype is not None:
        return None  # layers are renumbered, or even unchanged tensors rounded
    inputs = {reference: possible_changes(held, base) for reference, held in merge.models.items()}
    known = {reference: held for reference, held in inputs.items() if held is not None}
    if len(known) < len(inputs):
        return None
    return frozenset(
        output.name
        for output in merge.plan.outputs.values()
        if not merge.plan.method.keeps_what_is_common(output.values)
        or any(i.tensor != output.name or i.tensor in known[i.model] for i in output.named)
    )


def _delta(model: Checkpoint, name: str, base: Checkpoint, origin: torch.Tensor) -> torch.Tensor:
    import torch

    wide = torch.promote_types(origin.dtype, torch.float32)
    low_rank = model.low_rank_delta(name, base)
    if low_rank is not None:
        return low_rank.dense(wide)
    return model.read(name, wide) - origin.to(wide)


def _inner_products(rows: Sequence[torch.Tensor]) -> np.ndarray:
    import numpy as np
    import torch

    total = np.zeros((len(rows), len(rows)))
    flat = [row.flatten() for row in rows]
    for start in range(0, flat[0].numel(), CHUNK):
        piece = torch.stack([row[start : start + CHUNK] for row in flat])
        total += (piece @ piece.T).double().numpy()
    return total
