"""TIES: trim, elect signs, merge what agrees."""

from __future__ import annotations

from miscible.merge.contract import (
    REQUIRED,
    Delta,
    Deltas,
    PerModel,
    merge_method,
    per_model,
    shared,
)
from miscible.merge.ops.consensus import elect_signs
from miscible.merge.ops.rescale import restore_l1
from miscible.merge.ops.sparsify import keep_largest


@merge_method("ties", paper="2306.01708", ignored=("int8_mask",))
def ties(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    normalize: bool = shared(True),
    rescale: bool = shared(False),
    lambda_: float = shared(1.0),
) -> Delta:
    """Keep each task vector's largest elements, and add those that agree with the elected sign."""
    trimmed = [keep_largest(d, share) for d, share in zip(deltas, density, strict=True)]
    if rescale:
        trimmed = [restore_l1(t, d) for t, d in zip(trimmed, deltas, strict=True)]
    return elect_signs(Deltas(tuple(trimmed)), weight, normalize=normalize).scaled(lambda_)
