"""DARE: drop elements of the task vectors at random and rescale the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.consensus import plain_sum
from miscible.merge.ops.sparsify import KeepAtRandom
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    from miscible.merge.ops.random import ElementRandom

# The rescale restores the L1 norm over the tensor rather than dividing by the density: equal in
# expectation, and what recipes in the wild were tuned with.


@merge_method("dare_linear", paper="2311.03099", ignored=("int8_mask",), streams=True)
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
    kept = deltas.sparsified([KeepAtRandom(p) for p in density], random, rescale=rescale)
    return plain_sum(kept, weight, normalize=normalize).scaled(lambda_)


@merge_method("dare_ties", paper="2311.03099", ignored=("int8_mask",), streams=True)
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
    kept = deltas.sparsified([KeepAtRandom(p) for p in density], random, rescale=rescale)
    return kept.elected_sum(weight, normalize=normalize).scaled(lambda_)
