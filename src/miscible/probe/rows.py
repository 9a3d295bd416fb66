"""From the encoding of a data set's sentences to result rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.probe.encode import Encoding
from miscible.probe.intervals import (
    Interval,
    percentile,
    resampled_means,
    resampled_weights,
    wilson,
)
from miscible.probe.linear import CrossFit, cross_fit
from miscible.probe.plan import Layout
from miscible.records import FailureRow, ItemRow, ScoreRow

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


def accuracy(good_right: Array, bad_right: Array) -> Array:
    """Return accuracy from the shares of good and of bad sentences called rightly, any shape."""
    return (good_right + bad_right) / 2


def macro_f1(good_right: Array, bad_right: Array) -> Array:
    """Return the mean of both classes' F1 from the shares called rightly, any shape.

    Classes are balanced; with recalls g and b, F1 is 2g / (2 + g - b) and 2b / (2 + b - g).
    """
    first = 2 * good_right / (2 + good_right - bad_right)
    second = 2 * bad_right / (2 + bad_right - good_right)
    return (first + second) / 2


PROBE_METRICS = {"probe_accuracy": (accuracy, 1 / 2), "probe_macro_f1": (macro_f1, 1 / 3)}
"""Statistic, and its value for the constant predictor (F1 is 2/3 for its class and 0 else)."""


@dataclass
class DatasetRows:
    """Collects the rows of one model on one data set.

    Attributes:
        model: name for the rows.
        layout: pairs, groups and folds.
        encoding: states and log-probabilities of all sentences.
        good, bad: indices of the pairs' sentences in *encoding*, [pairs].
        marks: flags for every score.
    """

    model: str
    layout: Layout
    encoding: Encoding
    good: Indices
    bad: Indices
    marks: tuple[str, ...] = ()
    scores: list[ScoreRow] = field(default_factory=list)
    items: list[ItemRow] = field(default_factory=list)
    failures: list[FailureRow] = field(default_factory=list)

    def add_probes(self, control: bool = False) -> None:
        """Add accuracy and macro-F1 of out-of-fold probes for each layer.

        Args:
            control: also fit control labels, for selectivity.
        """
        states = np.concatenate([self.encoding.states[self.good], self.encoding.states[self.bad]])
        broken = (~np.isfinite(states).all(axis=2)).sum(axis=0)
        truth = np.repeat([True, False], len(self.good))
        labels = [truth]
        if control:
            labels.append(np.tile(self.layout.orientations, 2) == truth)
        folds = np.tile(self.layout.folds, 2)
        fit = cross_fit(states[:, broken == 0], np.stack(labels), folds)
        right = ((fit.scores > 0) == np.stack(labels)[:, None]).astype(np.float64)
        fitted = 0
        for layer, count in zip(self.encoding.layers, broken.tolist(), strict=True):
            if count:
                self._add_broken_layer(layer, f"{count} of {len(states)}")
                continue
            good_right, bad_right = np.split(right[:, fitted], 2, axis=1)
            self._add_layer(layer, good_right, bad_right, _finished(fit, fitted))
            fitted += 1

    def add_preference(self) -> None:
        """Add how often, and by how much, the model finds the good sentence more probable.

        ``preference`` is the share of pairs with log p(good) > log p(bad), a tie counting half.
        ``preference_margin`` is the mean of log p(good) / tokens(good) - log p(bad) / tokens(bad),
        in nats per token.
        """
        total, tokens = self.encoding.log_probability, self.encoding.tokens
        first, second = total[self.good], total[self.bad]
        broken = int((~np.isfinite(first) | ~np.isfinite(second)).sum())
        if broken:
            for metric, chance in (("preference", 0.5), ("preference_margin", 0.0)):
                self._add(metric, None, math.nan, None, chance, flags=("nonfinite",))
            self._fail("preference", f"log-probabilities of {broken} of {len(first)} pairs")
            return
        wins = (np.sign(first - second) + 1) / 2
        margins = first / tokens[self.good] - second / tokens[self.bad]
        for metric, values, chance in (
            ("preference", wins, 0.5), ("preference_margin", margins, 0.0),
        ):  # fmt: skip
            interval = percentile(resampled_means(values[:, None], self._weights)[:, 0])
            if metric == "preference" and np.ptp(values) == 0:
                interval = wilson(float(values[0]), self._groups)
            self._add(metric, None, float(values.mean()), interval, chance)
            self._add_items(metric, None, values)

    def _add_layer(self, layer: int, good: Array, bad: Array, flags: tuple[str, ...]) -> None:
        # good, bad: whether the sentence was called rightly, [columns, pairs].
        if _constant_in_every_fold(good[0], bad[0], self.layout.folds):
            flags = ("collapsed", *flags)
        means = resampled_means(np.stack([good[0], bad[0]], axis=1), self._weights)
        for metric, (statistic, chance) in PROBE_METRICS.items():
            estimate, *control = statistic(good.mean(axis=1), bad.mean(axis=1)).tolist()
            interval = percentile(statistic(means[:, 0], means[:, 1]))
            if np.ptp(good[0]) == np.ptp(bad[0]) == 0:
                interval = wilson(estimate, self._groups)
            selectivity = estimate - control[0] if control else math.nan
            self._add(metric, layer, estimate, interval, chance, selectivity, flags)
        self._add_items("probe_accuracy", layer, accuracy(good[0], bad[0]))

    def _add_broken_layer(self, layer: int, share: str) -> None:
        for metric, (_, chance) in PROBE_METRICS.items():
            self._add(metric, layer, math.nan, None, chance, flags=("nonfinite",))
        self._fail(f"layer {layer}", f"activations of {share} sentences")

    def _add(
        self,
        metric: str,
        layer: int | None,
        estimate: float,
        interval: Interval | None,
        baseline: float,
        selectivity: float = math.nan,
        flags: tuple[str, ...] = (),
    ) -> None:
        dataset = self.layout.dataset
        low, high = interval or (math.nan, math.nan)
        self.scores.append(
            ScoreRow(
                model=self.model,
                domain="internals",
                dataset=dataset.name,
                metric=metric,
                estimate=estimate,
                low=low,
                high=high,
                n=len(dataset.pairs),
                layer=layer,
                phenomenon=dataset.phenomenon,
                competence=dataset.competence,
                baseline=baseline,
                selectivity=selectivity,
                flags=",".join((*flags, *self.marks)),
            )
        )

    def _add_items(self, metric: str, layer: int | None, values: Array) -> None:
        name = self.layout.dataset.name
        self.items.extend(
            ItemRow(self.model, "internals", name, metric, pair.id, cluster, value, 1.0, layer)
            for pair, cluster, value in zip(
                self.layout.dataset.pairs, self._clusters, values.tolist(), strict=True
            )
        )

    def _fail(self, what: str, which: str) -> None:
        step = f"probe {self.layout.dataset.name}, {what}"
        self.failures.append(FailureRow(self.model, step, f"{which} are not finite"))

    @cached_property
    def _weights(self) -> Array:
        return resampled_weights(self.layout.groups, self.layout.seed)

    @cached_property
    def _clusters(self) -> list[str]:
        first: dict[int, str] = {}
        named = zip(self.layout.groups.tolist(), self.layout.dataset.pairs, strict=True)
        return [first.setdefault(group, pair.id) for group, pair in named]

    @property
    def _groups(self) -> int:
        return int(self.layout.groups.max()) + 1


def _finished(fit: CrossFit, place: int) -> tuple[str, ...]:
    return () if fit.converged[place] else ("unconverged",)


def _constant_in_every_fold(good_right: Array, bad_right: Array, folds: Indices) -> bool:
    """Whether each fold's probe gave all its test sentences one label."""
    for fold in range(int(folds.max()) + 1):
        called_good = np.concatenate([good_right[folds == fold], 1 - bad_right[folds == fold]])
        if np.ptp(called_good) > 0:
            return False
    return True
