"""Scalars of single models on one scale: what was measured of them alone, before any merge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from miscible.predict.pairs import Floats, Pairs

REDUNDANT = ("zero_shot", "finetuned")
"""Of the base's score, a model's own, and their ratio, two tell the third: with the first and the
ratio in the table, a model's own score is not used once more."""


@dataclass(frozen=True)
class Scalars:
    """Centre and scale of every scalar over the models in training.

    Attributes:
        names: S names.
        centre, scale: float64 [S]; a scale of 0 is a scalar that says nothing.
    """

    names: tuple[str, ...]
    centre: Floats
    scale: Floats

    @classmethod
    def of(cls, pairs: Pairs) -> Scalars:
        """Take the scales of the models that have a pair."""
        names = [n for n in pairs.scalar_names if not _redundant(n, pairs.scalar_names)]
        columns = [pairs.scalar_names.index(name) for name in names]
        held = pairs.scalars[pairs.seen()][:, columns]
        there = np.isfinite(held)
        count = np.maximum(there.sum(axis=0), 1)
        centre = np.where(there, held, 0.0).sum(axis=0) / count
        scale = np.sqrt((np.where(there, held - centre, 0.0) ** 2).sum(axis=0) / count)
        scale = np.where(scale > 1e-12 * np.abs(centre), scale, 0.0)
        return cls(tuple(names), centre, scale)

    def apply(self, pairs: Pairs) -> Floats:
        """Return float64 [T, S] of all models of *pairs*; what is missing is 0, the mean."""
        place = {name: n for n, name in enumerate(pairs.scalar_names)}
        aligned = np.full((len(pairs.models), len(self.names)), np.nan)
        for n, name in enumerate(self.names):
            if name in place:
                aligned[:, n] = pairs.scalars[:, place[name]]
        scaled = (aligned - self.centre) / np.where(self.scale > 0, self.scale, 1.0)
        found: Floats = np.where(np.isfinite(scaled) & (self.scale > 0), scaled, 0.0)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "names": list(self.names), "centre": self.centre.tolist(), "scale": self.scale.tolist(),
        }  # fmt: skip

    @classmethod
    def from_dict(cls, held: Mapping[str, Any]) -> Scalars:
        """Return what `as_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: if it is not that.
        """
        names = tuple(str(name) for name in held["names"])
        centre, scale = (np.asarray(held[key], dtype=np.float64) for key in ("centre", "scale"))
        if not len(names) == len(centre) == len(scale):
            raise ValueError("names, centres and scales of scalars differ in number")
        return cls(names, centre, scale)


def _redundant(name: str, among: Sequence[str]) -> bool:
    base, own = REDUNDANT
    return name == own and base in among and len(among) > len(REDUNDANT)
