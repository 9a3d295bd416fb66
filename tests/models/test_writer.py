"""Folders appear whole or not at all, and go on from where they were stopped."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import CheckpointError
from miscible.models import FolderCheckpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.shard import ShardWriter
from miscible.models.writer import shards_of, write_checkpoint
from models.writing import NAMES, STATE, Counting, content, model, write


def test_shards_hold_what_fits() -> None:
    infos = {name: TensorInfo("F32", (size,)) for name, size in zip("abcde", (1, 1, 9, 1, 1))}  # noqa: B905
    assert shards_of(infos, 100) == {"model.safetensors": list("abcde")}
    groups = list(shards_of(infos, 8).values())
    assert groups == [["a", "b"], ["c"], ["d", "e"]], "one that does not fit has its own"
    assert list(shards_of(infos, 8))[2] == "model-00003-of-00003.safetensors"
    assert shards_of({}, 8) == {"model.safetensors": []}


def test_a_sharded_folder(tmp_path: Path) -> None:
    records = write(tmp_path / "out", Counting(model()))
    assert list(records) == NAMES
    folder = FolderCheckpoint(tmp_path / "out")
    assert all(folder.read(name).equal(tensor) for name, tensor in STATE.items())
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 6 * 64
    assert index["weight_map"]["layer.5.weight"] == NAMES[2]
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert held == {*NAMES, "model.safetensors.index.json", "config.json"}
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


FAILURES: list[tuple[BaseException, type[BaseException], str]] = [
    (OSError(errno.ENOSPC, "No space left on device"), CheckpointError, "the disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), CheckpointError, "the disk is full"),
    (OSError(errno.EIO, "Input/output error"), CheckpointError, "Input/output error"),
    (CheckpointError("wrong."), CheckpointError, "wrong"),
    (RuntimeError("a bug"), RuntimeError, "a bug"),
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("failure", "kind", "message"), FAILURES)
@pytest.mark.parametrize("at", [0, 3])
def test_failures_leave_nothing(
    tmp_path: Path,
    failure: BaseException,
    kind: type[BaseException],
    message: str,
    at: int,
    threads: int,
) -> None:
    def fail() -> None:
        raise failure

    with pytest.raises(kind, match=message):
        write(tmp_path / "out", Counting(model(), at, fail), threads=threads)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite", "fsync"])
@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_disk_that_fills_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, calls: int
) -> None:
    real, left = getattr(os, function), [calls]

    def full(*arguments: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(CheckpointError, match="the disk is full"):
            write(tmp_path / "out", Counting(model()), shard_bytes=64)
    assert list(tmp_path.iterdir()) == []


def test_a_tensor_that_is_not_written_whole(tmp_path: Path) -> None:
    def half(name: str, write: Callable[[int, memoryview], None], pool: Any | None) -> None:
        write(0, memoryview(bytes(32)))

    with pytest.raises(CheckpointError, match="'layer.0.weight' was not written whole"):
        write_checkpoint(model(), tmp_path / "out", stream=half, key="key")
    assert list(tmp_path.iterdir()) == []


def test_a_destination_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    def appear() -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine.txt").write_text("mine")

    with pytest.raises(CheckpointError, match="cannot be written"):
        write(tmp_path / "out", Counting(model(), 5, appear))
    assert content(tmp_path / "out") == {"mine.txt": b"mine"}
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_destinations_that_are_taken(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "full")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("full", "file", "link", "dangling"):
        stream = Counting(model())
        with pytest.raises(CheckpointError, match="exists already"):
            write(tmp_path / name, stream)
        assert not stream.names, "nothing is computed in vain"
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", Counting(model()))
    assert (tmp_path / "empty" / "config.json").is_file()


def test_files_are_durable_before_the_folder_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[str] = set()
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))
        assert not (tmp_path / "out").exists() or synced
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write(tmp_path / "out", Counting(model()))
    partial = tmp_path / ".out.partial"
    wanted = [*NAMES, "model.safetensors.index.json", "config.json"]
    assert {str(partial / name) for name in wanted} <= synced
    assert {str(partial), str(tmp_path)} <= synced


def test_descriptors_are_closed(tmp_path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    def fail() -> None:
        raise CheckpointError("wrong.")

    write(tmp_path / "first", Counting(model()))
    before = opened()
    for number in range(5):
        write(tmp_path / str(number), Counting(model()))
        with pytest.raises(CheckpointError):
            write(tmp_path / "failed", Counting(model(), 3, fail))
        with pytest.raises(CheckpointError):
            write(tmp_path / "first", Counting(model()))
    assert opened() == before


def test_a_shard_writer_that_fails_leaves_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="full"):
        ShardWriter(tmp_path / "x", {"t": TensorInfo("F32", (3,))})
    assert len(os.listdir("/proc/self/fd")) == before
