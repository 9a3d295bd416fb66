"""Models of a merge that are merges themselves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint, FileState
from miscible.models.delta import LowRank
from miscible.models.formats.safetensors import Extent

if TYPE_CHECKING:
    import torch


class MergedModel:
    """A merge as a model of another one: known by its recipe, for its parents' files tell nothing.

    Args:
        merge: the merge.
        name: how messages call it.
    """

    def __init__(self, merge: VirtualCheckpoint, name: str) -> None:
        self.merge, self.name = merge, name
        self.folder, self.config, self.tensors = merge.folder, merge.config, merge.tensors
        self.files: Mapping[Path, FileState] = {}

    @property
    def fingerprint(self) -> str:
        return self.merge.quick_key

    def read(self, name: str, dtype: torch.dtype | None = None) -> torch.Tensor:
        """Compute one tensor; see `VirtualCheckpoint.read`."""
        return self.merge.read(name, dtype)

    def low_rank_delta(self, name: str, base: Checkpoint) -> LowRank | None:
        """Return None: a merge keeps no factors."""
        return None

    def extent(self, name: str) -> tuple[Path, Extent] | None:
        """Return None: a merge lies in no file."""
        return None
