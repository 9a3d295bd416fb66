"""What is known of single models before they are merged: the general part of their pairs' metrics.

A metric of two models is taken apart as in a diallel cross (Griffing, 1956)::

    x_ij = centre + g_i + g_j + s_ij

g_i is *general*: how model i stands to any partner; s_ij is *special* to the pair. The general
parts are best linear unbiased predictions (Henderson, 1975): a model that was measured with few
partners is drawn to the mean, by the ratio of the two variances in training. So a new model needs
no more than its metrics with one other, known or new.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.pairs import Floats, Ints, Pairs

LEAST = 1e-9
"""A part that varies less than this share of a metric's standard deviation is rounding."""


@dataclass(frozen=True)
class Profiles:
    """The parts of all metrics in training, by which those of other pairs are taken apart too.

    Attributes:
        models, metrics: T and M names.
        centre, scale: float64 [M], of the training pairs; a scale of 0 is a metric that says
            nothing there.
        shrinkage: float64 [M], variance of the special over that of the general parts.
        general: float64 [T, M], in units of `scale`.
        general_scale, special_scale: float64 [M], standard deviations of the parts in training.
    """

    models: tuple[str, ...]
    metrics: tuple[str, ...]
    centre: Floats
    scale: Floats
    shrinkage: Floats
    general: Floats
    general_scale: Floats
    special_scale: Floats

    @classmethod
    def of(cls, pairs: Pairs) -> Profiles:
        """Take the metrics of training pairs apart."""
        seen = np.flatnonzero(pairs.seen())
        place = np.full(len(pairs.models), -1, dtype=np.int64)
        place[seen] = np.arange(len(seen))
        first, second = place[pairs.first], place[pairs.second]
        there = np.isfinite(pairs.metrics)
        count = np.maximum(there.sum(axis=0), 1)
        centre = np.where(there, pairs.metrics, 0.0).sum(axis=0) / count
        spread = np.where(there, pairs.metrics - centre, 0.0)
        scale = np.sqrt((spread**2).sum(axis=0) / count)
        scale = np.where(scale > 1e-12 * np.abs(centre), scale, 0.0)
        values = _scaled(pairs.metrics, centre, scale)

        general = np.zeros((len(seen), len(centre)))
        shrinkage = np.ones(len(centre))
        special = np.zeros_like(values)
        for rows, columns in _alike(values, scale):
            of, i, j = values[np.ix_(rows, columns)], first[rows], second[rows]
            shrinkage[columns] = _ratios(of, i, j, len(seen))
            found = _general(of, i, j, len(seen), shrinkage[columns])
            general[:, columns] = found
            special[np.ix_(rows, columns)] = of - found[i] - found[j]
        return cls(
            tuple(pairs.models[n] for n in seen), pairs.metric_names, centre, scale, shrinkage,
            general, general.std(axis=0), special.std(axis=0),
        )  # fmt: skip

    def apart(self, pairs: Pairs) -> tuple[dict[str, Floats], Floats]:
        """Take the metrics of any pairs apart.

        Returns:
            The standardised general parts of every model of *pairs* and of training, float64 [M]
            by name, and the standardised special parts of the pairs, float64 [n, M]. Missing
            cells are 0.
        """
        values = self._aligned(pairs)
        known = {name: row for row, name in enumerate(self.models)}
        new = [pairs.models[n] for n in np.flatnonzero(pairs.seen())]
        new = [name for name in new if name not in known]
        place = {name: row for row, name in enumerate([*self.models, *new])}
        number = np.array([place.get(name, -1) for name in pairs.models], dtype=np.int64)
        first, second = number[pairs.first], number[pairs.second]
        general = np.concatenate([self.general, np.zeros((len(new), len(self.metrics)))])
        special = np.zeros_like(values)
        for rows, columns in _alike(values, self.scale):
            of, i, j = values[np.ix_(rows, columns)], first[rows], second[rows]
            found = general[:, columns]
            if new:
                start, left = len(self.models), of - found[i] - found[j]
                found[start:] = _general(
                    left, i - start, j - start, len(new), self.shrinkage[columns]
                )
                general[start:, columns] = found[start:]
            special[np.ix_(rows, columns)] = of - found[i] - found[j]
        general, special = _over(general, self.general_scale), _over(special, self.special_scale)
        return {name: general[row] for name, row in place.items()}, special

    def _aligned(self, pairs: Pairs) -> Floats:
        column = {name: n for n, name in enumerate(pairs.metric_names)}
        values = np.full((len(pairs), len(self.metrics)), np.nan)
        for n, name in enumerate(self.metrics):
            if name in column:
                values[:, n] = pairs.metrics[:, column[name]]
        return _scaled(values, self.centre, self.scale)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        arrays = ("centre", "scale", "shrinkage", "general", "general_scale", "special_scale")
        return {
            "models": list(self.models), "metrics": list(self.metrics),
            **{name: getattr(self, name).tolist() for name in arrays},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Profiles:
        """Return what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not that.
        """
        models, metrics = _names(held["models"]), _names(held["metrics"])
        per_metric = (len(metrics),)
        return cls(
            models, metrics, _array(held["centre"], per_metric), _array(held["scale"], per_metric),
            _array(held["shrinkage"], per_metric),
            _array(held["general"], (len(models), len(metrics))),
            _array(held["general_scale"], per_metric), _array(held["special_scale"], per_metric),
        )  # fmt: skip


def _alike(values: Floats, scale: Floats) -> Iterator[tuple[Ints, Ints]]:
    """Yield rows and columns: metrics that are known of the same pairs, and say something."""
    there = np.isfinite(values)
    found: dict[bytes, list[int]] = {}
    for column in np.flatnonzero(there.any(axis=0) & (scale > 0)):
        found.setdefault(there[:, column].tobytes(), []).append(int(column))
    for columns in found.values():
        yield np.flatnonzero(there[:, columns[0]]), np.array(columns, dtype=np.int64)


def _ratios(values: Floats, first: Ints, second: Ints, models: int) -> Floats:
    """Return float64 [C], the variance of special over that of general parts.

    It is estimated from moments of least squares.
    """
    gram, moment = _normal(values, first, second, models)
    inverse = np.linalg.pinv(gram)
    general = inverse @ moment
    freedom = len(values) - np.linalg.matrix_rank(gram)
    if freedom <= 0:
        return np.ones(values.shape[1])
    left = values - general[first] - general[second]
    special = (left**2).sum(axis=0) / freedom
    spread = general.var(axis=0, ddof=1) - special * np.diag(inverse).mean()
    found: Floats = special / np.maximum(spread, 0.01 * values.var(axis=0) + LEAST)
    return found


def _general(values: Floats, first: Ints, second: Ints, models: int, shrinkage: Floats) -> Floats:
    """Return float64 [models, C], the general parts; places below 0 are already accounted for."""
    gram, moment = _normal(values, first, second, models)
    sizes, basis = np.linalg.eigh(gram)
    found: Floats = basis @ ((basis.T @ moment) / (sizes[:, None] + np.maximum(shrinkage, LEAST)))
    return found


def _normal(values: Floats, first: Ints, second: Ints, models: int) -> tuple[Floats, Floats]:
    incidence = np.zeros((len(values), models))
    for places in (first, second):
        rows = np.flatnonzero(places >= 0)
        incidence[rows, places[rows]] += 1
    return incidence.T @ incidence, incidence.T @ values


def _scaled(values: Floats, centre: Floats, scale: Floats) -> Floats:
    scaled: Floats = (values - centre) / np.where(scale > 0, scale, 1.0)
    return scaled


def _over(values: Floats, scale: Floats) -> Floats:
    there = scale > LEAST
    found: Floats = np.where(there, values / np.where(there, scale, 1.0), 0.0)
    return found


def _names(held: Sequence[Any]) -> tuple[str, ...]:
    return tuple(str(name) for name in held)


def _array(held: Any, shape: tuple[int, ...]) -> Floats:
    found = np.asarray(held, dtype=np.float64)
    if found.size == 0:
        found = found.reshape(shape)
    if found.shape != shape or not np.isfinite(found).all():
        raise ValueError(f"expected finite numbers of shape {shape}, found {found.shape}")
    return found
