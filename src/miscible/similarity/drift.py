"""How the states of each layer are shaped, and how far those of a merge have moved.

Cheap detectors of collapse: a merge whose states shrink, or crowd into few directions, has lost
capacity whatever a probe says. Statistics of two models that read the same texts are compared
read by read: `Estimate.over` gives the ratio to a parent with its interval.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.errors import IncompatibleModelsError
from miscible.similarity.estimate import (
    Array,
    Estimate,
    Groups,
    Reasons,
    Scale,
    first_reason,
    layer_flaws,
    mean_estimate,
)

States: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Geometry:
    """The shape of each layer's states; every field is [layers].

    With the eigenvalues λ of the covariance of the states (divisor n):

    Attributes:
        norm: mean Euclidean norm of a state.
        effective_rank: exp of the entropy, in nats, of √λ / Σ√λ: singular values of the centred
            states (Roy and Vetterli, EUSIPCO 2007). At most the smaller of width
            and reads - 1; compare only values from equally many reads.
        participation_ratio: (Σλ)² / Σλ² (Gao et al., bioRxiv 214262); bounded likewise.
        first_share: λ₁ / Σλ, the share of the variance along the first principal component.
        mean_cosine: mean cosine of two different reads' states, not centred: the anisotropy of
            Ethayarajh (arXiv 1909.00512); 0 for states that point anywhere.
    """

    norm: Estimate
    effective_rank: Estimate
    participation_ratio: Estimate
    first_share: Estimate
    mean_cosine: Estimate


@dataclass(frozen=True)
class Displacement:
    """How far the states of the same reads are apart in two models; both are [layers].

    Attributes:
        cosine: mean over reads of the cosine of the two states.
        distance: mean over reads of |state - reference| / |reference|.
    """

    cosine: Estimate
    distance: Estimate


def geometry(states: States, groups: npt.ArrayLike | None = None) -> Geometry:
    """Return the shape of each layer's states.

    Intervals say what other reads of the same kind, as many of them, would give. They are to first
    order in the influence of a group (see `Estimate`); those of the spectral statistics come from
    the perturbation of eigenvalues, δλ_k = (v_k · x)² - λ_k for one more read x.

    Args:
        states: [reads, layers, width].
        groups: label of each read; those of one document or pair share it. None for independent
            reads.

    Raises:
        ValueError: an array without three axes, or labels that are not one a read.
    """
    parts = Groups.of(groups, len(states))
    flaws = layer_flaws(states, at_least=2)
    reads, layers, _ = states.shape
    norms = np.full((reads, layers), np.nan)
    cosines = _Gathered.empty(layers, len(parts.sizes), flaws)
    spectral = [_Gathered.empty(layers, len(parts.sizes), flaws) for _ in range(3)]
    for layer in np.flatnonzero(flaws == "").tolist():
        plain = states[:, layer].astype(np.float64)
        norms[:, layer] = np.sqrt(np.square(plain).sum(axis=1))
        zeros = int((norms[:, layer] == 0).sum())
        if zeros:
            cosines.refuse(layer, f"{zeros} of {reads} reads are the zero vector")
        else:
            cosines.put(layer, parts, *_mean_cosine(plain / norms[:, layer, None]))
        values, shares = _spectrum(plain - plain.mean(axis=0))
        for each, (value, slope) in zip(spectral, _statistics(values), strict=True):
            if values.size:
                each.put(layer, parts, value, (shares - values) @ slope)
            else:
                each.refuse(layer, "the states are the same for all reads")
    return Geometry(
        mean_estimate(norms, parts, "log", flaws),
        spectral[0].estimate("log"),
        spectral[1].estimate("log"),
        spectral[2].estimate("logit"),
        cosines.estimate("atanh"),
    )


def displacement(
    states: States, reference: States, groups: npt.ArrayLike | None = None
) -> Displacement:
    """Return how far the states of each layer are from those of a *reference* model.

    Args:
        states, reference: of the same reads, [reads, layers, width]; same layers and width.
        groups: see `geometry`.

    Raises:
        IncompatibleModelsError: the models differ in layers or width.
        ValueError: arrays without three axes or of different numbers of reads, or labels that are
            not one a read.
    """
    parts = Groups.of(groups, len(states))
    flaws = first_reason(layer_flaws(states, 1), layer_flaws(reference, 1)).astype(object)
    if len(states) != len(reference):
        raise ValueError(f"{len(states)} and {len(reference)} reads")
    if states.shape != reference.shape:
        raise IncompatibleModelsError(
            f"the models have {states.shape[1]} and {reference.shape[1]} layers of width "
            f"{states.shape[2]} and {reference.shape[2]}.",
            fix="Compare models of different shape by linear CKA.",
        )
    cosine, distance = (np.full(states.shape[:2], np.nan) for _ in range(2))
    for layer in np.flatnonzero(flaws == "").tolist():
        ours, theirs = (each[:, layer].astype(np.float64) for each in (states, reference))
        norms, lengths = (np.sqrt(np.square(each).sum(axis=1)) for each in (ours, theirs))
        zeros = int(((norms == 0) | (lengths == 0)).sum())
        if zeros:
            flaws[layer] = f"{zeros} of {len(states)} reads are the zero vector"
            continue
        cosine[:, layer] = np.einsum("ij,ij->i", ours, theirs) / (norms * lengths)
        distance[:, layer] = np.sqrt(np.square(ours - theirs).sum(axis=1)) / lengths
    reasons = flaws.astype(np.str_)
    return Displacement(
        mean_estimate(np.clip(cosine, -1, 1), parts, "atanh", reasons),
        mean_estimate(distance, parts, "log", reasons),
    )


@dataclass(frozen=True)
class _Gathered:
    """An estimate whose layers are filled in one by one."""

    value: Array
    influence: Array
    reason: npt.NDArray[np.object_]

    @classmethod
    def empty(cls, layers: int, groups: int, flaws: Reasons) -> _Gathered:
        value = np.full(layers, np.nan)
        return cls(value, np.full((groups, layers), np.nan), flaws.astype(object))

    def put(self, layer: int, groups: Groups, value: float, influences: Array) -> None:
        """Fill in a value and the n-fold influence of each read."""
        self.value[layer] = value
        self.influence[:, layer] = groups.sums(influences) / len(influences)

    def refuse(self, layer: int, reason: str) -> None:
        self.reason[layer] = reason

    def estimate(self, scale: Scale) -> Estimate:
        return Estimate(self.value, self.influence, scale, self.reason.astype(np.str_))


def _mean_cosine(units: Array) -> tuple[float, Array]:
    """Return the mean over pairs of reads, a U-statistic, and twice its first-order projections."""
    reads = len(units)
    with_others = (units @ units.sum(axis=0) - 1) / (reads - 1)
    mean = float(with_others.mean())
    return mean, 2 * (with_others - mean)


def _spectrum(centred: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of the covariance, falling, and the reads' squares along each.

    The smaller of the covariance and the Gram matrix is decomposed.

    Returns:
        [rank], and [reads, rank] with the eigenvalues as means over reads.
    """
    reads, width = centred.shape
    small = centred.T @ centred if width <= reads else centred @ centred.T
    values, vectors = np.linalg.eigh(small / reads)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = values > len(values) * np.finfo(np.float64).eps * values[0]
    values, vectors = values[kept], vectors[:, kept]
    if width <= reads:
        return values, np.square(centred @ vectors)
    return values, reads * np.square(vectors) * values


def _statistics(values: Array) -> tuple[tuple[float, Array], ...]:
    """Return effective rank, participation ratio and first share, each with its slope in λ."""
    if not values.size:
        return ((np.nan, values),) * 3
    singular = np.sqrt(values)
    shares = singular / singular.sum()
    entropy = -float((shares * np.log(shares)).sum())
    rank = np.exp(entropy)
    rank_slope = -rank * (np.log(shares) + entropy) / (2 * singular * singular.sum())
    total, squares = values.sum(), np.square(values).sum()
    ratio = total**2 / squares
    ratio_slope = 2 * ratio * (1 / total - values / squares)
    first = values[0] / total
    first_slope = -first / total + np.eye(1, len(values))[0] / total
    return (float(rank), rank_slope), (float(ratio), ratio_slope), (float(first), first_slope)
