"""What is known of one tensor of N models: N x N tables, from which pairs are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from miscible.measure.contract import Gram, Overlap, Signs, Spectra, TensorPair
from miscible.measure.spectrum import VECTORS, Spectrum

Array = npt.NDArray[np.float64]

_ROUNDING_SIZE = 0.42
"""Root mean square of the rounding error of a weight w, in units of |w| times the unit roundoff:
uniform within half a unit in the last place, over weights spread evenly in their logarithm."""


@dataclass(frozen=True, slots=True, eq=False)
class SignTables:
    """See `Signs`; each [N, N]."""

    both: Array
    conflicts: Array
    mass: Array


@dataclass(frozen=True, slots=True, eq=False)
class OverlapTables:
    """See `Overlap`; each [N, N]. Where `k` is 0 there is nothing to compare."""

    squared: Array
    k: npt.NDArray[np.int64]
    noise: Array
    width: int

    def of(self, a: int, b: int) -> Overlap:
        """Return the overlap of two models."""
        return Overlap(
            float(self.squared[a, b]), int(self.k[a, b]), self.width, float(self.noise[a, b])
        )


@dataclass(frozen=True, slots=True, eq=False)
class SpectralTables:
    """See `Spectra`; ranks are [N], the others [N, N]."""

    ranks: npt.NDArray[np.int64]
    spectrum_cosine: Array
    left_top: OverlapTables
    right_top: OverlapTables
    right_bottom: OverlapTables

    def of(self, a: int, b: int) -> Spectra:
        """Return what is known of two models."""
        bottom = self.right_bottom.of(a, b)
        return Spectra(
            int(self.ranks[a]), int(self.ranks[b]), float(self.spectrum_cosine[a, b]),
            self.left_top.of(a, b), self.right_top.of(a, b), bottom if bottom.k else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class TensorTables:
    """One tensor of N models.

    Attributes:
        name, shape: of the tensor.
        rows: by model: its row in the tables, None for models that do not have the tensor.
        gram: [N, N] inner products of the differences from the base.
        base_square: squared norm of the base's tensor.
        signs, spectra: None if not asked for; the latter for tensors of two dimensions only.
    """

    name: str
    shape: tuple[int, ...]
    rows: tuple[int | None, ...]
    gram: Array
    base_square: float
    signs: SignTables | None = None
    spectra: SpectralTables | None = None

    def pair(self, a: int, b: int) -> TensorPair | None:
        """Return what is known of two models, by their numbers; None if one lacks the tensor."""
        i, j = self.rows[a], self.rows[b]
        if i is None or j is None:
            return None
        signs = self.signs
        return TensorPair(
            self.name,
            self.shape,
            Gram(float(self.gram[i, i]), float(self.gram[j, j]), float(self.gram[i, j])),
            None if signs is None else Signs(
                float(signs.both[i, j]), float(signs.conflicts[i, j]), float(signs.mass[i, j])
            ),
            None if self.spectra is None else self.spectra.of(i, j),
        )  # fmt: skip

    def square(self, model: int) -> float:
        """Return the squared norm of a model's difference, 0 if it lacks the tensor."""
        row = self.rows[model]
        return 0.0 if row is None else float(self.gram[row, row])


def compare(
    spectra: Sequence[Spectrum],
    shape: tuple[int, int],
    weight_size: float,
    rounding: Sequence[float],
) -> SpectralTables:
    """Compare the decompositions of one matrix of N models.

    Args:
        spectra: one a model.
        shape: of the matrix.
        weight_size: root mean square of the weights.
        rounding: unit roundoff of each model's stored weights, 0 where there is none.
    """
    ranks = np.array([held.rank for held in spectra])
    error = np.array(rounding) * _ROUNDING_SIZE * weight_size * sum(extent**0.5 for extent in shape)
    top = np.minimum(np.minimum.outer(ranks, ranks), VECTORS)
    full = ranks == min(shape)
    bottom = np.where(np.logical_and.outer(full, full), min(VECTORS, *shape), 0)
    largest = [np.append(held.largest, 0.0) for held in spectra]
    top_noise = _noise(largest, error, top)
    return SpectralTables(
        ranks,
        _spectrum_cosines(spectra),
        _overlap([held.left_top for held in spectra], top, top_noise),
        _overlap([held.right_top for held in spectra], top, top_noise),
        _overlap(
            [held.right_bottom for held in spectra], bottom,
            _noise([held.smallest for held in spectra], error, bottom),
        ),
    )  # fmt: skip


def _overlap(vectors: Sequence[Array], k: npt.NDArray[np.int64], noise: Array) -> OverlapTables:
    count, width = len(vectors), vectors[0].shape[1]
    padded = np.zeros((count, VECTORS, width))
    for held, found in zip(padded, vectors, strict=True):
        held[: len(found)] = found[:VECTORS]
    flat = padded.reshape(count * VECTORS, width)
    squares = np.square(flat @ flat.T).reshape(count, VECTORS, count, VECTORS)
    # Entry (i, j, k) becomes the sum over the first k vectors of both.
    leading = np.cumsum(np.cumsum(squares, axis=1), axis=3)
    by_k = np.einsum("ikjk->ijk", leading)
    found = np.take_along_axis(by_k, np.maximum(k - 1, 0)[:, :, None], axis=2)[:, :, 0]
    return OverlapTables(np.where(k > 0, np.minimum(found, k), 0.0), k, noise, width)


def _noise(values: Sequence[Array], error: Array, k: npt.NDArray[np.int64]) -> Array:
    # Wedin: |sin angle| <= |error| / gap, and both subspaces may turn.
    found = np.zeros(k.shape)
    for i, held in enumerate(values):
        for count in np.unique(k[i][k[i] > 0]):
            whole = count >= len(held)  # all directions there are: nothing can turn
            gap = 0.0 if whole else abs(held[count - 1] - held[count])
            turn = 0.0 if whole or error[i] == 0 else error[i] / gap if gap > 0 else 1.0
            found[i] += np.where(k[i] == count, turn, 0.0)
    total: Array = np.minimum(found + found.T, 1.0)
    return total


def _spectrum_cosines(spectra: Sequence[Spectrum]) -> Array:
    length = max(len(held.largest) for held in spectra)
    values = np.zeros((len(spectra), length))
    for row, held in zip(values, spectra, strict=True):
        row[: len(held.largest)] = held.largest
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    values /= np.where(norms > 0, norms, 1.0)
    found: Array = np.minimum(values @ values.T, 1.0)
    return found
