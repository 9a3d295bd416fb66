"""Model Breadcrumbs: leave out the largest and the smallest elements of the task vectors."""

from __future__ import annotations

from collections.abc import Sequence

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.consensus import plain_sum
from miscible.merge.ops.sparsify import KeepBand
from miscible.merge.spaces import Delta, Deltas


@merge_method("breadcrumbs", paper="2312.06795", ignored=("int8_mask",), streams=True)
def breadcrumbs(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    gamma: PerModel[float] = per_model(0.01, low=0.0, high=1.0),
    normalize: bool = shared(False),
    rescale: bool = shared(False),
    lambda_: float = shared(1.0),
) -> Delta:
    """Add weighted task vectors without their largest and smallest elements."""
    kept = deltas.sparsified(_bands(density, gamma), rescale=rescale)
    return plain_sum(kept, weight, normalize=normalize).scaled(lambda_)


@merge_method("breadcrumbs_ties", paper="2312.06795", ignored=("int8_mask",), streams=True)
def breadcrumbs_ties(
    deltas: Deltas,
    *,
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    gamma: PerModel[float] = per_model(0.01, low=0.0, high=1.0),
    normalize: bool = shared(False),
    rescale: bool = shared(False),
    lambda_: float = shared(1.0),
) -> Delta:
    """Leave out the largest and smallest elements, and add those that agree in sign."""
    kept = deltas.sparsified(_bands(density, gamma), rescale=rescale)
    return kept.elected_sum(weight, normalize=normalize).scaled(lambda_)


def _bands(density: Sequence[float], gamma: Sequence[float]) -> list[KeepBand]:
    return [KeepBand(share, outliers) for share, outliers in zip(density, gamma, strict=True)]
