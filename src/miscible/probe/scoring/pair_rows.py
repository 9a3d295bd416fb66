"""From the encoding of minimal pairs to result rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.probe.encoding.encode import Encoding
from miscible.probe.fit.linear import CrossFit, cross_fit
from miscible.probe.layout.pairs import PairLayout
from miscible.probe.scoring.intervals import (
    Interval,
    percentile,
    resampled_means,
    resampled_weights,
    wilson,
)
from miscible.probe.scoring.rows import Rows, cluster_names

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
class PairRows:
    """The rows of one model on one data set of minimal pairs.

    Attributes:
        model: name for the rows.
        layout: pairs, groups and folds.
        encoding: states and log-probabilities of all sentences.
        good, bad: indices of the pairs' sentences among the texts, [pairs].
        good_states, bad_states: the same among the reads, [pairs].
        marks: flags for every score.
    """

    model: str
    layout: PairLayout
    encoding: Encoding
    good: Indices
    bad: Indices
    good_states: Indices
    bad_states: Indices
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.rows = Rows(self.model, self.layout.dataset, self.marks)

    def add_probes(self, control: bool = False) -> None:
        """Add accuracy and macro-F1 of out-of-fold probes for each layer.

        Args:
            control: also fit control labels, for selectivity.
        """
        rows = np.concatenate([self.good_states, self.bad_states])
        states = self.encoding.states[rows]
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

    def add_words(self) -> None:
        """Add the accuracy of the same probe on bags of words (``bag_of_words_accuracy``)."""
        good, bad = np.split(self.layout.words_right, 2)
        means = resampled_means(np.stack([good, bad], axis=1), self._weights)
        estimate = float(accuracy(good.mean(), bad.mean()))
        self._add("bag_of_words_accuracy", None, estimate, percentile(means.mean(axis=1)), 0.5)

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
        flags: Sequence[str] = (),
    ) -> None:
        self.rows.add(
            metric, layer, estimate, interval, len(self.layout.dataset.pairs), baseline=baseline,
            selectivity=selectivity, flags=flags,
        )  # fmt: skip

    def _add_items(self, metric: str, layer: int | None, values: Array) -> None:
        ids = [pair.id for pair in self.layout.dataset.pairs]
        self.rows.add_items(metric, layer, ids, self._clusters, values)

    def _fail(self, what: str, which: str) -> None:
        self.rows.fail(what, f"{which} are not finite")

    @cached_property
    def _weights(self) -> Array:
        return resampled_weights(self.layout.groups, self.layout.seed)

    @cached_property
    def _clusters(self) -> list[str]:
        return cluster_names(self.layout.groups, [pair.id for pair in self.layout.dataset.pairs])

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
