"""The thin singular value decomposition of a difference, as far as metrics read it.

It goes through the Gram matrix of the smaller side in float64, whose eigenvalues are the squared
singular values; only the vectors that are wanted are formed. Singular values below about 1e-7 of
the largest are not resolved that way, and count as zero. Low-rank differences are decomposed from
their factors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from miscible.measure.changes import Change, chunks

if TYPE_CHECKING:
    from miscible.models.delta import LowRank

Array = npt.NDArray[np.float64]

VECTORS = 10
"""Singular vectors kept at each end (k of 2601.22285)."""
VALUES = 100
"""Singular values compared (2601.22285)."""
STEPWISE = 64
"""Smallest side from which LAPACK's steps are taken one by one."""


@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """What is kept of one matrix.

    Attributes:
        rank: number of singular values that are not zero.
        largest: the first 100 singular values at most, descending.
        smallest: the last 11 at most of the thin decomposition, ascending.
        left_top: [k, rows], the first min(10, rank) left singular vectors.
        right_top: [k, columns], the first min(10, rank) right ones.
        right_bottom: [k, columns], the last ones, the last of all first; empty if the rank is not
            full.
    """

    rank: int
    largest: Array
    smallest: Array
    left_top: Array
    right_top: Array
    right_bottom: Array


def decompose(change: Change) -> Spectrum:
    """Decompose a difference of [rows, width].

    Raises:
        FloatingPointError: if it holds NaN or infinity.
    """
    rows, width = change.base.rows, change.base.width
    if change.is_zero or not min(rows, width):
        return nothing(rows, width)
    if change.low_rank is not None and change.low_rank.a.shape[0] < min(rows, width):
        return _of_factors(change.low_rank)
    if rows < width:
        return _of_wide(change.rows(0, rows))
    return _of_tall(change)


def _of_wide(matrix: Array) -> Spectrum:
    values, top, bottom = ends(matrix @ matrix.T)
    if not len(top):
        return nothing(*matrix.shape)
    return Spectrum(
        _rank(values),
        values[:VALUES],
        values[::-1][: VECTORS + 1].copy(),
        top,
        _orthonormal(top @ matrix),
        _orthonormal(bottom @ matrix),
    )


def _of_tall(change: Change) -> Spectrum:
    ranges = chunks(change.base.rows, change.base.width)
    tall = TallSpectrum(change.base.rows, change.base.width)
    for first, last in ranges:  # an embedding is never held whole in float64
        tall.add(change.rows(first, last))
    tall.turn()
    for first, last in ranges:
        tall.project(first, last, change.rows(first, last))
    return tall.spectrum()


class TallSpectrum:
    """The decomposition of a matrix that has more rows than columns, given by rows, twice.

    Args:
        rows, width: of the matrix.
    """

    def __init__(self, rows: int, width: int) -> None:
        self.rows, self.width = rows, width
        self._square: Array | None = np.zeros((width, width), order="F")
        self._left = np.empty((0, 0))
        self._values = self._top = self._bottom = np.empty((0, width))

    def add(self, piece: Array) -> None:
        """Take in rows of the matrix, in the first turn."""
        from scipy.linalg import blas

        # In place, and one half of it: the square is larger than a piece.
        blas.dsyrk(1.0, piece.T, beta=1.0, c=self._square, lower=1, overwrite_c=1)

    def turn(self) -> None:
        """End the first turn.

        Raises:
            FloatingPointError: if the matrix holds NaN or infinity.
        """
        assert self._square is not None
        self._values, self._top, self._bottom = ends(self._square.T)
        self._square = None
        self._left = np.empty((self.rows, len(self._top)))

    def project(self, first: int, last: int, piece: Array) -> None:
        """Take in rows [first, last), in the second turn."""
        np.matmul(piece, self._top.T, out=self._left[first:last])

    def spectrum(self) -> Spectrum:
        """Return the decomposition."""
        if not len(self._top):
            return nothing(self.rows, self.width)
        return Spectrum(
            _rank(self._values), self._values[:VALUES],
            self._values[::-1][: VECTORS + 1].copy(), _orthonormal(self._left.T),
            self._top, self._bottom,
        )  # fmt: skip


