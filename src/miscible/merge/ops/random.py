"""Random numbers that belong to an element, not to a moment.

The draw for an element depends on the seed, the model's content, the tensor's name and the
element's index alone (Philox, a counter-based generator: Salmon et al., SC 2011), so it is the same
whatever the order of the tensors, the number of threads or the size of the chunks.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_RANGE = 2**32


@dataclass(frozen=True, slots=True)
class ElementRandom:
    """Random numbers for the elements of one tensor of one model."""

    seed: int
    model: str
    tensor: str

    def bernoulli(self, probability: float, shape: tuple[int, ...]) -> torch.Tensor:
        """Return a bool tensor of independent draws, true with *probability* (to 2**-32)."""
        import math

        import numpy as np
        import torch

        size = math.prod(shape)
        key = hashlib.sha256(f"{self.seed}\0{self.model}\0{self.tensor}".encode()).digest()[:16]
        generator = np.random.Philox(key=int.from_bytes(key, "little"))
        # Raw output is stable over numpy versions; distributions on top of it are not.
        words = generator.random_raw((size + 1) // 2).astype("<u8", copy=False).view("<u4")[:size]
        keep = words.astype(np.uint64, copy=False) < round(probability * _RANGE)
        return torch.from_numpy(keep).reshape(shape)
