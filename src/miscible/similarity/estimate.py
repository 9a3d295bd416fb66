"""Estimates from a sample of reads, with what each group of reads moved them by.

Reads of one document are not independent, so the unit of sampling is the group. Every statistic
is kept with its empirical influences: to first order, how much each group moved it. Their spread
is the standard error (the infinitesimal jackknife; Efron, The Jackknife, the Bootstrap and Other
Resampling Plans, 1982, chapter 6), and because two models that read the same texts have the same
groups, influences of a difference or a ratio are had by subtraction: comparisons are paired.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]
Reasons: TypeAlias = npt.NDArray[np.str_]
Scale: TypeAlias = Literal["identity", "log", "logit", "atanh"]

LEVEL = 0.95

_MARGIN = 1e-12


class _Transform(NamedTuple):
    low: float
    high: float
    forward: Callable[[Array], Array]
    slope: Callable[[Array], Array]
    back: Callable[[Array], Array]


_TRANSFORMS: dict[Scale, _Transform] = {
    "identity": _Transform(-np.inf, np.inf, lambda x: x, np.ones_like, lambda y: y),
    "log": _Transform(0.0, np.inf, np.log, lambda x: 1 / x, np.exp),
    "logit": _Transform(
        0.0, 1.0, lambda x: np.log(x / (1 - x)), lambda x: 1 / (x * (1 - x)),
        lambda y: 0.5 * (1 + np.tanh(y / 2)),
    ),
    "atanh": _Transform(-1.0, 1.0, np.arctanh, lambda x: 1 / (1 - x * x), np.tanh),
}  # fmt: skip


class Bounds(NamedTuple):
    """Lower and upper ends of intervals, each of the shape of the estimates; NaN for none."""

    low: Array
    high: Array


@dataclass(frozen=True)
class Estimate:
    """Numbers (of one layer each, or of one pair of layers) from one sample of reads.

    Attributes:
        value: [*shape], NaN where there is none.
        influence: [groups, *shape]. NaN where it could not be had: the value has no interval.
        scale: on which the value's error is nearly normal: "log" above 0, "logit" from 0 to 1,
            "atanh" from -1 to 1.
        reason: [*shape], why a value is NaN; empty where it is not.
    """

    value: Array
    influence: Array
    scale: Scale
    reason: Reasons

    def __getitem__(self, index: Any) -> Estimate:
        """Return part of the estimates: NumPy's basic or advanced *index* into their shape."""
        place = index if isinstance(index, tuple) else (index,)
        return Estimate(
            np.asarray(self.value[place]),
            self.influence[(slice(None), *place)],
            self.scale,
            np.asarray(self.reason[place]),
        )

    @property
    def standard_error(self) -> Array:
        """Standard error of the value over samples of as many groups, [*shape]."""
        count = len(self.influence)
        if count < 2:
            return np.full(self.value.shape, np.nan)
        centred = self.influence - self.influence.mean(axis=0)
        error: Array = np.sqrt(count / (count - 1) * np.square(centred).sum(axis=0))
        return error

    def interval(self, level: float = LEVEL) -> Bounds:
        """Return intervals by Student's t with groups - 1 degrees of freedom.

        They are symmetric on the estimate's scale, by the delta method. A value at the end of its
        range (a divergence of 0, a similarity of 1) has no such scale: there the plain interval is
        cut off at the end of the range.
        """
        from scipy.special import stdtrit

        low, high, forward, slope, back = _TRANSFORMS[self.scale]
        half = stdtrit(max(len(self.influence) - 1, 1), (1 + level) / 2) * self.standard_error
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            inner = (self.value > low + _MARGIN) & (self.value < high - _MARGIN)
            held = np.where(inner, self.value, 0.5)
            centre, spread = forward(held), half * slope(held)
            lows = np.where(inner, back(centre - spread), np.maximum(self.value - half, low))
            highs = np.where(inner, back(centre + spread), np.minimum(self.value + half, high))
        missing = np.isnan(self.value) | np.isnan(half)
        return Bounds(np.where(missing, np.nan, lows), np.where(missing, np.nan, highs))

    def minus(self, other: Estimate) -> Estimate:
        """Return the paired difference; *other* is of the same groups of reads.

        Raises:
            ValueError: another shape or another number of groups.
        """
        self._check_paired(other)
        return Estimate(
            self.value - other.value,
            self.influence - other.influence,
            "identity",
            first_reason(self.reason, other.reason),
        )

    def over(self, other: Estimate) -> Estimate:
        """Return the paired ratio; *other* is of the same groups of reads.

        It is NaN where either value is not positive.

        Raises:
            ValueError: another shape or another number of groups.
        """
        self._check_paired(other)
        reason = first_reason(self.reason, other.reason)
        sound = (self.value > 0) & (other.value > 0)
        reason = first_reason(reason, np.where(sound, "", "a value is not positive"))
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(sound, self.value / other.value, np.nan)
            influence = ratio * (self.influence / self.value - other.influence / other.value)
        return Estimate(ratio, influence, "log", reason)

    def _check_paired(self, other: Estimate) -> None:
        if self.influence.shape != other.influence.shape:
            raise ValueError(
                f"estimates of shape {self.influence.shape} and {other.influence.shape} "
                "([groups, ...]) are not paired"
            )


