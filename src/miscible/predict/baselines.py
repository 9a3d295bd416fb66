"""What a predictor must beat: forecasts that look at no metric, or at one.

The first three know tasks alone, the last three a single number of each pair. None sees an outcome
of a held-out task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from miscible.predict.features import feature_matrix
from miscible.predict.pairs import Examples, Floats, Pairs
from miscible.predict.tables import RATIO

Guess: TypeAlias = Callable[[Examples, Pairs], Floats]


@dataclass(frozen=True)
class Baseline:
    """A forecast to compare with.

    Attributes:
        title: what it is, for people.
        guess: training pairs and test pairs -> float64 [n].
        scalar: the scalar of models that it needs, empty if none.
    """

    title: str
    guess: Guess
    scalar: str = ""


def training_mean(train: Examples, test: Pairs) -> Floats:
    """Return the mean outcome of the training pairs."""
    return np.full(len(test), train.mean.mean())


def partners_mean(train: Examples, test: Pairs) -> Floats:
    """Return the mean outcome of the training pairs of each known model, averaged over the two.

    Of a pair with one held-out model that is the mean of its partner's other merges; where both
    are held out it is the training mean.
    """
    size = len(train.pairs.models)
    places = np.concatenate([train.pairs.first, train.pairs.second])
    total = np.bincount(places, np.concatenate([train.mean, train.mean]), size)
    count = np.bincount(places, minlength=size)
    mean = np.where(count > 0, total / np.maximum(count, 1), 0.0)
    known = (count > 0).astype(float)
    number = known[test.first] + known[test.second]
    both = (mean[test.first] + mean[test.second]) / np.maximum(number, 1)
    guess: Floats = np.where(number > 0, both, train.mean.mean())
    return guess


def task_means(train: Examples, test: Pairs) -> Floats:
    """Return mu + a_i + a_j, fitted by least squares; a model that is not known has a = 0."""
    size, n = len(train.pairs.models), len(train)
    design = np.zeros((n, size))
    design[np.arange(n), train.pairs.first] = 1.0
    design[np.arange(n), train.pairs.second] += 1.0
    seen = train.pairs.seen()
    mu = float(train.mean.mean())
    effects = np.zeros(size)
    # The shortest solution: where pairs do not tell two effects apart, they share what they add.
    columns = design[:, seen] - design[:, seen].mean(axis=0)
    effects[seen] = np.linalg.lstsq(columns, train.mean - mu, rcond=1e-10)[0]
    shift = float((design @ effects).mean())
    effects[seen] -= shift / 2
    return mu + effects[test.first] + effects[test.second]


def one_feature(name: str) -> Guess:
    """Return the guess of a line through one feature, fitted to the training pairs."""

    def guess(train: Examples, test: Pairs) -> Floats:
        x = feature_matrix(train.pairs, [name])[:, 0]
        return _line(x, train.mean, feature_matrix(test, [name])[:, 0])

    return guess


def best_metric(train: Examples, test: Pairs) -> Floats:
    """Return the line through the metric that correlates best on the training pairs."""
    names = train.pairs.metric_names
    if not names:
        return training_mean(train, test)
    strength = [abs(line_correlation(column, train.mean)) for column in train.pairs.metrics.T]
    return one_feature(names[int(np.argmax(strength))])(train, test)


def line_correlation(x: Floats, y: Floats) -> float:
    """Return Pearson's r where both are known, 0 if it is not defined."""
    there = np.isfinite(x) & np.isfinite(y)
    if there.sum() < 3:
        return 0.0
    a, b = x[there] - x[there].mean(), y[there] - y[there].mean()
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else 0.0


def _line(x: Floats, y: Floats, at: Floats) -> Floats:
    there = np.isfinite(x)
    mean = float(y.mean())
    if there.sum() < 2:
        return np.full(len(at), mean)
    centre = float(x[there].mean())
    apart = x[there] - centre
    variance = float(apart @ apart)
    if variance <= 1e-24 * len(apart) * max(abs(centre), 1e-300) ** 2:
        return np.full(len(at), mean)
    slope = float(apart @ (y[there] - mean)) / variance
    return mean + slope * np.where(np.isfinite(at), at - centre, 0.0)


FINETUNED = "finetuned"
"""Scalar of a model: its own score on its task."""

BASELINES: dict[str, Baseline] = {
    "training_mean": Baseline("training mean", training_mean),
    "partners_mean": Baseline("partner's mean", partners_mean),
    "task_means": Baseline("task means", task_means),
    "finetuned": Baseline("models' own score", one_feature(f"mean({FINETUNED})"), FINETUNED),
    "zero_shot_ratio": Baseline("base/own score", one_feature(f"mean({RATIO})"), RATIO),
    "best_metric": Baseline("best metric", best_metric),
}


def available(pairs: Pairs) -> dict[str, Baseline]:
    """Return the baselines for which the table has what they need."""
    return {
        name: baseline
        for name, baseline in BASELINES.items()
        if not baseline.scalar or baseline.scalar in pairs.scalar_names
    }
