"""The factors that methods on task vectors are composed of, by name.

A method is *sparsify*, then *rescale*, then *consensus* under a model's *coefficient* (its weight),
then ``lambda``; a wrapper changes the space in which this happens. The named methods are points of
this space (`miscible.merge.methods.composed`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from miscible.merge.ops.consensus import plain_sum
from miscible.merge.ops.median import median_coefficients
from miscible.merge.ops.sparsify import (
    KeepAll,
    KeepAtRandom,
    KeepBand,
    KeepByRank,
    KeepLargest,
    Sparsifier,
)
from miscible.merge.ops.unify import largest_magnitude, unified
from miscible.merge.spaces import Delta, Deltas

if TYPE_CHECKING:
    import torch

MakeSparsifier: TypeAlias = Callable[[float, float, float], Sparsifier]
"""From a model's density, epsilon and gamma."""
Consensus: TypeAlias = Callable[[Deltas, Sequence[float], bool], Delta]
"""From the differences, a weight a model, and whether to divide by the weights."""


def keep_all(density: float, epsilon: float, gamma: float) -> Sparsifier:
    """Keep everything."""
    return KeepAll()


def keep_largest(density: float, epsilon: float, gamma: float) -> Sparsifier:
    """Keep the largest elements (TIES, 2306.01708)."""
    return KeepLargest(density)


def keep_at_random(density: float, epsilon: float, gamma: float) -> Sparsifier:
    """Keep each element with the same probability (DARE, 2311.03099)."""
    return KeepAtRandom(density)


def keep_by_rank(density: float, epsilon: float, gamma: float) -> Sparsifier:
    """Keep each element with a probability that grows with its rank (DELLA, 2406.11617)."""
    return KeepByRank(density, epsilon)


def keep_band(density: float, epsilon: float, gamma: float) -> Sparsifier:
    """Drop the very largest elements and keep the next (Model Breadcrumbs, 2312.06795)."""
    return KeepBand(density, gamma)


def add(deltas: Deltas, weights: Sequence[float], normalize: bool) -> Delta:
    """Add them up (task arithmetic, 2212.04089)."""
    return plain_sum(deltas, weights, normalize=normalize)


def elect_sign(deltas: Deltas, weights: Sequence[float], normalize: bool) -> Delta:
    """Add those that agree with the elected sign (TIES, 2306.01708)."""
    return deltas.elected_sum(weights, normalize=normalize)


def take_largest(deltas: Deltas, weights: Sequence[float], normalize: bool) -> Delta:
    """Take the value of largest magnitude (MagMax, 2407.06322)."""
    return Delta(largest_magnitude(_weighted(deltas, weights)))


def unify(deltas: Deltas, weights: Sequence[float], normalize: bool) -> Delta:
    """Take the largest magnitude that has the elected sign (EMR-Merging, 2405.17461)."""
    return Delta(unified(_weighted(deltas, weights)))


def take_median(deltas: Deltas, weights: Sequence[float], normalize: bool) -> Delta:
    """Take the geometric median; weights are those of the distances (Weiszfeld 1937)."""
    return deltas.weighted_sum(median_coefficients(deltas.gram(), weights))


SPARSIFIERS: Mapping[str, MakeSparsifier] = MappingProxyType(
    {
        "none": keep_all,
        "magnitude": keep_largest,
        "random": keep_at_random,
        "rank": keep_by_rank,
        "band": keep_band,
    }
)
CONSENSUS: Mapping[str, Consensus] = MappingProxyType(
    {
        "sum": add,
        "signs": elect_sign,
        "largest": take_largest,
        "unified": unify,
        "median": take_median,
    }
)
DIVISIBLE = frozenset({"sum", "signs"})
"""Kinds of consensus that add, so that dividing by the weights means something.

They are also those with a streamed form.
"""


def _weighted(deltas: Deltas, weights: Sequence[float]) -> list[torch.Tensor]:
    return [delta * weight for delta, weight in zip(deltas, weights, strict=True)]