@dataclass(frozen=True)
class Groups:
    """Reads sorted so that those of a group follow each other.

    Attributes:
        order: reads in that order, [reads].
        edges: where groups begin in *order*, and its length at the end, [groups + 1].
    """

    order: npt.NDArray[np.intp]
    edges: npt.NDArray[np.intp]

    @classmethod
    def of(cls, labels: npt.ArrayLike | None, reads: int) -> Groups:
        """Return the groups of reads that have the same label; None for a group each.

        Raises:
            ValueError: not one label a read.
        """
        names = np.arange(reads) if labels is None else np.asarray(labels)
        if names.shape != (reads,):
            raise ValueError(f"labels of shape {names.shape} for {reads} reads")
        codes = np.unique(names, return_inverse=True)[1]
        order = np.argsort(codes, kind="stable")
        edges = np.concatenate([[0], np.cumsum(np.bincount(codes))])
        return cls(order, edges.astype(np.intp))

    @property
    def sizes(self) -> npt.NDArray[np.intp]:
        """Number of reads of each group, [groups]."""
        return np.diff(self.edges)

    def sums(self, values: Array) -> Array:
        """Sum *values*, [reads, ...] in the reads' own order, by group: [groups, ...]."""
        if not len(values):
            return np.zeros_like(values)
        total: Array = np.add.reduceat(values[self.order], self.edges[:-1], axis=0)
        return total


def mean_estimate(
    values: Array, groups: Groups, scale: Scale, reason: Reasons | None = None
) -> Estimate:
    """Return means over reads.

    Args:
        values: [reads, *shape].
        groups: of the reads.
        scale: see `Estimate`.
        reason: [*shape], why a mean is to be NaN; empty where it is not.
    """
    reason = np.full(values.shape[1:], "", dtype=np.str_) if reason is None else reason
    with np.errstate(invalid="ignore"):
        mean = values.sum(axis=0) / max(len(values), 1)
        mean = np.where(reason == "", mean, np.nan)
        influence = groups.sums(values - mean) / max(len(values), 1)
    return Estimate(mean, influence, scale, reason)


def layer_flaws(states: npt.NDArray[np.floating], at_least: int) -> Reasons:
    """Return why nothing can be estimated from a layer, [layers]; empty where it can.

    Args:
        states: [reads, layers, width].
        at_least: number of reads needed.

    Raises:
        ValueError: *states* has not three axes.
    """
    if states.ndim != 3:
        raise ValueError(f"states of shape {states.shape}, not [reads, layers, width]")
    reads, layers, _ = states.shape
    if reads < at_least:
        text = f"{reads} read{'' if reads == 1 else 's'}; at least {at_least} are needed"
        return np.full(layers, text)
    broken = [int((~np.isfinite(states[:, layer]).all(axis=1)).sum()) for layer in range(layers)]
    texts = [f"{count} of {reads} reads are not finite" if count else "" for count in broken]
    return np.asarray(texts, dtype=np.str_)


def first_reason(first: Reasons, second: Reasons) -> Reasons:
    """Return *first*, and where that is empty *second*; they broadcast."""
    return np.where(first == "", second, first)
