"""A small checkpoint that is written in three shards, by a stream that counts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from miscible.models.memory import MemoryCheckpoint
from miscible.models.partial import PartialFolder
from miscible.models.writer import write_checkpoint

STATE = {f"layer.{i}.weight": torch.full((16,), float(i)) for i in range(6)}
SHARD = 130  # bytes: two tensors
NAMES = [f"model-{i:05d}-of-00003.safetensors" for i in (1, 2, 3)]


class Stop(BaseException):
    """Stands for a process that ends without cleaning up."""


def model(state: Mapping[str, torch.Tensor] = STATE) -> MemoryCheckpoint:
    return MemoryCheckpoint("m", state, config={"model_type": "x"})


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Counting:
    """A stream that counts, and may do something at the n-th tensor."""

    def __init__(
        self, checkpoint: MemoryCheckpoint, at: int = -1, do: Callable[[], None] | None = None
    ) -> None:
        self.names: list[str] = []
        self._checkpoint, self._at, self._do = checkpoint, at, do

    def __call__(
        self, name: str, write: Callable[[int, memoryview], None], pool: Any | None
    ) -> None:
        self.names.append(name)
        if len(self.names) - 1 == self._at and self._do is not None:
            self._do()
        data = self._checkpoint.read(name).flatten().view(torch.uint8).numpy().data
        write(0, data[:32])
        write(32, data[32:])


def stop() -> None:
    raise Stop


def write(folder: Path, stream: Counting, key: str | None = "key", **options: Any) -> Any:
    options = {"shard_bytes": SHARD, **options}
    return write_checkpoint(model(), folder, stream=stream, key=key, **options)


def killed(folder: Path, at: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Write as a process does that is killed at the n-th tensor: nothing is cleaned up."""
    with monkeypatch.context() as patch:
        leave = PartialFolder.__exit__

        def gone(self: PartialFolder, kind: object, *rest: object) -> None:
            assert self._lock is not None
            os.close(self._lock)

        patch.setattr(PartialFolder, "__exit__", gone)
        assert leave is not gone
        with pytest.raises(Stop):
            write(folder, Counting(model(), at, stop), **options)
