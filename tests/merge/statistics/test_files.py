"""The statistics file: round trip, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from miscible.errors import CheckpointError, MiscibleError
from miscible.merge.statistics.files import Statistics, StatisticsFile, write_statistics
from miscible.models.formats.safetensors import SafetensorsFile


def a_gram(width: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    rows = torch.randint(-9, 9, (9, width), generator=draw).float()  # symmetric to the last bit
    return rows.T @ rows


@pytest.fixture
def grams() -> Statistics:
    tensors = {"a.weight": a_gram(5), "b.weight": a_gram(1), "c.weight": a_gram(4).unsqueeze(0)}
    return Statistics("gram", tensors, examples=3, tokens=9, model="f1ng3r", seed=4)


def test_grams_come_back(tmp_path: Path, grams: Statistics) -> None:
    path = tmp_path / "gram.safetensors"
    write_statistics(path, grams)
    file = StatisticsFile(path)
    assert (file.kind, file.model, file.examples, file.tokens, file.seed) == (
        "gram", "f1ng3r", 3, 9, 4,
    )  # fmt: skip
    for name, tensor in grams.tensors.items():
        found = file.read(name)
        assert found is not None
        assert found.equal(tensor)
    assert file.read("d.weight") is None
    assert sorted(file.names) == ["a.weight", "b.weight", "c.weight"]
    file.verify()


def test_only_the_triangle_is_stored(tmp_path: Path, grams: Statistics) -> None:
    path = tmp_path / "gram.safetensors"
    write_statistics(path, grams)
    assert load_file(path)["a.weight"].shape == (15,)  # and the library reads it
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_fishers_come_back(tmp_path: Path, dtype: str) -> None:
    tensor = torch.rand(3, 2) * 1e-9
    path = tmp_path / "fisher.safetensors"
    write_statistics(path, Statistics("fisher", {"a.weight": tensor}, 1, 5), dtype=dtype)
    found = StatisticsFile(path).read("a.weight")
    assert found is not None
    assert found.equal(tensor.to(getattr(torch, dtype)).float())


def test_the_file_says_nothing_of_where_it_was_made(tmp_path: Path, grams: Statistics) -> None:
    path = tmp_path / "gram.safetensors"
    write_statistics(path, grams)
    assert str(tmp_path) not in json.dumps(SafetensorsFile(path).metadata)


def test_same_statistics_make_the_same_file(tmp_path: Path, grams: Statistics) -> None:
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        write_statistics(path, grams)
    assert StatisticsFile(paths[0]).digest == StatisticsFile(paths[1]).digest
    assert StatisticsFile(paths[0]).fingerprint == StatisticsFile(paths[1]).fingerprint


def test_a_changed_tensor_is_noticed(tmp_path: Path, grams: Statistics) -> None:
    path = tmp_path / "gram.safetensors"
    write_statistics(path, grams)
    held = load_file(path)
    held["a.weight"][0] += 1
    save_file(held, path, metadata=SafetensorsFile(path).metadata)
    with pytest.raises(CheckpointError, match="not hold the tensors"):
        StatisticsFile(path).verify()


METADATA = {
    "format": "miscible statistics", "version": "1", "kind": "gram", "model": "", "examples": "1",
    "tokens": "1", "seed": "0", "transposed": "[]", "sha256": "",
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "pt", "no calibration statistics"),
        ("version", "2", "no calibration statistics"),
        ("kind", "hessian", "no kind of statistics"),
        ("tokens", "many", "no whole number as 'tokens'"),
        ("tokens", "9" * 5000, "no whole number as 'tokens'"),
        ("transposed", "{}", "no list of names"),
        ("transposed", "[" * 100_000, "no list of names"),
    ],
)
def test_a_bad_header_is_refused(tmp_path: Path, key: str, value: str, message: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(3)}, path, metadata=METADATA)
    StatisticsFile(path)
    save_file({"a": torch.ones(3)}, path, metadata=METADATA | {key: value})
    with pytest.raises(MiscibleError, match=message):
        StatisticsFile(path)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.tensor([1.0, float("nan"), 1.0]), "'a' hold NaN"),
        (torch.tensor([1.0, float("inf"), 1.0]), "'a' hold NaN"),
        (torch.ones(4), "not a triangle"),
        (torch.ones(3, 1), "not a triangle"),
        (torch.ones(3, dtype=torch.int64), "stores 'a' as I64"),
    ],
)
def test_a_bad_tensor_is_refused(tmp_path: Path, tensor: torch.Tensor, message: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": tensor}, path, metadata=METADATA)
    with pytest.raises(CheckpointError, match=message):
        StatisticsFile(path).read("a")


def test_what_cannot_be_stored_is_refused(tmp_path: Path, grams: Statistics) -> None:
    with pytest.raises(MiscibleError, match="gram statistics cannot be stored in bfloat16"):
        write_statistics(tmp_path / "x", grams, dtype="bfloat16")
    broken = Statistics("fisher", {"a": torch.tensor([float("nan")])}, 1, 1)
    with pytest.raises(CheckpointError, match="'a' hold NaN"):
        write_statistics(tmp_path / "x", broken)
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_statistics(tmp_path / "file" / "x", grams)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
