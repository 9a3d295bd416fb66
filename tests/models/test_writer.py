"""Folders appear whole or not at all, and go on from where they were stopped."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from miscible.errors import CheckpointError
from miscible.models import FolderCheckpoint
from miscible.models.formats.safetensors import TensorInfo
from miscible.models.memory import MemoryCheckpoint
from miscible.models.partial import JOURNAL, PartialFolder
from miscible.models.shard import ShardRecord, ShardWriter
from miscible.models.writer import shards_of, write_checkpoint

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


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at", range(6))
def test_finished_shards_are_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int, threads: int
) -> None:
    write(tmp_path / "whole", Counting(model()))
    killed(tmp_path / "out", at, monkeypatch, threads=threads)
    assert not (tmp_path / "out").exists()
    partial = tmp_path / ".out.partial"
    inodes = {name: (partial / name).stat().st_ino for name in NAMES[: at // 2]}
    again = Counting(model())
    write(tmp_path / "out", again, threads=threads)
    assert sorted(again.names) == list(STATE)[at // 2 * 2 :]
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    assert {n: (tmp_path / "out" / n).stat().st_ino for n in inodes} == inodes
    assert not partial.exists()


@pytest.mark.parametrize("key", ["another key", None])
def test_another_model_starts_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    killed(tmp_path / "out", 4, monkeypatch)
    again = Counting(model())
    write(tmp_path / "out", again, key=key)
    assert sorted(again.names) == list(STATE)


def test_other_shards_start_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed(tmp_path / "out", 4, monkeypatch)
    again = Counting(model())
    write(tmp_path / "out", again, shard_bytes=64)
    assert sorted(again.names) == list(STATE)
    write(tmp_path / "whole", Counting(model()), shard_bytes=64)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_damaged_shard_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "whole", Counting(model()))
    killed(tmp_path / "out", 4, monkeypatch)
    damaged = tmp_path / ".out.partial" / NAMES[0]
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    again = Counting(model())
    write(tmp_path / "out", again)
    assert sorted(again.names) == list(STATE)[:2] + list(STATE)[4:]
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize(
    "journal",
    [
        b"", b"{", b"[]", b"null", b'{"key": 3}', b"\xff\xfe", b'{"key": "KEY", "shards": []}',
        b'{"key": "KEY", "shards": {"a": 3}}',
        b'{"key": "KEY", "shards": {"../../x": {"digest": "", "pieces": {}, "note": null}}}',
        b'{"key": "KEY", "shards": {"..": {"digest": "", "pieces": {}, "note": null}}}',
        b'{"key": "KEY", "shards": {"a": {"digest": "", "pieces": {"t": "x"}, "note": 1}}}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_a_damaged_journal_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: bytes
) -> None:
    killed(tmp_path / "out", 4, monkeypatch)
    path = tmp_path / ".out.partial" / JOURNAL
    path.write_bytes(journal.replace(b"KEY", json.loads(path.read_text())["key"].encode()))
    again = Counting(model())
    write(tmp_path / "out", again)
    assert sorted(again.names) == list(STATE)
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert held == {*NAMES, "model.safetensors.index.json", "config.json"}


def test_what_lies_in_the_way_is_removed(tmp_path: Path) -> None:
    partial = tmp_path / ".out.partial"
    (partial / "folder").mkdir(parents=True)
    (partial / "folder" / "x").write_text("x")
    (partial / NAMES[0]).write_text("half")
    (partial / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "x").write_text("x")
    (partial / "linked").symlink_to(tmp_path / "mine")
    write(tmp_path / "out", Counting(model()))
    held = {path.name for path in (tmp_path / "out").iterdir()}
    assert held == {*NAMES, "model.safetensors.index.json", "config.json"}
    assert (tmp_path / "mine" / "x").read_text() == "x"


def test_notes_are_kept_with_finished_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def note(names: Sequence[str]) -> Any:
        return [[0.1, float(len(names))], {"of": list(names)}]

    wanted = write(tmp_path / "whole", Counting(model()), note=note)
    killed(tmp_path / "out", 4, monkeypatch, note=note)
    seen: list[Mapping[str, ShardRecord]] = []

    def texts(records: Mapping[str, ShardRecord]) -> Mapping[str, str]:
        seen.append(dict(records))
        return {"notes.json": json.dumps([r.note for r in records.values()])}

    found = write(tmp_path / "out", Counting(model()), note=note, files=texts)
    assert found == wanted
    assert seen == [wanted]


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


def test_an_interrupt_keeps_what_is_finished(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Counting(model(), 1, interrupt))
    assert list(tmp_path.iterdir()) == [], "nothing was finished"
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out", Counting(model(), 4, interrupt))
    assert [path.name for path in tmp_path.iterdir()] == [".out.partial"]
    again = Counting(model())
    write(tmp_path / "out", again)
    assert sorted(again.names) == list(STATE)[4:]


def test_a_tensor_that_is_not_written_whole(tmp_path: Path) -> None:
    def half(name: str, write: Callable[[int, memoryview], None], pool: Any | None) -> None:
        write(0, memoryview(bytes(32)))

    with pytest.raises(CheckpointError, match="'layer.0.weight' was not written whole"):
        write_checkpoint(model(), tmp_path / "out", stream=half, key="key")
    assert list(tmp_path.iterdir()) == []


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def second() -> None:
        with pytest.raises(CheckpointError, match="another process is writing"):
            write(tmp_path / "out", Counting(model()))
        write(tmp_path / "other", Counting(model()))

    write(tmp_path / "out", Counting(model(), 3, second))
    assert content(tmp_path / "out") == content(tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "out"]


@pytest.mark.parametrize("gone", ["removed", "made anew"])
def test_a_folder_that_goes_before_it_is_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    """Another process failed, or finished, between our opening the folder and locking it."""
    real = fcntl.flock

    def late(descriptor: int, how: int) -> None:
        (tmp_path / ".out.partial").rmdir()
        if gone == "made anew":
            (tmp_path / "held").mkdir()  # so that the inode is not used again
            (tmp_path / ".out.partial").mkdir()
        real(descriptor, how)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(CheckpointError, match="another process is writing"):
        write(tmp_path / "out", Counting(model()))
    assert not (tmp_path / "out").exists()
    assert len(os.listdir("/proc/self/fd")) == before


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
