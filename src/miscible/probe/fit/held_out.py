"""Probes fitted on training rows, their penalty chosen on development rows, scored on test rows.

All layers and label columns (the labels of a task, its control labels) are solved together, in
runs of layers that fit in about 256 MiB. Nothing is random.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import DatasetError
from miscible.probe.fit.coordinates import coordinates, directions, layer_chunks
from miscible.probe.fit.linear import PENALTIES
from miscible.probe.fit.penalty_path import PenaltyPath
from miscible.probe.fit.ridge import solve_ridge
from miscible.probe.fit.standardise import check_finite, standardised

Features = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

_WORKSPACES = 40
"""Copies of the weights that the path and its L-BFGS hold, in float32."""


class Split(NamedTuple):
    """Indices of the rows to fit, to choose the penalty on, and to score; int64, disjoint."""

    train: Indices
    dev: Indices
    test: Indices


class HeldOut(NamedTuple):
    """Scores of rows that the probes never saw.

    Attributes:
        scores: float64. Of classes: natural log-probabilities [columns, layers, rows, classes],
            -inf for a class that no training row of the column has. Of values: predictions
            [columns, layers, rows]. The rows are those of `Split.test`, or all if cross-fitted.
        penalties: chosen, in units of the width (see `miscible.probe.fit.linear.PENALTIES`),
            [columns, layers], or [columns, layers, folds] if cross-fitted.
        converged: whether all fits behind the scores of a layer reached the tolerance, [layers].
    """

    scores: npt.NDArray[np.float64]
    penalties: npt.NDArray[np.float64]
    converged: npt.NDArray[np.bool_]


def fit_classes(
    features: Features,
    labels: npt.NDArray[np.int64],
    classes: int,
    split: Split,
    penalties: Sequence[float] = PENALTIES,
    *,
    whole_grid: bool = False,
) -> HeldOut:
    """Fit multinomial logistic regressions with an L2 penalty on the weights.

    Features are standardised on the training rows; the intercept is not penalised; the penalty of
    least development log-loss is taken, the strongest of equals, and the fit is not repeated with
    the development rows. Rows of classes that no training row of the column has are left out of
    the development loss, and get -inf for their own class if they are test rows: count them.

    Args:
        features: finite, [rows, layers, width].
        labels: class of each row, 0 ... classes - 1, [columns, rows].
        classes: number of classes.
        split: which rows serve for what.
        penalties: grid to choose from, strongest first. Where the development loss has passed its
            minimum by 5 %, or is below 0.02 nats a row, weaker penalties are not tried
        whole_grid: unless this is set.

    Raises:
        DatasetError: features that are not finite, a part of the split without rows, or labels
            that are no classes.
    """
    _check(features, labels, split)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise DatasetError(
            f"labels must be classes from 0 to {classes - 1}. "
            f"Got {labels.min()} to {labels.max()} instead."
        )
    train, dev, test = split
    others = np.concatenate([dev, test])
    marks = torch.from_numpy(labels[:, np.concatenate([train, others])])
    columns, layers = len(labels), features.shape[1]
    scores = np.empty((columns, layers, len(test), classes))
    chosen = np.empty((columns, layers))
    converged = np.empty(layers, dtype=bool)
    size = directions(len(train), len(others), features.shape[2], classes, columns) + 1
    bytes_of_a_layer = 24 * len(marks[0]) * size + 4 * columns * classes * (
        _WORKSPACES * size + 8 * len(train) + 4 * len(others)
    )
    grid = np.asarray(penalties)
    features = np.ascontiguousarray(features)
    for part in layer_chunks(layers, bytes_of_a_layer):
        places = coordinates(features, part, train, others, classes, columns)
        path = PenaltyPath(places, marks, len(train), len(dev), classes, penalties)
        found = path.choose(whole_grid)
        shape = (len(places.training), columns)
        logs = path.log_probabilities(found.weights, places.others[:, len(dev) :])
        scores[:, part] = logs.mT.reshape(*shape, len(test), classes).transpose(0, 1).numpy()
        chosen[:, part] = grid[found.penalty.view(shape).T.numpy()]
        converged[part] = found.converged.view(shape).all(dim=1).numpy()
    return HeldOut(scores, chosen, converged)


def fit_values(
    features: Features,
    values: npt.NDArray[np.float64],
    split: Split,
    penalties: Sequence[float] = PENALTIES,
) -> HeldOut:
    """Fit ridge regressions; see `fit_classes` for all that is not said here.

    Args:
        features: finite, [rows, layers, width].
        values: finite, [columns, rows].
        split: which rows serve for what.
        penalties: grid, strongest first; the one of least squared development error is taken.

    Raises:
        DatasetError: features or values that are not finite, or a part of the split without rows.
    """
    _check(features, values, split)
    if not np.isfinite(values).all():
        raise DatasetError("values to predict must be finite.", fix="Leave out their rows.")
    train, dev, test = split
    targets = torch.from_numpy(values.astype(np.float64))
    columns, layers = len(values), features.shape[1]
    scores = np.empty((columns, layers, len(test)))
    chosen = np.empty((columns, layers))
    strengths = torch.tensor(penalties).double()
    others = np.concatenate([dev, test])
    features = np.ascontiguousarray(features)
    rows, rest = (
        torch.empty(len(part), features.shape[2], dtype=torch.float64) for part in (train, others)
    )
    for layer in range(layers):
        standardised(features, layer, train, others, (rows, rest))
        slopes, intercept = solve_ridge(rows, targets[:, train], strengths)
        predicted = slopes @ rest.mT + intercept
        error = (predicted[..., : len(dev)] - targets[:, dev]).square().sum(dim=-1)
        # argmin keeps the first of equals, which is the strongest penalty.
        best = error.argmin(dim=0)
        scores[:, layer] = predicted[best, torch.arange(columns), len(dev) :].numpy()
        chosen[:, layer] = np.asarray(penalties)[best.numpy()]
    return HeldOut(scores, chosen, np.ones(layers, dtype=bool))


def cross_fit_classes(
    features: Features,
    labels: npt.NDArray[np.int64],
    classes: int,
    folds: Indices,
    penalties: Sequence[float] = PENALTIES,
) -> HeldOut:
    """Score every row once by `fit_classes`: fold k is tested, fold k + 1 chooses the penalty.

    Args:
        features, labels, classes, penalties: see `fit_classes`.
        folds: fold of each row, 0 ... K - 1, [rows]; after the last fold comes the first.

    Raises:
        DatasetError: see `fit_classes`; or fewer than 3 folds.
    """
    return _cross_fit(folds, lambda split: fit_classes(features, labels, classes, split, penalties))


def cross_fit_values(
    features: Features,
    values: npt.NDArray[np.float64],
    folds: Indices,
    penalties: Sequence[float] = PENALTIES,
) -> HeldOut:
    """Predict every row once by `fit_values`, with the folds of `cross_fit_classes`.

    Raises:
        DatasetError: see `fit_values`; or fewer than 3 folds.
    """
    return _cross_fit(folds, lambda split: fit_values(features, values, split, penalties))


def _cross_fit(folds: Indices, fit: Callable[[Split], HeldOut]) -> HeldOut:
    splits = list(splits_of(folds))
    parts = [fit(split) for split in splits]
    first = parts[0].scores
    scores = np.empty((*first.shape[:2], len(folds), *first.shape[3:]))
    for split, part in zip(splits, parts, strict=True):
        scores[:, :, split.test] = part.scores
    penalties = np.stack([part.penalties for part in parts], axis=-1)
    return HeldOut(scores, penalties, np.all([part.converged for part in parts], axis=0))


def splits_of(folds: Indices) -> Iterator[Split]:
    """Yield a split for each fold: it is tested, the next one chooses the penalty.

    Raises:
        DatasetError: fewer than 3 folds.
    """
    count = int(folds.max()) + 1
    if count < 3:
        raise DatasetError(f"a cross-fitted probe needs at least 3 folds. Got {count} instead.")
    for fold in range(count):
        test, dev = folds == fold, folds == (fold + 1) % count
        yield Split(*(np.flatnonzero(part) for part in (~(test | dev), dev, test)))


def _check(features: Features, targets: npt.NDArray[np.generic], split: Split) -> None:
    if targets.shape[1] != len(features):
        raise DatasetError(
            f"there are {len(features)} rows of features and {targets.shape[1]} of labels."
        )
    for name, rows in split._asdict().items():
        if not len(rows):
            raise DatasetError(f"the {name} part of the split has no rows.")
    check_finite(features)
