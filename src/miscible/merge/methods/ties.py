"""TIES: trim, elect signs, merge what agrees."""

from __future__ import annotations

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.sparsify import KeepLargest
from miscible.merge.spaces import Delta, Deltas


@merge_method("ties", paper="2306.01708", ignored=("int8_mask",), streams=True)
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
    trimmed = deltas.sparsified([KeepLargest(share) for share in density], rescale=rescale)
    return trimmed.elected_sum(weight, normalize=normalize).scaled(lambda_)
