"""Low-rank differences of a model from its base, kept as factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """The matrix ``scale * b @ a``, exactly as an adapter defines it (LoRA, 2106.09685, eq. 3).

    Attributes:
        a: [rank, inputs], any floating dtype.
        b: [outputs, rank].
        scale: factor of the product.
        transposed: whether the stored weight is [inputs, outputs] (GPT-2's Conv1D).
    """

    a: torch.Tensor
    b: torch.Tensor
    scale: float
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of the dense matrix, as the weight is stored."""
        outputs, inputs = self.b.shape[0], self.a.shape[1]
        return (inputs, outputs) if self.transposed else (outputs, inputs)

    def dense(self, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return the matrix, multiplied out in *dtype* (float32 if None)."""
        import torch

        wide = dtype or torch.float32
        product = (self.b.to(wide) @ self.a.to(wide)).mul_(self.scale)
        return product.T if self.transposed else product
