"""Random numbers that belong to an element, not to a moment.

The draw for an element depends on the seed, the model's content, the tensor's name and the
element's index alone, so it is the same whatever the order of the tensors, the number of threads or
the size of the chunks. It is a hash of the index: three rounds of multiply and shift (constants
of C. Wellons' triple32, found by search for least bias) that take two keys on their way. The
streamed engine computes the same words (`miscible.merge.kernels`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from miscible.merge.kernels.constants import HIGH

if TYPE_CHECKING:
    import numpy as np
    import torch

RANGE = 2**32
"""Number of values that a draw can take."""


@dataclass(frozen=True, slots=True)
class ElementRandom:
    """Random numbers for the elements of one tensor of one model."""

    seed: int
    model: str
    tensor: str

    @property
    def keys(self) -> tuple[int, int]:
        """The two 32-bit keys of the hash."""
        text = f"{self.seed}\0{self.model}\0{self.tensor}"
        digest = hashlib.sha256(text.encode()).digest()
        return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")

    def words(self, size: int) -> np.ndarray:
        """Return the draws of the first *size* elements: uint32, uniform, independent."""
        import numpy as np

        first, second = (np.uint32(key) for key in self.keys)
        place = np.arange(size, dtype=np.uint64)
        high = (place >> np.uint64(32)).astype(np.uint32)
        x = place.astype(np.uint32) ^ first ^ (high * np.uint32(HIGH))
        x ^= x >> np.uint32(17)
        x *= np.uint32(0xED5AD4BB)
        x ^= x >> np.uint32(11)
        x += second
        x *= np.uint32(0xAC4C1B51)
        x ^= x >> np.uint32(15)
        x *= np.uint32(0x31848BAB)
        words: np.ndarray = x ^ (x >> np.uint32(14))
        return words

    def bernoulli(self, probability: float, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a bool tensor of independent draws, true with *probability* (to 2**-32)."""
        import math

        import torch

        keep = self.words(math.prod(shape)) < round(probability * RANGE)
        return torch.from_numpy(keep).reshape(shape)
