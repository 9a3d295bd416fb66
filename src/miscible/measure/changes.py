"""One tensor of one model as a difference from the base: stored weights, or exact factors.

Nothing is rounded: stored numbers are subtracted in float64, and what an adapter says it changes is
taken from the adapter, never from a difference of rounded sums.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from miscible.errors import CheckpointError
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.formats.safetensors import Extent, read_rows

if TYPE_CHECKING:
    import torch

    from miscible.models.checkpoint import Checkpoint
    from miscible.models.delta import LowRank

Array = npt.NDArray[np.float64]

ROUNDING = {"F16": 2.0**-11, "BF16": 2.0**-8, "F32": 2.0**-24, "F64": 2.0**-53}
"""Unit roundoff by dtype."""


class Stored:
    """A tensor as it is stored, as rows of float64 numbers.

    Attributes:
        dtype: its safetensors name.
        rows, width: extent of the first dimension, and the product of the others.
    """

    def __init__(
        self, tensor: torch.Tensor, dtype: str, place: tuple[Path, Extent] | None = None
    ) -> None:
        self.dtype, self._place = dtype, place
        self._tensor: torch.Tensor | None = tensor.detach().contiguous()
        self.rows = tensor.shape[0] if tensor.ndim else 1
        self.width = tensor.numel() // self.rows if self.rows else 0

    def read(self, first: int, last: int) -> Array:
        """Return rows [first, last) as float64, [rows, width]; not to be written to."""
        import torch

        if self._tensor is not None:
            rows = self._tensor.reshape(self.rows, self.width)[first:last]
        else:
            assert self._place is not None
            rows = read_rows(*self._place, first, last).reshape(last - first, self.width)
        found: Array = rows.to(torch.float64).numpy()
        return found

    def let_go(self) -> None:
        """Free the memory if the rows can be read from a file again."""
        if self._place is not None:
            self._tensor = None

    def digest(self) -> str:
        """Return the SHA-256 of dtype and bytes."""
        assert self._tensor is not None
        return _digest(self._tensor, self.dtype)


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

    def rows(self, first: int, last: int, base: Array | None = None) -> Array:
        """Return rows [first, last) of the difference; *base* are the base's, if read already."""
        if self.model is not None:
            # Not in place: numbers that are stored in float64 are not copied when they are read.
            return self.model.read(first, last) - (
                self.base.read(first, last) if base is None else base
            )
        if self.difference is not None:
            return self.difference.read(first, last)
        if self.low_rank is not None:
            return _product(self.low_rank, first, last)
        return np.zeros((last - first, self.base.width))

    def let_go(self) -> None:
        """Free the memory if the rows can be read from a file again."""
        if self.model is not None:
            self.model.let_go()

    def digest(self) -> str:
        """Return a digest of what the difference is made of, the base's tensor apart.

        Factors have none: their decomposition costs less than keeping it.
        """
        stored = self.model or self.difference
        assert stored is not None
        return f"{self.model is None}/{stored.digest()}"


def read_base(base: Checkpoint, name: str) -> Stored:
    """Read a tensor of the base, whatever numbers it holds.

    Raises:
        CheckpointError: if it cannot be read.
    """
    return _stored(base, name)


def read_change(
    model: Checkpoint, base: Checkpoint, name: str, origin: Stored, *, of_base: bool
) -> Change:
    """Read a model's tensor as a difference from *origin*, the base's.

    Stored weights are taken as they are: whether all are finite shows in their inner products.

    Args:
        of_base: whether an adapted model's own base has the base's weights.

    Raises:
        CheckpointError: if it cannot be read, or what an adapter makes is not finite.
    """
    import torch

    if not isinstance(model, AdaptedCheckpoint):
        return Change(origin, model=_stored(model, name))
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


def _stored(model: Checkpoint, name: str) -> Stored:
    return Stored(model.read(name), model.tensors[name].dtype, model.extent(name))


def not_finite(name: str) -> str:
    """Return what is wrong with a tensor of that name, as a sentence."""
    return f"tensor {name!r} holds NaN or infinity."


def _finite(tensor: torch.Tensor, model: Checkpoint, name: str) -> torch.Tensor:
    if not tensor.isfinite().all():
        raise CheckpointError(not_finite(name), where=model.name)
    return tensor


def _product(held: LowRank, first: int, last: int) -> Array:
    a, b = held.a.numpy(), held.b.numpy()
    left, right = (a.T, b.T) if held.transposed else (b, a)
    found: Array = left[first:last] @ right
    found *= held.scale
    return found


def _digest(tensor: torch.Tensor, dtype: str) -> str:
    import torch

    content: npt.NDArray[Any] = tensor.detach().reshape(-1).view(torch.uint8).numpy()
    digest = hashlib.sha256(f"{dtype} {tuple(tensor.shape)} ".encode())
    digest.update(content.data)
    return digest.hexdigest()
