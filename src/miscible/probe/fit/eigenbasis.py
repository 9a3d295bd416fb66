"""Standardised features of every layer in the eigenbasis of their training rows.

A penalised linear fit does not change when features and weights are rotated together, so every
such fit may be made in the basis in which the covariance of the training rows is diagonal. It has
at most as many directions as there are training rows, and one eigendecomposition serves all
penalties and all label columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import DatasetError
from miscible.probe.fit.shared_rows import CONSTANT

_EMPTY = 1e-11
"""A direction with less than this fraction of the largest variance is rounding noise of float64."""

_CHUNK_BYTES = 2**28


@dataclass(frozen=True, slots=True)
class Eigenbasis:
    """Rows of several layers, each layer in its own eigenbasis.

    Attributes:
        rows: training rows first, then the others, float64 [layers, rows, directions + 1]. Over the
            training rows each direction has mean 0 and the directions are orthogonal. The last
            entry is 1, for the intercept.
        spectrum: sum of squares of the training rows along each direction and the constant,
            [layers, directions + 1]; that of the directions adds up to the number of training rows
            at most, so that the root mean square norm of a training row is at most 1.
    """

    rows: torch.Tensor
    spectrum: torch.Tensor


def check_finite(features: npt.NDArray[np.float32]) -> None:
    """Refuse features that no fit can use.

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


def eigenbasis(
    features: npt.NDArray[np.float32],
    train: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    *,
    exact: bool = True,
) -> Eigenbasis:
    """Standardise on the training rows, divide by the root of the width, and rotate.

    Features that are constant over the training rows become 0. The eigendecomposition is of the
    covariance or of the Gram matrix, whichever is smaller; all in float64.

    Args:
        features: finite, [rows, layers, width].
        train, others: indices of rows.
        exact: if unset, the eigenvectors of a covariance are computed in float32. The basis is
            then orthonormal to rounding of float32, and rows are rotated into it in float64 all
            the same: a fit in it is the same fit, but its directions are orthogonal over the
            training rows only nearly.
    """
    _, layers, width = features.shape
    count, size = len(train), min(len(train), width)
    rows = torch.ones(layers, count + len(others), size + 1, dtype=torch.float64)
    spectrum = torch.full((layers, size + 1), float(count), dtype=torch.float64)
    for layer in range(layers):
        training, rest = _standardise(features[:, layer], train, others)
        dual = count <= width
        moments = training @ training.mT if dual else training.mT @ training
        if dual or exact:
            values, vectors = torch.linalg.eigh(moments)
        else:
            values, vectors = (part.double() for part in torch.linalg.eigh(moments.float()))
        values = torch.where(values > _EMPTY * values[-1], values, 0.0)
        if dual:
            root = values.sqrt()
            rows[layer, :count, :-1] = vectors * root
            vectors = vectors * torch.where(values > 0, 1 / root, 0.0)
            rows[layer, count:, :-1] = (rest @ training.mT) @ vectors
        else:
            rows[layer, :count, :-1] = training @ vectors
            rows[layer, count:, :-1] = rest @ vectors
        spectrum[layer, :-1] = values
    return Eigenbasis(rows, spectrum)


def _standardise(
    states: npt.NDArray[np.float32], train: npt.NDArray[np.int64], others: npt.NDArray[np.int64]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return both kinds of rows with mean 0 and variance 1 / width over the training rows."""
    training, rest = (torch.from_numpy(states[index]).double() for index in (train, others))
    deviation, mean = torch.std_mean(training, dim=0, correction=0)
    constant = deviation <= CONSTANT * mean.abs()
    factor = torch.where(constant, 0.0, 1 / deviation) / states.shape[1] ** 0.5
    return training.sub_(mean).mul_(factor), rest.sub_(mean).mul_(factor)


def layer_chunks(layers: int, bytes_of_a_layer: int) -> Iterator[slice]:
    """Cut the layers into runs that need at most 256 MiB, or into single layers."""
    size = max(1, _CHUNK_BYTES // bytes_of_a_layer)
    for start in range(0, layers, size):
        yield slice(start, start + size)
