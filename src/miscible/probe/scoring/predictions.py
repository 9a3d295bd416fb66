"""Predictions of probes for the rows that a layout tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from miscible.probe.fit.held_out import HeldOut, Split, fit_classes, fit_values
from miscible.probe.fit.linear import threads_for
from miscible.probe.fit.nonlinear import knn, mlp
from miscible.probe.layout.bag_of_words import word_counts, words_of
from miscible.probe.layout.tasks import TaskLayout

Array = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
ProbeKind: TypeAlias = Literal["linear", "mlp", "knn"]

PROBES: dict[ProbeKind, Callable[[Features, npt.NDArray[np.int64], int, Split], HeldOut]] = {
    "linear": fit_classes,
    "mlp": mlp,
    "knn": knn,
}
"""Probes of classifications; regressions are linear."""


_EQUAL = 1e-6
"""Where features say nothing weights are 0 but for rounding, and so are differences of scores."""


def predict(
    features: Features, columns: Array, layout: TaskLayout, probe: ProbeKind = "linear"
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return what probes say of the rows that are tested, and which layers converged.

    Args:
        features: [rows, layers, width].
        columns: labels to fit, [columns, rows].
        layout: which rows are for what.
        probe: of a classification.

    Returns:
        classes or values [columns, layers, tested], and [layers].
    """
    said, converged = [], np.ones(features.shape[1], dtype=bool)
    for split in layout.rounds:
        with threads_for(len(split.train)):
            if layout.dataset.kind == "classification":
                labels, classes = columns.astype(np.int64), len(layout.dataset.classes)
                fit = PROBES[probe](features, labels, classes, split)
                said.append(_called(fit.scores))
            else:
                fit = fit_values(features, columns, split)
                said.append(fit.scores)
        converged &= fit.converged
    return np.concatenate(said, axis=2), converged


def _called(scores: Array) -> Array:
    """Return the likeliest class, the first of those that are equal but for rounding."""
    likeliest = scores.max(axis=-1, keepdims=True)
    called: Array = (scores >= likeliest - _EQUAL).argmax(axis=-1).astype(np.float64)
    return called


def word_predictions(layout: TaskLayout) -> Array:
    """Return what a linear probe on bags of words says of the rows that are tested.

    No model has a part in it: it is computed once a layout.
    """
    if layout not in _of_words:
        texts = layout.dataset.texts
        features = word_counts([words_of(example, texts) for example in layout.examples])
        called, _ = predict(features, layout.labels[None], layout)
        _of_words[layout] = called[0, 0]
    return _of_words[layout]


_of_words: WeakKeyDictionary[TaskLayout, Array] = WeakKeyDictionary()
