"""From the encoding of a task's spans to result rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from miscible.probe.encoding.encode import Encoding
from miscible.probe.fit.holmes_compat import holmes_scores
from miscible.probe.layout.tasks import TaskLayout
from miscible.probe.scoring.agreement import METRICS, Agreement
from miscible.probe.scoring.code_rows import add_code_lengths
from miscible.probe.scoring.intervals import Interval
from miscible.probe.scoring.predictions import ProbeKind, predict, word_predictions
from miscible.probe.scoring.rows import Rows, cluster_names

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
CHUNK_BYTES = 2**28
"""Features that are laid out for fitting at a time."""


@dataclass
class TaskRows:
    """The rows of one model on one task.

    Attributes:
        model: name for the rows.
        layout: rows, labels and splits.
        encoding: states of all reads.
        reads: which of them each input of each row takes the mean of.
        marks: flags for every score.
    """

    model: str
    layout: TaskLayout
    encoding: Encoding
    reads: list[list[npt.NDArray[np.int64]]]
    marks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        unseen = self.layout.unseen
        marks = (*self.marks, f"unseen:{unseen}") if unseen else self.marks
        self.rows = Rows(self.model, self.layout.dataset, marks)

    def add_probes(self, control: bool = False, probe: ProbeKind = "linear") -> None:
        """Add the scores of held-out probes for each layer.

        Args:
            control: also fit control labels, for selectivity.
            probe: of a classification; another than the linear one is named by a flag.
        """
        flags = [probe] if probe != "linear" and self._classes else []
        targets = [self.layout.labels, *([self.layout.control] if control else [])]
        columns = np.stack(targets)
        for layers in self._chunks():
            features = self._features(layers)
            broken = (~np.isfinite(features).all(axis=2)).sum(axis=0)
            sound = np.flatnonzero(broken == 0)
            if len(sound):
                called, converged = predict(features[:, sound], columns, self.layout, probe)
            for place, count in enumerate(broken.tolist()):
                layer = self.encoding.layers[layers.start + place]
                if count:
                    self._add_broken(layer, f"{count} of {len(features)}")
                    continue
                number = int(np.searchsorted(sound, place))
                marks = flags if converged[number] else ["unconverged", *flags]
                self._add_layer(layer, called[:, number], marks)

    def add_words(self) -> None:
        """Add the scores of the same probe on bags of words (``bag_of_words_accuracy``, ...)."""
        called = word_predictions(self.layout)
        scores, intervals = self._judge.scores(called), self._judge.intervals(called)
        for metric in METRICS[self.layout.dataset.kind]:
            self.rows.add(
                metric.replace("probe", "bag_of_words"), None, scores[metric], intervals[metric],
                len(called), baseline=self._trivial[metric],
            )  # fmt: skip

    def add_code_lengths(self, control: bool = False) -> None:
        """Add the lengths of the online code of a classification's labels."""
        if not self._classes:
            return
        targets = [self.layout.labels, *([self.layout.control] if control else [])]
        columns = np.stack(targets).astype(np.int64)
        for layers in self._chunks():
            add_code_lengths(
                self.rows, self._features(layers), self.encoding.layers[layers], columns,
                self.layout.groups, self._classes, self.layout.seed,
            )  # fmt: skip

    def add_reference_probes(self) -> None:
        """Add the scores of Holmes' own probe (``holmes_macro_f1``, ``holmes_pearson``).

        They are means over its five seeds, between the lowest and the highest of them; one split.
        """
        split = self.layout.rounds[0]
        metric = "holmes_macro_f1" if self._classes else "holmes_pearson"
        labels = self.layout.labels.astype(np.int64) if self._classes else self.layout.labels
        for layers in self._chunks():
            features = self._features(layers)
            for place, layer in enumerate(self.encoding.layers[layers]):
                scores = holmes_scores(features[:, place], labels, self._classes or 1, split)
                self.rows.add(
                    metric, layer, float(scores.mean()),
                    Interval(float(scores.min()), float(scores.max())), len(split.test),
                )  # fmt: skip

    def _add_layer(self, layer: int, called: Array, marks: Sequence[str]) -> None:
        # called: predictions for the rows that are tested, [columns, tested].
        flags = ["collapsed", *marks] if np.ptp(called[0]) == 0 else list(marks)
        scores, intervals = self._judge.scores(called[0]), self._judge.intervals(called[0])
        control = self._control.scores(called[1]) if len(called) > 1 else {}
        for metric, score in scores.items():
            self.rows.add(
                metric, layer, score, intervals[metric], called.shape[1],
                baseline=self._trivial[metric], flags=flags,
                selectivity=score - control[metric] if control else math.nan,
            )  # fmt: skip
        metric, values = self._judge.items(called[0])
        self.rows.add_items(metric, layer, self._items, self._clusters, values)

    def _add_broken(self, layer: int, share: str) -> None:
        for metric in METRICS[self.layout.dataset.kind]:
            self.rows.add(
                metric, layer, math.nan, None, len(self.layout.tested),
                baseline=self._trivial[metric], flags=("nonfinite",),
            )  # fmt: skip
        self.rows.fail(f"layer {layer}", f"activations of {share} examples are not finite")

    def _chunks(self) -> Iterator[slice]:
        inputs, width = len(self.reads[0]), self.encoding.states.shape[2]
        a_layer = 4 * len(self.reads) * inputs * width
        size = max(1, CHUNK_BYTES // a_layer)
        count = len(self.encoding.layers)
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def _features(self, layers: slice) -> Features:
        """Return the inputs' vectors side by side, float32 [rows, layers, inputs * width]."""
        states = self.encoding.states[:, layers]
        parts = []
        for place in range(len(self.reads[0])):
            rows = [inputs[place] for inputs in self.reads]
            first = np.asarray([held[0] for held in rows])
            part = states[first]
            for row, held in enumerate(rows):
                if len(held) > 1:
                    part[row] = states[held].mean(axis=0)
            parts.append(part)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    @property
    def _classes(self) -> int:
        # None of a regression.
        dataset = self.layout.dataset
        return len(dataset.classes) if dataset.kind == "classification" else 0

    @cached_property
    def _judge(self) -> Agreement:
        return self._agreement(self.layout.labels)

    @cached_property
    def _control(self) -> Agreement:
        return self._agreement(self.layout.control)

    def _agreement(self, labels: Array) -> Agreement:
        tested = self.layout.tested
        return Agreement(
            self.layout.dataset.kind, labels[tested], self.layout.groups[tested], self.layout.seed
        )

    @cached_property
    def _trivial(self) -> dict[str, float]:
        return self._judge.trivial(self.layout.constant)

    @cached_property
    def _items(self) -> list[str]:
        # A row that several splits test is an item of each.
        examples, splits = self.layout.examples, self.layout.splits
        if len(splits) < 2:
            return [examples[row].id for row in self.layout.tested.tolist()]
        return [
            f"{examples[row].id}/{number}"
            for number, split in enumerate(splits)
            for row in split.test.tolist()
        ]

    @cached_property
    def _clusters(self) -> list[str]:
        return cluster_names(self.layout.groups[self.layout.tested], self._items)
