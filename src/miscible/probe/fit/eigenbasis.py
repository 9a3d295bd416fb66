"""Standardised features of every layer in the eigenbasis of their training rows.

A penalised linear fit does not change when features and weights are rotated together, so every
such fit may be made in the basis in which the covariance of the training rows is diagonal. It has
at most as many directions as there are training rows, and one eigendecomposition serves all
penalties and all label columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from miscible.errors import DatasetError
from miscible.probe.fit.fold_moments import CONSTANT

_EMPTY = {torch.float64: 1e-11, torch.float32: 1e-6}
"""A direction with less than this fraction of the largest variance is rounding noise."""

_CHUNK_BYTES = 2**28


@dataclass(frozen=True)
class Exact:
    """Scores and gradients of a layer in float64, where its eigenbasis is in float32.

    Attributes:
        rows: training rows in the basis; or, where there are fewer rows than features, their inner
            products with one another, float32 [rows, directions or rows].
        into: if they are inner products: times it they are the rows in the basis,
            [rows, directions]. In float32 such rows have lengths that are wrong along directions
            of small variance; the inner products are right.
    """

    rows: torch.Tensor
    into: torch.Tensor | None = None

    def scores(self, weights: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of the rows, and what the weights multiply there.

        Args:
            weights: in the basis, float64 [classes, directions].
        """
        outer = weights if self._into is None else weights @ self._into.mT
        return outer @ self._rows.mT, outer

    def gradient(
        self, residual: torch.Tensor, scores: torch.Tensor, outer: torch.Tensor, penalty: float
    ) -> torch.Tensor:
        """Return the gradient with respect to weights in the basis, [classes, directions].

        Args:
            residual: derivative of the loss by the scores, [classes, rows].
            scores, outer: from `scores`.
            penalty: on the weights.
        """
        slope = residual @ self._rows
        if self._into is None:
            return slope + penalty * outer
        # With inner products the squared norm of the weights is outer . scores.
        return (slope + penalty * scores) @ self._into

    @cached_property
    def _rows(self) -> torch.Tensor:
        return self.rows.double()

    @cached_property
    def _into(self) -> torch.Tensor | None:
        return None if self.into is None else self.into.double()


@dataclass(frozen=True, slots=True)
class Eigenbasis:
    """Rows of several layers, each layer in its own eigenbasis.

    Attributes:
        training: [layers, training rows, directions]. Each direction has mean 0 and the directions
            are orthogonal.
        others: rows that the basis was not made of, [layers, others, directions].
        spectrum: sum of squares of the training rows along each direction, float64
            [layers, directions]; it adds up to the number of training rows at most, so that the
            root mean square norm of a training row is at most 1.
        exact: of each layer.
    """

    training: torch.Tensor
    others: torch.Tensor
    spectrum: torch.Tensor
    exact: tuple[Exact, ...]


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
    precision: torch.dtype = torch.float64,
) -> Eigenbasis:
    """Standardise on the training rows, divide by the root of the width, and rotate.

    Features that are constant over the training rows become 0. The eigendecomposition is of the
    covariance or of the inner products, whichever is smaller.

    Args:
        features: finite, [rows, layers, width].
        train, others: indices of rows.
        precision: of the decomposition and of the rotated rows. In float32 the directions are
            orthogonal to rounding only.
    """
    _, layers, width = features.shape
    count, size = len(train), min(len(train), width)
    training = torch.empty(layers, count, size, dtype=precision)
    rest = torch.empty(layers, len(others), size, dtype=precision)
    spectrum = torch.empty(layers, size, dtype=torch.float64)
    exact = []
    for layer in range(layers):
        rows, other = standardised(features[train, layer], features[others, layer], precision)
        if count <= width:
            products = rows @ rows.mT
            values, vectors = _decomposed(products)
            root = values.sqrt()
            torch.mul(vectors, root, out=training[layer])
            vectors *= torch.where(values > 0, 1 / root, 0.0)
            torch.mm(other @ rows.mT, vectors, out=rest[layer])
            exact.append(Exact(products, vectors))
        else:
            values, vectors = _decomposed(rows.mT @ rows)
            torch.mm(rows, vectors, out=training[layer])
            torch.mm(other, vectors, out=rest[layer])
            exact.append(Exact(training[layer]))
        spectrum[layer] = values
    return Eigenbasis(training, rest, spectrum, tuple(exact))


def _decomposed(moments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    values, vectors = torch.linalg.eigh(moments)
    return torch.where(values > _EMPTY[moments.dtype] * values[-1], values, 0.0), vectors


def standardised(
    states: npt.NDArray[np.float32], others: npt.NDArray[np.float32], precision: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rows with mean 0 and variance 1 / width over the first argument's rows.

    Args:
        states, others: finite, [rows, width].
        precision: of the result.
    """
    training, rest = (torch.from_numpy(held).to(precision) for held in (states, others))
    # Means need float64; what is subtracted may then be rounded, as an intercept makes up for it.
    mean = training.mean(dim=0, dtype=torch.float64).to(precision)
    centred = training - mean
    # So do squares, which float32 may not hold.
    length = torch.linalg.vector_norm(centred, dim=0, dtype=torch.float64)
    deviation = length / len(states) ** 0.5
    constant = deviation <= CONSTANT * mean.abs()
    factor = (torch.where(constant, 0.0, 1 / deviation) / states.shape[1] ** 0.5).to(precision)
    return centred.mul_(factor), (rest - mean).mul_(factor)


def layer_chunks(layers: int, bytes_of_a_layer: int) -> Iterator[slice]:
    """Cut the layers into runs that need at most 256 MiB, or into single layers."""
    size = max(1, _CHUNK_BYTES // bytes_of_a_layer)
    for start in range(0, layers, size):
        yield slice(start, start + size)
