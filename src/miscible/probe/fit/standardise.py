"""Features with mean 0 and variance 1 / width over the rows that a probe is fitted to."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import DatasetError
from miscible.probe.fit.compiled import in_order

CONSTANT = 1e-6
"""A feature whose deviation is below this fraction of its mean is rounding noise of float32."""


def check_finite(features: npt.NDArray[np.float32]) -> None:
    """Refuse features that no fit can use, [rows, layers, width].

    Raises:
        DatasetError: a value is NaN or infinite.
    """
    # A sum is not finite if any term is not, and makes no array as large as the features.
    rows, layers = features.shape[:2]
    for layer in range(layers):
        if not np.isfinite(features[:, layer].sum(dtype=np.float64)):
            row = int(np.argmin(np.isfinite(features[:, layer]).reshape(rows, -1).all(axis=1)))
            raise DatasetError(
                f"the features of row {row} at layer index {layer} are not finite.",
                fix="Leave out rows whose hidden states overflow.",
            )


def standardised(
    features: npt.NDArray[np.float32],
    layer: int,
    train: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    into: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Fill tensors with rows that have mean 0 and variance 1 / width over the training rows.

    Args:
        features: finite, contiguous, [rows, layers, width].
        layer: which one.
        train, others: indices of rows.
        into: for both, [rows, width]; in their precision, but means and variances are those of
            float64.
    """
    width = features.shape[2]
    mean, factor = np.empty((2, width))
    _measure(features, layer, train, mean, factor)
    factor *= width**-0.5
    for which, standard in zip((train, others), into, strict=True):
        rescale(features, layer, which, mean, factor, standard.numpy())


@in_order
def _measure(features: Any, layer: int, which: Any, mean: Any, factor: Any) -> None:
    """Fill in means and inverse deviations; 0 for a feature that is constant."""
    mean[:], factor[:] = 0.0, 0.0
    for row in which:
        for j in range(len(mean)):
            mean[j] += features[row, layer, j]
    for j in range(len(mean)):
        mean[j] /= len(which)
    for row in which:
        for j in range(len(mean)):
            factor[j] += (features[row, layer, j] - mean[j]) ** 2
    for j in range(len(mean)):
        deviation = math.sqrt(factor[j] / len(which))
        factor[j] = 1.0 / deviation if deviation > CONSTANT * abs(mean[j]) else 0.0


@in_order
def rescale(features: Any, layer: int, which: Any, mean: Any, factor: Any, standard: Any) -> None:
    """Fill *standard* with (features - mean) factor of some rows, [rows, width]."""
    for i in range(len(which)):
        row = which[i]
        for j in range(len(mean)):
            standard[i, j] = (features[row, layer, j] - mean[j]) * factor[j]
