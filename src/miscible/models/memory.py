"""A checkpoint that lies in memory: a state dict with a name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from miscible.errors import CheckpointError
from miscible.keys import content_key
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import SAFETENSORS_NAMES, Extent, TensorInfo

if TYPE_CHECKING:
    import torch


class MemoryCheckpoint:
    """A state dict with the interface of a checkpoint.

    Args:
        name: how messages call the model.
        state: tensors by name; they are not copied.
        config: the model's config.
        folder: folder with tokenizer files, if there are any.
    """

    def __init__(
        self,
        name: str,
        state: Mapping[str, torch.Tensor],
        *,
        config: Mapping[str, Any] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name, self.state = name, state
        self.config: Mapping[str, Any] = config or {}
        self.folder = folder or Path("/nonexistent")
        self.files: Mapping[Path, FileState] = {}

    @cached_property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return {
            name: TensorInfo(
                SAFETENSORS_NAMES[str(tensor.dtype).removeprefix("torch.")], tuple(tensor.shape)
            )
            for name, tensor in self.state.items()
        }

    @cached_property
    def fingerprint(self) -> str:
        import torch

        digests = {
            name: hashlib.sha256(
                tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
            ).hexdigest()
            for name, tensor in self.state.items()
        }
        infos = {name: [info.dtype, *info.shape] for name, info in self.tensors.items()}
        return content_key(digests=digests, infos=infos)

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Return one tensor, a copy; see `miscible.models.checkpoint.Checkpoint.read`."""
        if name not in self.state:
            raise CheckpointError(f"there is no tensor {name!r}.", where=self.name)
        tensor = self.state[name].detach().cpu()
        return tensor.to(dtype or tensor.dtype, copy=True)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: a state dict knows nothing of its origin."""
        return None

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return None: a state dict lies in no file."""
        return None
