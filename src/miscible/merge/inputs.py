"""Reading what goes into a merge: whole tensors for torch, sources for the streamed engine.

Everything is exact: an adapter's tensor is base plus delta before any rounding, its difference from
that base is never computed by subtraction; only a recipe's ``dtype`` rounds, and only what is
stored. Embeddings of unequal vocabularies are read through their alignment.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from miscible.errors import MiscibleError
from miscible.merge.plan import Input, Output
from miscible.models.adapters import AdaptedCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.formats.safetensors import TORCH_NAMES
from miscible.models.layout import input_embedding

if TYPE_CHECKING:
    import numpy as np
    import torch

    from miscible.merge.engine.sources import OpenFiles, Source
    from miscible.merge.token_rows import Alignment
    from miscible.models.delta import LowRank


class Inputs:
    """Reads the inputs of one merge.

    Args:
        models: by reference.
        dtype: of the recipe: to which stored tensors are rounded first.
        alignment: of unequal vocabularies.
        device: where tensors for torch are put.
    """

    def __init__(
        self,
        models: Mapping[str, Checkpoint],
        *,
        dtype: str | None = None,
        alignment: Alignment | None = None,
        device: str = "cpu",
    ) -> None:
        self.models, self.dtype, self.device = models, dtype, device
        self.alignment = alignment
        self._same: dict[tuple[str, str], bool] = {}
        self._mean_rows: dict[tuple[str, str], np.ndarray] = {}
        self._lock = Lock()

    def shape(self, source: Input) -> tuple[int, ...]:
        """Return the shape of an input, aligned."""
        shape = self.models[source.model].tensors[source.tensor].shape
        if self.alignment is None:
            return shape
        return self.alignment.shape(source.model, source.tensor, shape)

    def is_aligned(self, source: Input) -> bool:
        """Return whether an input is read through the alignment."""
        return self.alignment is not None and self.alignment.concerns(source.model, source.tensor)

    def exact(self, source: Input, wide: torch.dtype, output: Output) -> torch.Tensor:
        """Return an input in the wide dtype, in memory of its own.

        Raises:
            MiscibleError: if it holds NaN or infinity.
        """
        if self.is_aligned(source):
            import torch

            rows = self._aligned(source, output, 0, self.shape(source)[0], wide)
            return torch.from_numpy(rows).to(self.device)
        return self._stored(self.models[source.model], source.tensor, wide).to(self.device)

    def delta(
        self, source: Input, origin: Input, base: torch.Tensor, output: Output
    ) -> torch.Tensor:
        """Return an input's difference from the base, whose tensor is *base*."""
        if self.is_change_of(source, origin):
            model = self.models[source.model]
            assert isinstance(model, AdaptedCheckpoint)
            change = model.delta(source.tensor, base.dtype)
            return base.new_zeros(base.shape) if change is None else change.to(self.device)
        return self.exact(source, base.dtype, output) - base

    def is_change_of(self, source: Input, origin: Input) -> bool:
        """Return whether an input is an adapter's on just this tensor of the base."""
        model = self.models[source.model]
        return (
            isinstance(model, AdaptedCheckpoint)
            and source.tensor == origin.tensor
            and not self.is_aligned(source)
            and model.tensors[source.tensor].shape == self.shape(origin)
            and origin.tensor in model.base.tensors
            and self.same_weights(model.base, self.models[origin.model])
        )

    def same_weights(self, one: Checkpoint, other: Checkpoint) -> bool:
        """Return whether two checkpoints hold the same weights; digests are a last resort."""
        if one is other or (one.files and one.files == other.files):
            return True
        if one.tensors != other.tensors:
            return False
        key = (str(id(one)), str(id(other)))
        if key not in self._same:
            self._same[key] = one.fingerprint == other.fingerprint
        return self._same[key]

    def source(
        self, source: Input, origin: Input | None, output: Output, files: OpenFiles
    ) -> Source:
        """Return an input as the streamed engine reads it; a difference where it is one exactly."""
        from miscible.merge.engine.sources import (
            CODES,
            ArraySource,
            ComputedSource,
            FileSource,
            LowRankSource,
            ZeroSource,
        )

        model = self.models[source.model]
        if self.is_aligned(source):
            width = self._row_width(source)
            return ComputedSource(
                model.name,
                source.tensor,
                width,
                lambda first, last: self._aligned(source, output, first, last),
            )
        if origin is not None and source != origin and self.is_change_of(source, origin):
            assert isinstance(model, AdaptedCheckpoint)
            low_rank = model.low_rank_change(source.tensor)
            if low_rank is not None and not low_rank.kernel:
                return LowRankSource(model.name, source.tensor, low_rank)
            import torch

            change = model.delta(source.tensor, torch.float32)
            if change is None:
                return ZeroSource(model.name, source.tensor)
            return ArraySource.of_delta(model.name, source.tensor, change.contiguous().numpy())
        if isinstance(model, AdaptedCheckpoint):
            low_rank = model.low_rank_change(source.tensor)
            if low_rank is not None and not low_rank.kernel:
                return self._adapted(model, source.tensor, low_rank)
        place = model.extent(source.tensor)
        if place is not None and place[1].info.dtype in CODES:
            path, extent = place
            code = CODES[extent.info.dtype]
            return FileSource(model.name, source.tensor, code, files, path, extent.offset)
        import torch

        tensor = self._stored(model, source.tensor, torch.float32)
        return ArraySource.of(model.name, source.tensor, tensor.contiguous().numpy())

    def _adapted(self, model: AdaptedCheckpoint, name: str, change: LowRank) -> Source:
        # Base plus delta, row by row: neither is ever held whole.
        import torch

        from miscible.merge.engine.sources import ComputedSource, LowRankSource

        product = LowRankSource(model.name, name, change)

        def rows(first: int, last: int) -> np.ndarray[Any, Any]:
            base = self._rows(model.base, name, first, last, torch.float32)
            total: np.ndarray[Any, Any] = base + product.rows(first, last)
            return total

        return ComputedSource(model.name, name, product.row, rows)

    def _stored(self, model: Checkpoint, name: str, wide: torch.dtype) -> torch.Tensor:

        if isinstance(model, AdaptedCheckpoint):
            base = model.base.tensors.get(name)
            stored = None if base is None else self._stored(model.base, name, wide)
            return model.exact(name, wide, stored)
        tensor = self._rounded(model.read(name), model, name)
        # A copy even where nothing is converted: results are built in place.
        return tensor.to(wide, copy=True)

    def _row_width(self, source: Input) -> int:
        shape = self.models[source.model].tensors[source.tensor].shape
        width = 1
        for extent in shape[1:]:
            width *= extent
        return width

    def _aligned(
        self,
        source: Input,
        output: Output,
        first: int,
        last: int,
        wide: torch.dtype | None = None,
    ) -> np.ndarray[Any, Any]:
        import torch

        from miscible.merge.token_rows import aligned_rows, mean_row

        assert self.alignment is not None
        wide = wide or torch.float32
        names = {i.model: i.tensor for i in output.named}

        def read_rows(reference: str, start: int, stop: int) -> np.ndarray[Any, Any]:
            name = names.get(reference) or self._counterpart(reference, output.name)
            return self._rows(self.models[reference], name, start, stop, wide)

        mean = None
        if self.alignment.padded:
            key = (source.model, output.name)
            with self._lock:
                if key not in self._mean_rows:
                    self._mean_rows[key] = mean_row(self.alignment, source.model, read_rows)
                mean = self._mean_rows[key]
        return aligned_rows(self.alignment, source.model, read_rows, first, last, mean=mean)

    def _counterpart(self, reference: str, name: str) -> str:
        tensors = self.models[reference].tensors
        return name if name in tensors else input_embedding(tensors) or name

    def _rows(
        self, model: Checkpoint, name: str, start: int, stop: int, wide: torch.dtype
    ) -> np.ndarray[Any, Any]:

        from miscible.models.formats.safetensors import read_rows

        place = model.extent(name)
        if place is None:
            return self._stored(model, name, wide)[start:stop].numpy()
        rows = self._rounded(read_rows(place[0], place[1], start, stop), model, name)
        return rows.to(wide).numpy()

    def _rounded(self, tensor: torch.Tensor, model: Checkpoint, name: str) -> torch.Tensor:
        import torch

        if not tensor.isfinite().all():
            raise MiscibleError(
                f"tensor {name!r} holds NaN or infinity.",
                where=model.name,
                fix="Its training or conversion failed; a merge would spread it.",
            )
        if self.dtype is None:
            return tensor
        rounded = tensor.to(getattr(torch, self.dtype))
        if not rounded.isfinite().all():
            raise MiscibleError(
                f"tensor {name!r} does not fit into {self.dtype}.",
                where=model.name,
                fix="Give a wider 'dtype' (bfloat16 or float32).",
            )
        return rounded


def does_not_fit(tensor: str, dtype: str) -> MiscibleError:
    """Return the error of a result that overflows the dtype in which it is stored."""
    return MiscibleError(
        f"the merged tensor {tensor!r} does not fit into {dtype}.",
        fix="Give a wider 'out_dtype' (bfloat16 or float32), or smaller weights.",
    )


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a safetensors name."""
    import torch

    found: torch.dtype = getattr(torch, TORCH_NAMES[name])
    return found
