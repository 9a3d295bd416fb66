"""Pairs of models: what is measured before any merge, and what came of merging them.

Every pair stands once, its two models in alphabetical order, so that nothing depends on the order
in which tables were written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from miscible.errors import MiscibleError, UnknownNameError, did_you_mean

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Target: TypeAlias = Literal["normalised", "raw"]
"""``raw``: the merge's score on the task of a parent. ``normalised``: that over the parent's own
score. The outcome of a pair is the mean over the tasks of its two parents."""

FAILED = "merges that failed (no outcome)"
UNMATCHED = "outcomes of pairs without metrics (not used)"
FIXES = {FAILED: "Merge these again.", UNMATCHED: "Name models alike in both tables."}
"""What is to be done where nothing is left, by the words under which it is counted."""
TARGETS: tuple[Target, ...] = ("normalised", "raw")


@dataclass(frozen=True)
class Pairs:
    """n pairs of T models with what is known of them before they are merged.

    Attributes:
        models: T names. A predictor knows models by name: the numbers below are this table's.
        first, second: int64 [n], places of a pair's models in `models`.
        metric_names, metrics: M names and float64 [n, M], NaN where a cell is missing.
        scalar_names, scalars: S names and float64 [T, S] of single models, NaN where missing.
            Models without a pair here have their scalars all the same: these are measured before
            any merge.
    """

    models: tuple[str, ...]
    first: Ints
    second: Ints
    metric_names: tuple[str, ...]
    metrics: Floats
    scalar_names: tuple[str, ...]
    scalars: Floats

    def __len__(self) -> int:
        return len(self.first)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Pairs:
        """Return some of the pairs; all models keep their places."""
        return replace(
            self, first=self.first[rows], second=self.second[rows], metrics=self.metrics[rows]
        )

    def only(self, names: Collection[str]) -> Pairs:
        """Return the same pairs with some of their metrics and scalars."""
        metrics = [n for n, name in enumerate(self.metric_names) if name in names]
        scalars = [n for n, name in enumerate(self.scalar_names) if name in names]
        return replace(
            self,
            metric_names=tuple(self.metric_names[n] for n in metrics),
            metrics=self.metrics[:, metrics],
            scalar_names=tuple(self.scalar_names[n] for n in scalars),
            scalars=self.scalars[:, scalars],
        )

    def seen(self) -> npt.NDArray[np.bool_]:
        """Return bool [T]: whether a model is in one of the pairs."""
        held = np.zeros(len(self.models), dtype=np.bool_)
        held[self.first] = held[self.second] = True
        return held

    def touches(self, models: npt.NDArray[np.bool_]) -> Ints:
        """Return int64 [n]: how many of a pair's two models are among *models*, bool [T]."""
        return models[self.first].astype(np.int64) + models[self.second].astype(np.int64)

    def relabelled(self, order: Ints, among: Pairs) -> Pairs:
        """Return the same pairs with the metrics and scalars of other models.

        Args:
            order: int64 [T], a permutation: model i gets what was measured of ``order[i]``.
            among: all pairs that were measured. What was not is missing (NaN).
        """
        place = np.full((len(self.models), len(self.models)), -1, dtype=np.int64)
        place[among.first, among.second] = place[among.second, among.first] = np.arange(len(among))
        rows = place[order[self.first], order[self.second]]
        metrics = np.where((rows >= 0)[:, None], among.metrics[rows], np.nan)
        return replace(self, metrics=metrics, scalars=self.scalars[order])

    def names(self) -> list[tuple[str, str]]:
        """Return the two names of every pair."""
        models = self.models
        return [(models[i], models[j]) for i, j in zip(self.first, self.second, strict=True)]


@dataclass(frozen=True)
class Examples:
    """Pairs that were merged by one method, and what came of it.

    Attributes:
        pairs: n pairs.
        directed: float64 [n, 2], the merge's score on the task of the first and of the second
            model; NaN where only the mean is known.
        mean: float64 [n], the mean of the two: what is predicted. Always finite.
    """

    pairs: Pairs
    directed: Floats
    mean: Floats

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Examples:
        """Return some of the examples; all models keep their places and scalars."""
        return Examples(self.pairs.take(rows), self.directed[rows], self.mean[rows])


@dataclass(frozen=True)
class Outcomes:
    """Scores of the merges of all pairs by one method: NaN where a merge failed or is missing.

    Attributes:
        directed: float64 [n, 2] by target.
        mean: float64 [n] by target.
    """

    directed: Mapping[Target, Floats]
    mean: Mapping[Target, Floats]


@dataclass(frozen=True)
class PairTable:
    """All measured pairs with their outcomes by method.

    Attributes:
        pairs: all pairs whose metrics were measured, merged or not.
        outcomes: by method, rows as in `pairs`.
        counts: how many rows, cells or columns each rule concerned when the tables were read.
    """

    pairs: Pairs
    outcomes: Mapping[str, Outcomes]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def methods(self) -> list[str]:
        """The methods that have outcomes, in alphabetical order."""
        return sorted(self.outcomes)

    def examples(self, method: str, target: Target = "normalised") -> Examples:
        """Return the pairs that a method has merged.

        Raises:
            UnknownNameError: if the table has no such method, with a suggestion.
            MiscibleError: if it has no outcome on the scale of *target*.
        """
        if method not in self.outcomes:
            raise UnknownNameError(
                f"the outcomes have no method named {method!r}.",
                fix=did_you_mean(method, self.outcomes),
            )
        held = self.outcomes[method]
        rows = np.flatnonzero(np.isfinite(held.mean[target]))
        if not len(rows):
            lost = [f"{rule}: {self.counts[rule]}" for rule in FIXES if self.counts.get(rule)]
            fixes = [fix for rule, fix in FIXES.items() if self.counts.get(rule)]
            raise MiscibleError(
                f"no merge by {method!r} has a {target} score{'; '.join(['', *lost])}.",
                fix=" ".join(fixes)
                or "Normalised scores need the columns norm_acc_a and "
                "norm_acc_b, or acc_a, acc_b and a table of models with the column finetuned; raw "
                "ones need acc_a and acc_b.",
            )
        return Examples(self.pairs.take(rows), held.directed[target][rows], held.mean[target][rows])
