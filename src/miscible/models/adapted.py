"""A base and an adapter as one checkpoint, put together tensor by tensor as it is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import AdapterError
from miscible.keys import content_key
from miscible.models.adapter_tying import tied_head, untied
from miscible.models.adapter_vocabulary import resized_vocabulary
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import TORCH_NAMES, Extent, TensorInfo
from miscible.models.layout import input_embedding, is_output_head

if TYPE_CHECKING:
    import torch

    from miscible.models.adapters import LoraAdapter


class AdaptedCheckpoint:
    """A base and an adapter as one checkpoint: one tensor at a time, rounded once.

    Tensors keep the dtype in which the base stores them; tensors that the base lacks have the
    adapter's. Nothing is written anywhere.

    Raises:
        AdapterError: if the adapter changes tensors that the base does not have, or of another
            shape: it was made for another base.
    """

    def __init__(self, base: Checkpoint, adapter: LoraAdapter, name: str | None = None) -> None:
        self.base, self.adapter = base, adapter
        self.name = name or f"{base.name}+{adapter.name}"
        self._head = tied_head(base, adapter)
        self._vocabulary = resized_vocabulary(base, adapter)
        self._changed = frozenset(adapter.weights)
        for weight in adapter.weights:
            self._check(weight)

    @property
    def folder(self) -> Path:
        """The base's; the adapter's where it was trained with more tokens and their tokenizer."""
        if self._vocabulary is None:
            return self.base.folder
        return self._vocabulary.folder(self.base.folder, self.adapter.folder)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """The base's, but for whether embedding and head are tied, and the vocabulary's size."""
        config = self.base.config
        if self._head is not None and not self._head.kept:
            config = untied(config)
        return config if self._vocabulary is None else self._vocabulary.config(config)

    @property
    def files(self) -> Mapping[Path, FileState]:
        """The base's weight files and the adapter's."""
        return {**self.base.files, **self.adapter.files}

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The base's tensors, then those that only the adapter has."""
        tensors = dict(self.base.tensors)
        head = self._head
        parted = [head.name] if head is not None and not head.kept else []
        for name in [*self.adapter.weights, *parted]:
            if parted or head is None or name != head.name:
                tensors[name] = self._info(name)
        return tensors

    def _info(self, name: str) -> TensorInfo:
        source = self._source(name)
        if source is None:
            return self.adapter.info(name)
        info = self.base.tensors[source]
        return TensorInfo(info.dtype, self.adapter.shape(name)) if self._is_resized(name) else info

    @cached_property
    def fingerprint(self) -> str:
        return content_key(base=self.base.fingerprint, adapter=self.adapter.fingerprint)

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor, computed in float32 (float64 if the base is) and rounded once."""
        import torch

        if name not in self.tensors:
            raise AdapterError(f"there is no tensor {name!r}.", where=self.name)
        own: torch.dtype = getattr(torch, TORCH_NAMES[self.tensors[name].dtype])
        if self._change(name) is None:
            return self.base.read(self._source(name) or name, dtype)
        wide = torch.promote_types(own, torch.float32)
        return self.exact(name, wide).to(dtype or own)

    def exact(
        self, name: str, wide: torch.dtype, stored: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return one tensor before anything is rounded, in memory of its own.

        Args:
            name: of the tensor.
            wide: float32 or float64, in which everything is computed.
            stored: the base's tensor, if it has been read already.

        Raises:
            AdapterError: if a tensor of the adapter holds NaN or infinity.
        """
        import torch

        change = self._change(name)
        low_rank = None if change is None else self.adapter.delta(change)
        if change is None or low_rank is not None:
            origin = self._origin(name, wide, stored)
            return origin if low_rank is None else origin.add_(low_rank.dense(wide))
        if self.adapter.is_complete(change):
            return self.adapter.apply(change, torch.empty(0, dtype=wide))
        return self.adapter.apply(change, self._origin(name, wide, stored))

    def delta(
        self, name: str, wide: torch.dtype, stored: torch.Tensor | None = None
    ) -> torch.Tensor | None:
        """Return the exact difference from the base's tensor, None where nothing changes.

        A head that the base ties differs from the embedding; what the base lacks, from zero.
        For the arguments see `exact`.

        Raises:
            AdapterError: if the tensors differ in shape, or the adapter holds NaN or infinity.
        """
        change = self._change(name)
        if change is None:
            return None
        if self._is_resized(name):
            raise AdapterError(
                f"tensor {name!r} has another number of rows than the base's.", where=self.name
            )
        low_rank = self.adapter.delta(change)
        if low_rank is not None:
            return low_rank.dense(wide)
        return self.adapter.difference(change, self._origin(name, wide, stored))

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return the exact factors of the change if *base* is the base it was made for.

        None also where nothing changes, and where the change is not low-rank (see `delta`).
        """
        if self._change(name) is None or base.fingerprint != self.base.fingerprint:
            return None
        return self.low_rank_change(name)

    def low_rank_change(self, name: str) -> LowRank | None:
        """Return the exact factors of the change of the adapter's own base's tensor.

        None also where nothing changes, and where the change is not low-rank (see `delta`).
        """
        change = self._change(name)
        if change is None or self._source(name) != name:
            return None
        return self.adapter.delta(change)

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return the place in the base's files where a tensor lies if it is not changed."""
        if name not in self.tensors:
            raise AdapterError(f"there is no tensor {name!r}.", where=self.name)
        source = self._source(name)
        return self.base.extent(source) if source and self._change(name) is None else None

    def _is_resized(self, weight: str) -> bool:
        if self._vocabulary is None or weight not in self._changed:
            return False
        return input_embedding([weight]) is not None or is_output_head(weight)

    def _change(self, name: str) -> str | None:
        # The adapter's name for what becomes of a tensor, None where nothing does.
        if self._head is not None and self._head.kept and name == self._head.name:
            return self._head.embedding
        return name if name in self._changed else None

    def _source(self, name: str) -> str | None:
        # The base's tensor from which a tensor starts, None where the adapter holds all of it.
        if name in self.base.tensors:
            return name
        if self._head is not None and name == self._head.name:
            return self._head.embedding
        return None

    def _origin(self, name: str, wide: torch.dtype, stored: torch.Tensor | None) -> torch.Tensor:
        import torch

        source = self._source(name)
        if stored is None and source is not None:
            stored = self.base.read(source)
        if stored is None:
            return torch.zeros(self.tensors[name].shape, dtype=wide)
        return stored.to(wide, copy=True)

    def _check(self, weight: str) -> None:
        adapter, head = self.adapter, self._head
        if head is not None and head.kept and weight == head.name:
            return
        source = self._source(weight)
        if source is None:
            if adapter.is_complete(weight):
                return
            found = "does not exist there"
        else:
            info = self.base.tensors[source]
            fits = info.shape == adapter.shape(weight) or adapter.fits(weight, info.shape)
            if fits or self._is_resized(weight):
                if info.floating:
                    return
                found = f"is stored as {info.dtype} there, which is no number to add to"
            else:
                found = f"has shape {info.shape} there"
        raise AdapterError(
            f"the adapter does not fit {self.base.name}: it changes {weight!r} "
            f"{adapter.shape(weight)}, which {found}.",
            where=adapter.name,
            fix=f"It was trained on {adapter.config.get('base_model_name_or_path')!r}.",
        )
