"""Inner products of N differences of one tensor, and how their signs agree, piece by piece."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from miscible.measure.tables import SignTables

Array = npt.NDArray[np.float64]
_Bits = npt.NDArray[np.uint64]

BLOCK_BYTES = 1 << 20
"""Of the numbers of all models that go through every step before the next: they stay in a cache."""


class InnerProducts:
    """Sums over the elements of N differences.

    Args:
        count: N.
        signs: whether signs are compared too.

    Attributes:
        gram: [N, N] inner products.
    """

    def __init__(self, count: int, *, signs: bool) -> None:
        self.gram = np.zeros((count, count))
        self._mass = np.zeros((count, count)) if signs else None
        self._both = np.zeros((count, count), dtype=np.int64)
        self._conflicts = np.zeros((count, count), dtype=np.int64)
        self._step = max(64, BLOCK_BYTES // (8 * count) // 64 * 64)

    def add(self, stacked: Array) -> None:
        """Take in some elements, [N, elements]; what stands there may be lost."""
        for first in range(0, stacked.shape[1], self._step):
            block = stacked[:, first : first + self._step]
            self.gram += block @ block.T
            if self._mass is not None:
                self._compare(_bits(block > 0), _bits(block != 0))
                np.abs(block, out=block)
                self._mass += block @ block.T

    def signs(self) -> SignTables | None:
        """Return how signs agree, None if they were not compared."""
        if self._mass is None:
            return None
        both, conflicts = (
            (upper + np.triu(upper, 1).T).astype(np.float64)
            for upper in (self._both, self._conflicts)
        )
        return SignTables(both, conflicts, self._mass)

    def _compare(self, positive: _Bits, changed: _Bits) -> None:
        for row in range(len(changed)):
            both = changed[row] & changed[row:]
            self._both[row, row:] += _counts(both)
            both &= positive[row] ^ positive[row:]
            self._conflicts[row, row:] += _counts(both)


def _bits(truth: npt.NDArray[np.bool_]) -> _Bits:
    # One bit an element: 64 are compared at a time.
    packed = np.packbits(truth, axis=1)
    whole = np.zeros((len(packed), -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    whole[:, : packed.shape[1]] = packed
    return whole.view(np.uint64)


def _counts(bits: _Bits) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.bitwise_count(bits).sum(axis=1, dtype=np.int64)
    return found
