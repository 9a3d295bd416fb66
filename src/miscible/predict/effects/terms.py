"""What the effects model knows of models and pairs before they are merged, as covariances."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.measure.contract import METRICS
from miscible.predict.effects.covariance import Merges, Similarity, covariances
from miscible.predict.effects.profiles import Profiles
from miscible.predict.effects.scalars import Scalars
from miscible.predict.pairs import Floats, Pairs

MOST_SCALARS = 4
"""Scalars whose weights are told apart; where there are more, all weigh the same."""
OTHER = "other"
"""The category of metrics that miscible does not know."""


@dataclass(frozen=True)
class Terms:
    """Parts of metrics and scalars of the training models, to which others are compared.

    Attributes:
        categories: of metrics that make a model's profile; all where a table has none of these.
        profiles, scalars: see there.
        known: float64 [S] by training model, its scaled scalars.
    """

    categories: tuple[str, ...]
    profiles: Profiles
    scalars: Scalars
    known: Mapping[str, Floats]

    @classmethod
    def of(cls, pairs: Pairs, categories: tuple[str, ...]) -> Terms:
        """Take them from training pairs."""
        scalars = Scalars.of(pairs)
        scaled = scalars.apply(pairs)
        known = {pairs.models[n]: scaled[n] for n in np.flatnonzero(pairs.seen())}
        return cls(categories, Profiles.of(pairs), scalars, known)

    def between(self, left: Pairs, right: Pairs) -> dict[str, Floats]:
        """Return float64 [2 n, 2 m] by source: covariances of directed merges.

        First stand the n (m) scores on the tasks of the first models, then those on the second's.
        What is known of models that were not in training is read from both sides' pairs.
        """
        general: dict[str, Floats] = {}
        scaled = dict(self.known)
        specials = []
        for pairs in (left, right):
            parts, special = self.profiles.apart(pairs)
            columns = self._categories(self.profiles.special_scale)
            specials.append({name: np.tile(special[:, of], (2, 1)) for name, of in columns.items()})
            general = {**parts, **general}
            rows = self.scalars.apply(pairs)
            for n in np.flatnonzero(pairs.seen()):
                scaled.setdefault(pairs.models[n], rows[n])
        place = {name: n for n, name in enumerate(general)}
        features = np.array([general[name] for name in place])
        alike = self._similarity(features, np.array([scaled[name] for name in place]))
        sides = [
            _directed(pairs, place, special)
            for pairs, special in zip((left, right), specials, strict=True)
        ]
        return covariances(sides[0], sides[1], alike)

    def _similarity(self, general: Floats, scalars: Floats) -> Similarity:
        kernels: dict[str, Floats] = {}
        for name, columns in self._categories(self.profiles.general_scale).items():
            part = general[:, columns]
            kernels[name] = part @ part.T / len(columns)
        chosen = [kernels[name] for name in self.categories if name in kernels]
        every = _mean(list(kernels.values()))
        names = [n for n, s in zip(self.scalars.names, self.scalars.scale, strict=True) if s > 0]
        held = scalars[:, self.scalars.scale > 0]
        each = {name: np.outer(row, row) for name, row in zip(names, held.T, strict=True)}
        return Similarity(
            models=len(general),
            each=each if len(each) <= MOST_SCALARS else {},
            scalars=_mean(list(each.values())),
            profile=_mean(chosen) if chosen else every,
            metrics=every,
        )

    def _categories(self, scale: Floats) -> dict[str, list[int]]:
        """Return the columns of metrics whose parts have a scale, by category."""
        found: dict[str, list[int]] = {}
        for column in np.flatnonzero(scale > 0):
            found.setdefault(_category(self.profiles.metrics[column]), []).append(int(column))
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "categories": list(self.categories), "profiles": self.profiles.as_dict(),
            "scalars": self.scalars.as_dict(),
            "known": {name: row.tolist() for name, row in self.known.items()},
        }  # fmt: skip

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Terms:
        """Return what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not that.
        """
        scalars = Scalars.from_dict(held["scalars"])
        known = {str(name): np.asarray(row, float) for name, row in held["known"].items()}
        if any(row.shape != (len(scalars.names),) for row in known.values()):
            raise ValueError("a model has not as many scalars as there are names of them")
        categories = tuple(str(name) for name in held["categories"])
        return cls(categories, Profiles.from_dict(held["profiles"]), scalars, known)


def means(sources: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return float64 [n, m] by source: covariances of the means of both directions."""
    found = {}
    for name, held in sources.items():
        n, m = held.shape[0] // 2, held.shape[1] // 2
        found[name] = held.reshape(2, n, 2, m).mean(axis=(0, 2))
    return found


def _directed(pairs: Pairs, place: Mapping[str, int], special: Mapping[str, Floats]) -> Merges:
    number = np.array([place.get(name, -1) for name in pairs.models], dtype=np.int64)
    first, second = number[pairs.first], number[pairs.second]
    return Merges(np.concatenate([first, second]), np.concatenate([second, first]), special)


def _mean(kernels: list[Floats]) -> Floats | None:
    return np.mean(kernels, axis=0) if kernels else None


def _category(metric: str) -> str:
    return METRICS.get(metric).category if metric in METRICS else OTHER
