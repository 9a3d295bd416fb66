"""The two turns over the rows of one tensor of all models: what is subtracted once serves them all.

In the first turn a piece of the base is converted once, that of each model once, and their
differences go into the inner products and into the squares of tall matrices. Only the left singular
vectors of these need a second turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from miscible.errors import MiscibleError
from miscible.measure.changes import Change, Stored, chunks
from miscible.measure.factor_gram import factor_gram
from miscible.measure.inner_products import InnerProducts
from miscible.measure.spectrum import Spectrum, TallSpectrum
from miscible.measure.tables import SignTables

Array = npt.NDArray[np.float64]

SQUARES_BYTES = 1 << 28
"""Of the squares of a tall matrix of all models, [width, width] each; where they are more, each
model's matrix is decomposed by itself."""


class TensorPass:
    """One tensor of N models.

    Args:
        changes: N differences from one base.

    Attributes:
        gram: [N, N] inner products of the differences.
        base_square: squared norm of the base's tensor.
        signs: how signs agree, None if not asked for.
        broken: by number of a model that could not be read to its end, why.
    """

    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes, self._base = changes, changes[0].base
        self._tall: dict[int, TallSpectrum] = {}
        self.gram, self.base_square = np.zeros((len(changes), len(changes))), 0.0
        self.signs: SignTables | None = None
        self.broken: dict[int, MiscibleError] = {}

    def first_turn(self, *, signs: bool, tall: Sequence[int] = ()) -> None:
        """Take inner products, and the squares of the matrices of the models numbered in *tall*.

        Where all differences are low-rank their factors do, but for signs.
        """
        from_factors = None if signs or tall else factor_gram(self._changes)
        if from_factors is not None:
            self.gram, self.base_square = from_factors, square(self._base)
            return
        self._tall = {n: TallSpectrum(self._base.rows, self._base.width) for n in tall}
        products = InnerProducts(len(self._changes), signs=signs)
        everyone = range(len(self._changes))
        for first, last in chunks(self._base.rows, self._base.width):
            origin = self._base.read(first, last)
            self.base_square += float(np.vdot(origin, origin))
            stacked = np.empty((len(self._changes), last - first, self._base.width))
            for number in everyone:
                self._read(number, first, last, origin, stacked[number])
                if number in self._tall:
                    self._tall[number].add(stacked[number])
            products.add(stacked.reshape(len(stacked), -1))
        self.gram, self.signs = products.gram, products.signs()

    def second_turn(self) -> Mapping[int, Spectrum]:
        """Return the decompositions of the tall matrices, but of those that are not finite."""
        for number in list(self._tall):
            try:
                self._tall[number].turn()
            except FloatingPointError:
                del self._tall[number]
        if self._tall:
            piece = np.empty(0)
            for first, last in chunks(self._base.rows, self._base.width):
                origin = self._base.read(first, last)
                piece = piece if piece.shape == origin.shape else np.empty(origin.shape)
                for number, tall in self._tall.items():
                    self._read(number, first, last, origin, piece)
                    tall.project(first, last, piece)
        return {number: tall.spectrum() for number, tall in self._tall.items()}

    def _read(self, number: int, first: int, last: int, origin: Array, out: Array) -> None:
        try:
            self._changes[number].rows_into(first, last, origin, out)
        except MiscibleError as error:  # its file was cut short meanwhile: the others go on
            self.broken[number] = error
            out[:] = 0.0


def fits(count: int, width: int) -> bool:
    """Return whether the squares of the matrices of all models may be held at a time."""
    return 8 * count * width * width <= SQUARES_BYTES


def square(base: Stored) -> float:
    """Return the squared norm of a tensor."""
    pieces = (base.read(first, last) for first, last in chunks(base.rows, base.width))
    return sum(float(np.vdot(piece, piece)) for piece in pieces)
