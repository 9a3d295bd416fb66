"""Models: references become checkpoints with lazy tensors, and checkpoints become live models."""

from __future__ import annotations

from miscible.models.checkpoint import Checkpoint, FolderCheckpoint
from miscible.models.live import LiveModel
from miscible.models.ref import open_checkpoint

__all__ = ["Checkpoint", "FolderCheckpoint", "LiveModel", "open_checkpoint"]
