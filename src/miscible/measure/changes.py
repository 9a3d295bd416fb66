"""One tensor of one model as a difference from the base: stored weights, or exact factors.

Nothing is rounded: stored numbers are subtracted in float64, and what an adapter says it changes is
taken from the adapter, never from a difference of rounded sums.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from miscible.errors import CheckpointError
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.finite import all_finite
from miscible.models.formats.safetensors import Extent, read_rows

if TYPE_CHECKING:
    import torch

    from miscible.models.checkpoint import Checkpoint
    from miscible.models.delta import LowRank

Array = npt.NDArray[np.float64]

ROUNDING = {"F16": 2.0**-11, "BF16": 2.0**-8, "F32": 2.0**-24, "F64": 2.0**-53}
"""Unit roundoff by dtype."""
CHUNK_BYTES = 1 << 20
"""Of the float64 numbers of one model that are worked on at a time: they stay in a cache."""


class Stored:
    """A tensor as it is stored, as rows of float64 numbers.

    Args:
        tensor: it, or None where its rows are read from *place* each time.
        dtype: its safetensors name.
        place: its file, and where in it.

    Attributes:
        rows, width: extent of the first dimension, and the product of the others.
    """

    def __init__(
        self,
        tensor: torch.Tensor | None,
        dtype: str,
        place: tuple[Path, Extent] | None = None,
    ) -> None:
        self.dtype, self._place = dtype, place
        self._tensor = None if tensor is None else tensor.detach().contiguous()
        if self._tensor is not None:
            self.shape = tuple(self._tensor.shape)
        else:
            assert place is not None
            self.shape = place[1].info.shape
        self.rows = self.shape[0] if self.shape else 1
        self.width = math.prod(self.shape[1:])

    def read(self, first: int, last: int) -> Array:
        """Return rows [first, last) as float64, [rows, width]; not to be written to."""
        import torch

        found: Array = self._raw(first, last).to(torch.float64).numpy()
        return found

    def read_into(self, first: int, last: int, out: Array) -> None:
        """Write rows [first, last) as float64 into *out*, [rows, width]."""
        import torch

        torch.from_numpy(out).copy_(self._raw(first, last))

    def digest(self) -> str:
        """Return the SHA-256 of dtype, shape and bytes."""
        digest = hashlib.sha256(f"{self.dtype} {self.shape} ".encode())
        for first, last in chunks(self.rows, self.width):
            digest.update(_bytes(self._raw(first, last)).data)
        return digest.hexdigest()

    def _raw(self, first: int, last: int) -> torch.Tensor:
        if self._tensor is not None:
            return self._tensor.reshape(self.rows, self.width)[first:last]
        assert self._place is not None
        return read_rows(*self._place, first, last).reshape(last - first, self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A model's tensor minus the base's.

    Attributes:
        base: the base's tensor.
        model: the model's tensor, None where the difference itself is known.
        difference: the difference, where it is known and not low-rank.
        low_rank: its exact factors, in float64, where there are any.
    """

    base: Stored
    model: Stored | None = None
    difference: Stored | None = None
    low_rank: LowRank | None = None

    @property
    def is_zero(self) -> bool:
        """Whether the model is known to leave the tensor alone."""
        return self.model is None and self.difference is None and self.low_rank is None

    @property
    def rounding(self) -> float:
        """Unit roundoff of the stored weights; 0 where the difference itself is known."""
        return 0.0 if self.model is None else ROUNDING[self.model.dtype]

    def rows(self, first: int, last: int) -> Array:
        """Return rows [first, last) of the difference, [rows, width]; not to be written to."""
        if self.difference is not None:
            return self.difference.read(first, last)
        out = np.empty((last - first, self.base.width))
        self.rows_into(first, last, self.base.read(first, last), out)
        return out

    def rows_into(self, first: int, last: int, base: Array, out: Array) -> None:
        """Write rows [first, last) of the difference into *out*; *base* are those of the base."""
        if self.model is not None:
            self.model.read_into(first, last, out)
            out -= base
        elif self.difference is not None:
            self.difference.read_into(first, last, out)
        elif self.low_rank is not None:
            _product_into(self.low_rank, first, last, out)
        else:
            out[:] = 0.0

    def digest(self) -> str:
        """Return a digest of what the difference is made of, the base's tensor apart.

        Factors have none: their decomposition costs less than keeping it.
        """
        stored = self.model or self.difference
        assert stored is not None
        return f"{self.model is None}/{stored.digest()}"


def read_base(base: Checkpoint, name: str, *, held: bool = True) -> Stored:
    """Read a tensor of the base, whatever numbers it holds.

    Args:
        held: whether it is kept in memory; otherwise its rows are read each time, where they lie
            in a file as they are.

    Raises:
        CheckpointError: if it cannot be read.
    """
    return _stored(base, name, held)


def read_change(
    model: Checkpoint,
    base: Checkpoint,
    name: str,
    origin: Stored,
    *,
    of_base: bool,
    held: bool = True,
) -> Change:
    """Read a model's tensor as a difference from *origin*, the base's.

    Stored weights are taken as they are: whether all are finite shows in their inner products.

    Args:
        of_base: whether an adapted model's own base has the base's weights.
        held: as for `read_base`.

    Raises:
        CheckpointError: if it cannot be read, or what an adapter makes is not finite.
    """
    import torch

    if not isinstance(model, AdaptedCheckpoint):
        return Change(origin, model=_stored(model, name, held))
    if not of_base:
        exact = model.exact(name, torch.float64)
        return Change(origin, model=Stored(_finite(exact, model, name), model.tensors[name].dtype))
    low_rank = model.low_rank_change(name)
    if low_rank is not None:
        a, b = low_rank.a.to(torch.float64), low_rank.b.to(torch.float64)
        return Change(origin, low_rank=replace(low_rank, a=a, b=b))
    difference = model.delta(name, torch.float64)
    if difference is None:
        return Change(origin)
    return Change(origin, difference=Stored(_finite(difference, model, name), "F64"))


def _stored(model: Checkpoint, name: str, held: bool) -> Stored:
    place = None if held else model.extent(name)
    dtype = model.tensors[name].dtype
    return Stored(model.read(name) if place is None else None, dtype, place)


def chunks(rows: int, width: int) -> list[tuple[int, int]]:
    """Return ranges of rows whose float64 numbers keep within `CHUNK_BYTES`, one row at least.

    They depend on the shape alone: sums over them do not change with the number of models.
    """
    step = max(1, CHUNK_BYTES // (8 * max(width, 1)))
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


def not_finite(name: str) -> str:
    """Return what is wrong with a tensor of that name, as a sentence."""
    return f"tensor {name!r} holds NaN or infinity."


def _finite(tensor: torch.Tensor, model: Checkpoint, name: str) -> torch.Tensor:
    if not all_finite(tensor):
        raise CheckpointError(not_finite(name), where=model.name)
    return tensor


def _product_into(held: LowRank, first: int, last: int, out: Array) -> None:
    a, b = held.a.numpy(), held.b.numpy()
    left, right = (a.T, b.T) if held.transposed else (b, a)
    np.matmul(left[first:last], right, out=out)
    out *= held.scale


def _bytes(tensor: torch.Tensor) -> npt.NDArray[Any]:
    import torch

    content: npt.NDArray[Any] = tensor.reshape(-1).view(torch.uint8).numpy()
    return content
