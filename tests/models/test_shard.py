"""One file of a checkpoint: written from anywhere, read by anyone, known again."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from miscible.errors import CheckpointError
from miscible.models.formats.safetensors import SAFETENSORS_NAMES, SafetensorsFile, TensorInfo
from miscible.models.shard import ShardRecord, ShardWriter, holds

TENSORS = {
    "weight": torch.randn(7, 33),
    "half": torch.randn(41).bfloat16(),
    "nothing": torch.zeros(0, 5),
    "scalar": torch.tensor(2.5),
    "mask": torch.tensor([True, False, True]),
    'name with ü and "quotes"': torch.arange(5),
}


def infos(tensors: dict[str, torch.Tensor]) -> dict[str, TensorInfo]:
    names = {n: SAFETENSORS_NAMES[str(t.dtype).removeprefix("torch.")] for n, t in tensors.items()}
    return {name: TensorInfo(names[name], tuple(t.shape)) for name, t in tensors.items()}


def raw(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def written(path: Path, piece: int = 64, threads: int = 1, backwards: bool = False) -> ShardRecord:
    """Write `TENSORS` in pieces of so many bytes."""
    tasks = [
        (name, start, raw(tensor)[start : start + piece])
        for name, tensor in TENSORS.items()
        for start in range(0, tensor.nbytes, piece)
    ]
    with ShardWriter(path, infos(TENSORS)) as shard, ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lambda task: shard.write(task[0], task[1], memoryview(task[2])),
                          tasks[::-1] if backwards else tasks):  # fmt: skip
            pass
        for name in TENSORS:
            shard.check_complete(name)
        return shard.close()


@pytest.mark.parametrize("piece", [1, 64, 10**6])
def test_the_reference_library_reads_it(tmp_path: Path, piece: int) -> None:
    written(tmp_path / "x.safetensors", piece)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == TENSORS.keys()
    assert all(found[name].equal(tensor) for name, tensor in TENSORS.items())
    assert all(found[name].dtype == tensor.dtype for name, tensor in TENSORS.items())
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert min(extent.offset for extent in file.extents.values()) % 8 == 0
    assert list(file.extents) == list(TENSORS)


def test_bytes_and_record_do_not_depend_on_the_order(tmp_path: Path) -> None:
    records = [
        written(tmp_path / "a", threads=1),
        written(tmp_path / "b", threads=5),
        written(tmp_path / "c", threads=2, backwards=True),
    ]
    assert records[0] == records[1] == records[2]
    assert len({(tmp_path / name).read_bytes() for name in "abc"}) == 1
    assert all(holds(tmp_path / name, records[0]) for name in "abc")


@pytest.mark.parametrize("piece", [64, 10**6])
def test_any_change_of_a_byte_is_noticed(tmp_path: Path, piece: int) -> None:
    path = tmp_path / "x"
    record = written(path, piece)
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert not holds(path, record), place
    for cut in (0, 4, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:cut])
        assert not holds(path, record)
    path.write_bytes(whole)
    assert holds(path, record)
    path.unlink()
    assert not holds(path, record)


def test_another_record_does_not_fit(tmp_path: Path) -> None:
    record = written(tmp_path / "x")
    assert not holds(tmp_path / "x", replace(record, digest="0" * 32))
    assert not holds(tmp_path / "x", replace(record, pieces={}))
    assert not holds(tmp_path / "x", replace(record, pieces={**record.pieces, "weight": 0}))
    assert not holds(tmp_path / "x", replace(record, pieces={**record.pieces, "weight": -5}))
    assert not holds(tmp_path / "x", replace(record, pieces=dict.fromkeys(record.pieces, 32)))


def test_a_shard_without_tensors(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "x", {}) as shard:
        record = shard.close()
    assert load_file(tmp_path / "x") == {}
    assert holds(tmp_path / "x", record)


def test_bytes_of_an_empty_tensor_may_be_written(tmp_path: Path) -> None:
    empty = {"empty": TensorInfo("F32", (0, 3))}
    with ShardWriter(tmp_path / "x", empty) as shard:
        shard.write("empty", 0, memoryview(b""))
        shard.check_complete("empty")
        record = shard.close()
    assert holds(tmp_path / "x", record)


@pytest.mark.parametrize("pieces", [[], [(0, 4)], [(4, 4)], [(0, 4), (8, 4)], [(0, 8), (4, 8)]])
def test_gaps_are_found(tmp_path: Path, pieces: list[tuple[int, int]]) -> None:
    with ShardWriter(tmp_path / "x", {"t": TensorInfo("F32", (3,))}) as shard:
        for start, length in pieces:
            shard.write("t", start, memoryview(bytes(length)))
        with pytest.raises(CheckpointError, match="not written whole"):
            shard.check_complete("t")


def test_writes_that_are_cut_short_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = written(tmp_path / "whole")
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, place: real(fd, bytes(data[:5]), place))
        assert written(tmp_path / "short") == wanted
    assert (tmp_path / "short").read_bytes() == (tmp_path / "whole").read_bytes()


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_disks_that_cannot_reserve_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    wanted = written(tmp_path / "whole")
    monkeypatch.setattr(os, "posix_fallocate", refused)
    assert written(tmp_path / "plain") == wanted


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError):
        written(tmp_path / "x")
    assert (tmp_path / "x").read_text() == "mine"


@settings(max_examples=50, deadline=None)
@given(size=st.integers(0, 500), piece=st.integers(1, 200), threads=st.integers(1, 4))
def test_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, size: int, piece: int, threads: int
) -> None:
    path = tmp_path_factory.mktemp("shard") / "x"
    data = bytes(i % 251 for i in range(size))
    with ShardWriter(path, {"t": TensorInfo("U8", (size,))}) as shard:
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(
                lambda start: shard.write("t", start, memoryview(data[start : start + piece])),
                range(0, size, piece),
            ):
                pass
        shard.check_complete("t")
        record = shard.close()
    assert path.read_bytes().endswith(data)
    assert holds(path, record)
