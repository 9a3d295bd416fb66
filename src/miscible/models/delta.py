"""Low-rank differences of a model from its base, kept as factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The tensor ``scale * b @ a``, exactly as an adapter defines it (LoRA, 2106.09685, eq. 3).

    Attributes:
        a: [rank, inputs], any floating dtype; of a convolution [rank, channels * kernel elements].
        b: [outputs, rank].
        scale: factor of the product.
        transposed: whether the stored weight is [inputs, outputs] (GPT-2's Conv1D, embeddings).
        kernel: of a convolution, the trailing extents of the stored weight, which is
            [outputs, channels, *kernel]; empty for a matrix.
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    transposed: bool = False
    kernel: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the dense tensor, as the weight is stored."""
        outputs, inputs = self.b.shape[0], self.a.shape[1]
        if self.kernel:
            return (outputs, inputs // math.prod(self.kernel), *self.kernel)
        return (inputs, outputs) if self.transposed else (outputs, inputs)

    def dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the tensor, multiplied out in *dtype* (float32 if None)."""
        import torch

        wide = dtype or torch.float32
        product = (self.b.to(wide) @ self.a.to(wide)).mul_(self.scale)
        if self.kernel:
            return product.reshape(self.shape)
        return product.T if self.transposed else product