def _of_factors(held: LowRank) -> Spectrum:
    a, b = held.a.numpy(), held.b.numpy()
    (left, left_core), (right, right_core) = np.linalg.qr(b), np.linalg.qr(a.T)
    inner_left, values, inner_right = np.linalg.svd(held.scale * left_core @ right_core.T)
    rows, width = held.shape
    rank = int((values > values[0] * _tolerance(min(rows, width))).sum()) if len(values) else 0
    if not rank:
        return nothing(rows, width)
    kept = min(VECTORS, rank)
    outputs, inputs = (left @ inner_left[:, :kept]).T, (right @ inner_right[:kept].T).T
    if held.transposed:
        outputs, inputs = inputs, outputs
    return Spectrum(
        rank, np.where(values > 0, values, 0)[: min(VALUES, rank)],
        np.zeros(min(VECTORS + 1, rows, width)), outputs, inputs, np.empty((0, width)),
    )  # fmt: skip


def nothing(rows: int, width: int) -> Spectrum:
    """Return the decomposition of a matrix of zeros."""
    count = min(rows, width, VALUES)
    return Spectrum(
        0, np.zeros(count), np.zeros(min(rows, width, VECTORS + 1)), np.empty((0, rows)),
        np.empty((0, width)), np.empty((0, width)),
    )  # fmt: skip


def ends(square: Array) -> tuple[Array, Array, Array]:
    """Decompose a Gram matrix, of which only the upper half is read.

    Returns:
        All square roots of its eigenvalues, descending, zeros below the resolution; the
        eigenvectors of the first min(10, rank), as rows; those of the last 10, the last first,
        none if the rank is not full.

    Raises:
        FloatingPointError: if it is not finite.
    """
    size = len(square)
    if not math.isfinite(np.trace(square)):
        raise FloatingPointError("the matrix is not finite")
    squares, first, last = _eigenvectors(square, min(VECTORS, size))
    values = np.sqrt(np.maximum(squares, 0.0))
    values[values <= values[0] * _tolerance(size)] = 0.0
    rank = _rank(values)
    return values, first[:rank], last if rank == size else last[:0]


def _eigenvectors(square: Array, count: int) -> tuple[Array, Array, Array]:
    """Return eigenvalues, descending, and *count* eigenvectors of each end, as rows."""
    found = _stepwise(square, count) if len(square) >= STEPWISE else None
    if found is not None:
        return found
    values, vectors = np.linalg.eigh(square, UPLO="U")
    return values[::-1], vectors.T[::-1][:count], vectors.T[:count]


def _stepwise(square: Array, count: int) -> tuple[Array, Array, Array] | None:
    """Do the same by reduction, divide and conquer, and reflection; None if LAPACK fails.

    The eigenvectors of the tridiagonal form are cheap, and only those that are wanted are turned
    back.
    """
    from scipy.linalg import lapack

    work, _ = lapack.dsytrd_lwork(len(square), lower=1)
    reduced, diagonal, beside, scales, failed = lapack.dsytrd(square.T, lower=1, lwork=int(work))
    if failed:
        return None
    values, inner, failed = lapack.dstevd(diagonal, beside)
    if failed or not np.isfinite(values).all():
        return None
    wanted = np.concatenate([inner[:, ::-1][:, :count], inner[:, :count]], axis=1)
    # The reflections leave the first coordinate alone.
    turned, _, failed = lapack.dormqr(
        "L", "N", np.asfortranarray(reduced[1:, :-1]), scales, np.asfortranarray(wanted[1:]),
        lwork=64 * wanted.shape[1],
    )  # fmt: skip
    if failed:
        return None
    found = np.ascontiguousarray(np.concatenate([wanted[:1], turned]).T)
    return values[::-1], found[:count], found[count:]


def _orthonormal(vectors: Array) -> Array:
    # Rows that point in the right directions, of lengths sigma; QR takes off what rounding left.
    if not len(vectors):
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Array = np.linalg.qr((vectors / lengths).T)[0].T
    return np.ascontiguousarray(found)


def _rank(values: Array) -> int:
    return int((values > 0).sum())


def _tolerance(size: int) -> float:
    return math.sqrt(size * np.finfo(np.float64).eps)
