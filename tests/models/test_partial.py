"""What was stopped goes on from its finished shards, and one process at a time writes."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import CheckpointError
from miscible.models.partial import JOURNAL
from miscible.models.shard import ShardRecord
from models.writing import NAMES, STATE, Counting, content, killed, model, write


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


def test_a_damaged_shard_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
