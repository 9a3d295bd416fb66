"""DARE: drop elements of the task vectors at random and rescale the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.contract import (
    REQUIRED,
    Delta,
    Deltas,
    PerModel,
    merge_method,
    per_model,
    shared,
)
from miscible.merge.ops.consensus import elect_signs, plain_sum
from miscible.merge.ops.rescale import restore_l1
from miscible.merge.ops.sparsify import drop_at_random

if TYPE_CHECKING:
    from miscible.merge.ops.random import ElementRandom


@merge_method("dare_linear", paper="2311.03099", ignored=("int8_mask",))
def dare_linear(
    deltas: Deltas,
    *,
    random: Sequence[ElementRandom],
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    normalize: bool = shared(False),
    rescale: bool = shared(True),
    lambda_: float = shared(1.0),
) -> Delta:
    """Add weighted task vectors after dropping elements at random."""
    kept = _drop(deltas, density, random, rescale=rescale)
    return plain_sum(kept, weight, normalize=normalize).scaled(lambda_)


@merge_method("dare_ties", paper="2311.03099", ignored=("int8_mask",))
def dare_ties(
    deltas: Deltas,
    *,
    random: Sequence[ElementRandom],
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    normalize: bool = shared(False),
    rescale: bool = shared(True),
    lambda_: float = shared(1.0),
) -> Delta:
    """Drop elements of the task vectors at random, and add those that agree in sign."""
    kept = _drop(deltas, density, random, rescale=rescale)
    return elect_signs(kept, weight, normalize=normalize).scaled(lambda_)


def _drop(
    deltas: Deltas, density: Sequence[float], random: Sequence[ElementRandom], *, rescale: bool
) -> Deltas:
    # The rescale restores the L1 norm over the tensor rather than dividing by the density: equal
    # in expectation, and what recipes in the wild were tuned with.
    kept = []
    for delta, share, draw in zip(deltas, density, random, strict=True):
        sparse = drop_at_random(delta, share, draw)
        kept.append(restore_l1(sparse, delta) if rescale else sparse)
    return Deltas(tuple(kept))
