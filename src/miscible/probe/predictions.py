"""Predictions of probes for the rows that a layout tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from miscible.probe.bag_of_words import word_counts, words_of
from miscible.probe.held_out import (
    cross_fit_classes,
    cross_fit_values,
    fit_classes,
    fit_values,
)
from miscible.probe.tasks import TaskLayout

Array = npt.NDArray[np.float64]


def predict(
    features: npt.NDArray[np.float32], columns: Array, layout: TaskLayout
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return what probes say of the rows that are tested, and which layers converged.

    Args:
        features: [rows, layers, width].
        columns: labels to fit, [columns, rows].
        layout: which rows are for what.

    Returns:
        classes or values [columns, layers, tested], and [layers].
    """
    classes = len(layout.dataset.classes) if layout.dataset.kind == "classification" else 0
    whole = columns.astype(np.int64)
    if layout.folds is not None:
        fits = [
            cross_fit_classes(features, whole, classes, layout.folds)
            if classes
            else cross_fit_values(features, columns, layout.folds)
        ]
    else:
        fits = [
            fit_classes(features, whole, classes, split)
            if classes
            else fit_values(features, columns, split)
            for split in layout.splits
        ]
    said = [
        fit.scores.argmax(axis=-1).astype(np.float64) if classes else fit.scores for fit in fits
    ]
    converged = np.logical_and.reduce([fit.converged for fit in fits])
    return np.concatenate(said, axis=2), converged


def word_predictions(layout: TaskLayout) -> Array:
    """Return what a probe on bags of words says of the rows that are tested."""
    texts = layout.dataset.texts
    features = word_counts([words_of(example, texts) for example in layout.examples])
    called, _ = predict(features, layout.labels[None], layout)
    said: Array = called[0, 0]
    return said
