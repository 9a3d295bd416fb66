"""Where along the layers a model knows something: statistics of layer-wise score curves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miscible.probe.scoring.intervals import LEVEL, Interval, percentile
from miscible.similarity.estimate import Array


@dataclass(frozen=True)
class Centre:
    """Centre of gravity of a curve, in layers, with its interval; NaN for a curve at baseline.

    Attributes:
        layer: the centre.
        interval: over resamples in which there is a centre.
        undefined: share of resamples in which no layer is above the baseline.
    """

    layer: float
    interval: Interval
    undefined: float


@dataclass(frozen=True)
class BestLayer:
    """The layer with the highest score, and which others it might be.

    Attributes:
        layer: position of the highest score, the first of equals; None if a score is NaN.
        low, high: positions between which the best one lay in 95 % of the resamples.
        share: of resamples in which each layer was the best, [layers].
        rivals: positions, the best's among them, whose score the resamples do not show to be
            below the best's (one-sided, 95 %): the answer where a curve is flat at its top.
    """

    layer: int | None
    low: int | None
    high: int | None
    share: Array
    rivals: tuple[int, ...]


@dataclass(frozen=True)
class CurveDistance:
    """How far two curves are apart, in the unit of the scores.

    Attributes:
        mean: mean over layers of first minus second: which of them knows more.
        mean_interval: of *mean*.
        distance: root mean square over layers of the difference, less what the noise of the
            estimates alone gives (0 if that is more): whether they differ at all, anywhere.
        distance_interval: of *distance*; its lower end is 0 for curves that noise explains.
        shift: centre of gravity of the first minus the second's, in layers (of the deeper model).
        shift_interval: of *shift*.
    """

    mean: float
    mean_interval: Interval
    distance: float
    distance_interval: Interval
    shift: float
    shift_interval: Interval


def centre_of_gravity(scores: npt.ArrayLike, baseline: npt.ArrayLike = 0.0) -> Array:
    """Return Σ l w_l / Σ w_l with w_l = max(score_l - baseline, 0), in layers from 0.

    After Tenney et al. (arXiv 1905.05950), who weigh layers by a learned mixture; the
    weights here are what each layer knows beyond the trivial predictor.

    Args:
        scores: [..., layers], of layers 0, 1, 2 ...
        baseline: one, or one a layer.

    Returns:
        [...], NaN for a curve that is nowhere above its baseline or has a NaN.
    """
    values = np.asarray(scores, dtype=np.float64)
    weights = np.maximum(values - np.asarray(baseline, dtype=np.float64), 0)
    with np.errstate(invalid="ignore"):
        centre: Array = weights @ np.arange(values.shape[-1]) / weights.sum(axis=-1)
    return centre


def centre(scores: Array, resamples: Array, baseline: npt.ArrayLike = 0.0) -> Centre:
    """Return the centre of gravity with its percentile interval.

    Args:
        scores: [layers].
        resamples: scores of the same layers in bootstrap resamples, [resamples, layers].
        baseline: see `centre_of_gravity`.
    """
    layer = float(centre_of_gravity(scores, baseline))
    centres = centre_of_gravity(resamples, baseline)
    missing = np.isnan(centres)
    return Centre(layer, _interval(centres), float(missing.mean()) if missing.size else np.nan)


def best_layer(scores: Array, resamples: Array) -> BestLayer:
    """Return the best layer with an interval and its rivals.

    Args:
        scores: higher is better, [layers].
        resamples: scores of the same layers in bootstrap resamples, [resamples, layers].
    """
    layers = len(scores)
    if np.isnan(scores).any() or np.isnan(resamples).any() or not resamples.size:
        return BestLayer(None, None, None, np.full(layers, np.nan), ())
    best = int(np.argmax(scores))
    bests = np.argmax(resamples, axis=1)
    share = np.bincount(bests, minlength=layers) / len(bests)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    low, high = np.quantile(bests, tails, method="inverted_cdf")
    behind = resamples - resamples[:, [best]]
    reach = np.quantile(behind, LEVEL, axis=0)
    rivals = tuple(np.flatnonzero(reach >= 0).tolist())
    return BestLayer(best, min(int(low), best), max(int(high), best), share, rivals)


def curve_distance(
    first: Array,
    second: Array,
    first_resamples: Array,
    second_resamples: Array,
    baseline: npt.ArrayLike = 0.0,
) -> CurveDistance:
    """Compare the curves of two models.

    Models of different depth are compared at equal relative depth, by linear interpolation onto
    the layers of the deeper one.

    Args:
        first, second: [layers], which may differ in number.
        first_resamples, second_resamples: [resamples, layers], row by row from the same resamples
            of the same items, so that differences are paired.
        baseline: one for both curves and all layers, or one a layer of the deeper model.

    Raises:
        ValueError: different numbers of resamples.
    """
    if len(first_resamples) != len(second_resamples):
        raise ValueError(f"{len(first_resamples)} and {len(second_resamples)} resamples")
    layers = max(len(first), len(second))
    ones, others = (
        _stretched(np.vstack([scores, resamples]), layers)
        for scores, resamples in ((first, first_resamples), (second, second_resamples))
    )
    gaps = ones - others
    means = gaps.mean(axis=1)
    noise = gaps[1:].var(axis=0, ddof=1).mean() if len(gaps) > 2 else np.nan
    # A resample has the noise of the sample and once more its own.
    squares = np.square(gaps).mean(axis=1) - noise * np.r_[1, np.full(len(gaps) - 1, 2)]
    distances = np.sqrt(np.maximum(squares, 0))
    shifts = centre_of_gravity(ones, baseline) - centre_of_gravity(others, baseline)
    return CurveDistance(
        float(means[0]), _interval(means[1:]),
        float(distances[0]), _interval(distances[1:]),
        float(shifts[0]), _interval(shifts[1:]),
    )  # fmt: skip


def _stretched(curves: Array, layers: int) -> Array:
    if curves.shape[1] == layers:
        return curves
    old, new = (np.linspace(0, 1, count) for count in (curves.shape[1], layers))
    return np.stack([np.interp(new, old, curve) for curve in curves])


def _interval(estimates: Array) -> Interval:
    """Return the percentile interval of estimates that exist; NaN unless half of them do."""
    held = estimates[~np.isnan(estimates)]
    if not held.size or held.size < len(estimates) / 2:
        return Interval(np.nan, np.nan)
    return percentile(held)
