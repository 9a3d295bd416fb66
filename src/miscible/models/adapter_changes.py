"""How an adapter changes one tensor of its base.

In this order, each step only where the adapter has it: a full copy takes the tensor's place
(`modules_to_save`, trained biases), rows are replaced (trainable tokens), a low-rank delta is added
(LoRA, 2106.09685, eq. 3), the result is given learned magnitudes (DoRA, 2402.09353, eq. 5), an
offset is added (the bias of a LoRA factor).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import TensorInfo

if TYPE_CHECKING:
    import torch

Read: TypeAlias = "Callable[[str], torch.Tensor]"
"""Reads a tensor of the adapter's file by its key."""


@dataclass(frozen=True, slots=True)
class Factors:
    """Keys of the two factors of a low-rank delta, and how they are put together.

    The factors of a convolution are stored as kernels, [rank, channels, *kernel] and
    [outputs, rank, 1, ...]; those of an embedding make up [dimension, vocabulary].
    """

    a: str
    b: str
    scale: float
    transposed: bool = False
    kernel: tuple[int, ...] = ()

    def low_rank(self, read: Read) -> LowRank:
        """Return the delta."""
        a, b = read(self.a), read(self.b)
        return LowRank(a.flatten(1), b.flatten(1), self.scale, self.transposed, self.kernel)


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one tensor.

    Attributes:
        info: dtype in which the adapter stores what it knows of the tensor, and the shape that the
            tensor must have (with `rows`: the least number of rows).
        copy: key of the tensor that takes its place.
        rows: key of the rows that are put at *places*.
        factors: of the low-rank delta.
        magnitude: key of the norms that the outputs of the sum are given.
        offset: key of a vector that is added *offset_scale* times.
    """

    info: TensorInfo
    copy: str | None = None
    rows: str | None = None
    places: tuple[int, ...] = ()
    factors: Factors | None = None
    magnitude: str | None = None
    offset: str | None = None
    offset_scale: float = 1.0

    @property
    def is_low_rank(self) -> bool:
        """Whether the factors are all of it."""
        return self.factors is not None and not (
            self.copy or self.rows or self.magnitude or self.offset
        )

    @property
    def is_row_wise(self) -> bool:
        """Whether it only replaces rows."""
        return self.rows is not None

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor of this shape can be changed so."""
        if self.rows is None:
            return shape == self.info.shape
        return len(shape) == 2 and shape[0] >= self.info.shape[0] and shape[1] == self.info.shape[1]

    def apply(self, origin: torch.Tensor, read: Read) -> torch.Tensor:
        """Return the changed tensor in the dtype of *origin*, which is left as it is."""
        changed = self._start(origin, read)
        if self.factors is not None:
            changed = changed + self.factors.low_rank(read).dense(origin.dtype)
            if self.magnitude is not None:
                changed = changed * self._gain(changed, read)
        if self.offset is not None:
            changed = changed + read(self.offset).to(origin.dtype) * self.offset_scale
        return changed.clone() if changed is origin else changed

    def difference(self, origin: torch.Tensor, read: Read) -> torch.Tensor:
        """Return the changed tensor minus *origin*, without the sum where there need be none."""
        start = self._start(origin, read)
        delta = origin.new_zeros(origin.shape) if start is origin else start - origin
        if self.factors is not None:
            dense = self.factors.low_rank(read).dense(origin.dtype)
            if self.magnitude is not None:
                gain = self._gain(start + dense, read)
                dense = dense * gain + start * (gain - 1)
            delta = delta + dense
        if self.offset is not None:
            delta = delta + read(self.offset).to(origin.dtype) * self.offset_scale
        return delta

    def _start(self, origin: torch.Tensor, read: Read) -> torch.Tensor:
        import torch

        if self.copy is not None:
            return read(self.copy).to(origin.dtype, copy=True)
        if self.rows is not None:
            places = torch.tensor(self.places, dtype=torch.int64)
            return origin.index_copy(0, places, read(self.rows).to(origin.dtype))
        return origin

    def _gain(self, direction: torch.Tensor, read: Read) -> torch.Tensor:
        # Magnitude over norm, an output each; a weight of zeros has no direction and stays zero.
        import torch

        assert self.factors is not None
        assert self.magnitude is not None
        outputs = 1 if self.factors.transposed else 0
        others = [axis for axis in range(direction.dim()) if axis != outputs]
        norm = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
        magnitude = read(self.magnitude).to(direction.dtype).reshape(norm.shape)
        return magnitude / torch.where(norm == 0, torch.ones_like(norm), norm)
