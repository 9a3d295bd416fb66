"""DELLA: drop elements of the task vectors at random, small ones rather than large ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from miscible.merge.contract import REQUIRED, PerModel, merge_method, per_model, shared
from miscible.merge.ops.consensus import plain_sum
from miscible.merge.ops.sparsify import KeepByRank
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    from miscible.merge.ops.random import ElementRandom

# The rescale restores the L1 norm over the tensor, as for DARE (see dare.py), rather than dividing
# each element by its probability.


def _are_probabilities(values: Mapping[str, Any]) -> str | None:
    for density, epsilon in zip(values["density"], values["epsilon"], strict=True):
        # Room for the rounding of decimals: 0.85 + 0.15 is meant to be 1.
        inside = density - epsilon >= -1e-9 and density + epsilon <= 1.0 + 1e-9
        if 0.0 < density < 1.0 and not inside:
            return (
                f"density {density:g} +/- epsilon {epsilon:g} does not lie within [0, 1]. Lower "
                f"'epsilon' to {min(density, 1.0 - density):g} or less."
            )
    return None


@merge_method(
    "della", paper="2406.11617", ignored=("int8_mask",), check=_are_probabilities, streams=True
)
def della(
    deltas: Deltas,
    *,
    random: Sequence[ElementRandom],
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    epsilon: PerModel[float] = per_model(0.15, low=0.0),
    normalize: bool = shared(True),
    rescale: bool = shared(True),
    lambda_: float = shared(1.0),
) -> Delta:
    """Drop small elements of the task vectors more often, and add those that agree in sign."""
    kept = deltas.sparsified(_by_rank(density, epsilon), random, rescale=rescale)
    return kept.elected_sum(weight, normalize=normalize).scaled(lambda_)


@merge_method(
    "della_linear",
    paper="2406.11617",
    ignored=("int8_mask",),
    check=_are_probabilities,
    streams=True,
)
def della_linear(
    deltas: Deltas,
    *,
    random: Sequence[ElementRandom],
    weight: PerModel[float] = per_model(REQUIRED),
    density: PerModel[float] = per_model(1.0, low=0.0, high=1.0),
    epsilon: PerModel[float] = per_model(0.15, low=0.0),
    normalize: bool = shared(False),
    rescale: bool = shared(True),
    lambda_: float = shared(1.0),
) -> Delta:
    """Add weighted task vectors after dropping small elements more often than large ones."""
    kept = deltas.sparsified(_by_rank(density, epsilon), random, rescale=rescale)
    return plain_sum(kept, weight, normalize=normalize).scaled(lambda_)


def _by_rank(density: Sequence[float], epsilon: Sequence[float]) -> list[KeepByRank]:
    return [KeepByRank(share, width) for share, width in zip(density, epsilon, strict=True)]
