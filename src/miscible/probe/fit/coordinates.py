"""Coordinates in which the rows of every layer are fitted.

A penalised linear fit depends on its rows through their inner products alone, so it may be made in
any coordinates that keep these:

* the standardised features themselves;
* with fewer rows than features, the Cholesky factor L of their inner products K = L L', which has
  as many columns as rows;
* where K is not of full rank, as when rows repeat, its factor with pivoting, directions that are
  not there being 0.

Fits that converge slowly are made in a fourth kind: the eigenvectors of the rows' second moments,
in which these are diagonal (`Coordinates.rotated`). That costs as much as dozens of steps, and
hidden states rarely need it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg.lapack import dpstrf

from miscible.probe.fit.newton import LARGEST
from miscible.probe.fit.standardise import standardised

_EMPTY = {torch.float64: 1e-11, torch.float32: 1e-6}
"""A direction with less than this fraction of the largest variance is rounding noise."""
_SMALL = 1000
"""Directions times classes up to which float64 costs too little to do without."""
_STEPS = 80
"""Of a fit with its whole path, about; to tell which coordinates are the cheaper."""
_CHUNK_BYTES = 2**28


class Rotated(NamedTuple):
    """Rows of a layer along the eigenvectors of their second moments.

    Attributes:
        rows: float32 [rows, directions].
        squares: sum of squares along each direction, float32 [directions].
        vectors: times them rows and weights are rotated, float32 [directions, directions].
    """

    rows: torch.Tensor
    squares: torch.Tensor
    vectors: torch.Tensor


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Rows of several layers, each layer in coordinates of its own.

    Attributes:
        training: [layers, training rows, directions]; the root mean square norm of a row is 1, or
            less if features are constant.
        others: rows that the coordinates were not made of, [layers, others, directions].
        exact: training rows in the precision in which their inner products are right, of each
            layer.
    """

    training: torch.Tensor
    others: torch.Tensor
    exact: tuple[torch.Tensor, ...]
    _rotated: dict[int, Rotated] = field(default_factory=dict)

    def is_rotated(self, layer: int) -> bool:
        """Return whether somebody has asked for the rotated rows of a layer."""
        return layer in self._rotated

    def rotated(self, layer: int) -> Rotated:
        """Return the rows of a layer along the eigenvectors of their second moments."""
        if layer not in self._rotated:
            rows = self.training[layer].float()
            squares, vectors = torch.linalg.eigh(rows.mT @ rows)
            self._rotated[layer] = Rotated(rows @ vectors, squares.clamp_(min=0), vectors)
        return self._rotated[layer]


def coordinates(
    features: npt.NDArray[np.float32],
    layers: slice,
    train: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    classes: int,
    columns: int,
) -> Coordinates:
    """Standardise on the training rows, divide by the root of the width, and choose coordinates.

    Features that are constant over the training rows become 0. The result is in float64 for small
    problems, else in float32.

    Args:
        features: finite, contiguous, [rows, layers, width].
        layers: which ones, from a start to a stop.
        train, others: indices of rows.
        classes, columns: of the labels that will be fitted.
    """
    every = range(*layers.indices(features.shape[1]))
    count, width = len(train), features.shape[2]
    size = directions(count, len(others), width, classes, columns)
    precision = torch.float64 if size * classes <= _SMALL else torch.float32
    training = torch.empty(len(every), count, size, dtype=precision)
    rest = torch.empty(len(every), len(others), size, dtype=precision)
    standard = torch.empty(count, width, dtype=precision)
    standard_rest = torch.empty(len(others), width, dtype=precision)
    exact: list[torch.Tensor] = []
    for place, layer in enumerate(every):
        if size < width:
            standardised(features, layer, train, others, (standard, standard_rest))
            factor, rest[place] = _factor(standard, standard_rest)
            exact.append(factor)
            training[place] = factor
        else:
            standardised(features, layer, train, others, (training[place], rest[place]))
            exact.append(training[place])
    return Coordinates(training, rest, tuple(exact))


def directions(count: int, others: int, width: int, classes: int, columns: int) -> int:
    """Return how many directions the cheaper coordinates have: *count* or *width*.

    Args:
        count, others: numbers of rows to fit and of other rows.
        width: number of features.
        classes, columns: of the labels.
    """
    if count >= width or count * classes <= LARGEST:
        return min(count, width)
    longer_rows = 4 * _STEPS * classes * columns * count * (width - count)
    products = 2 * (count + others) * count * width + count**3 / 3
    return count if products < longer_rows else width


def _factor(rows: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return training rows in float64, and the other rows, in fewer directions than features."""
    products, across = rows @ rows.mT, others @ rows.mT
    # The rows add up to 0. As much as their mean square along a constant feature makes them
    # independent, and changes no fit: the intercept is free, so that weight is 0 at the optimum.
    constant = products.trace() / len(rows) ** 2
    products += constant
    across += constant
    factor, failed = torch.linalg.cholesky_ex(products.double())
    empty = _EMPTY[rows.dtype]
    if not failed and float(factor.diagonal().amin()) ** 2 > empty * float(products.norm()):
        narrow = factor.mT.to(rows.dtype)
        return factor, torch.linalg.solve_triangular(narrow, across, upper=True, left=False)
    return _pivoted(products, across, empty)


def _pivoted(
    products: torch.Tensor, across: torch.Tensor, empty: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factor of products that are not of full rank, and the other rows.

    The columns of directions that are not there are 0.
    """
    wide = products.double().numpy()
    found, order, rank, _ = dpstrf(wide, tol=empty * float(wide.trace()), lower=1)
    order = torch.from_numpy(order.astype(np.int64) - 1)
    factor = torch.zeros(wide.shape, dtype=torch.float64)
    factor[order, :rank] = torch.from_numpy(np.tril(found)[:, :rank])
    first = order[:rank]
    rest = torch.zeros_like(across)
    rest[:, :rank] = torch.linalg.solve_triangular(
        factor[first, :rank].mT.to(across.dtype), across[:, first], upper=True, left=False
    )
    return factor, rest


def layer_chunks(layers: int, bytes_of_a_layer: int) -> Iterator[slice]:
    """Cut the layers into runs that need at most 256 MiB, or into single layers."""
    size = max(1, _CHUNK_BYTES // bytes_of_a_layer)
    for start in range(0, layers, size):
        yield slice(start, start + size)
