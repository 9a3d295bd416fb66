from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from miscible.errors import CheckpointError
from miscible.models.formats.safetensors import SafetensorsFile


def test_reads_what_the_reference_library_wrote(tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 4),
        "b": torch.randn(5).to(torch.bfloat16),
        "c": torch.arange(6).reshape(2, 3),
        "empty": torch.zeros(0, 7),
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "mask": torch.tensor([True, False]),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.extents.keys() == tensors.keys()
    for name, expected in tensors.items():
        found = file.read(name)
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.equal(expected)


def raw(tmp_path: Path, header: object, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "bad.safetensors"
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def entry(begin: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("header", "data", "length", "message"),
    [
        ({"a": entry(0, 8, [2])}, b"1234", None, "ends before the data"),
        ({}, b"", 10**12, "claims a header of"),
        (b"not json", b"", None, "not JSON"),
        (b"[" * 100_000, b"", None, "not JSON"),
        ([1, 2], b"", None, "not a JSON object"),
        ({"a": {"dtype": "F32"}}, b"", None, "not the format"),
        ({"a": entry(0, 4, [2])}, b"12345678", None, "its shape needs 8"),
        ({"a": entry(-4, 0, [1])}, b"1234", None, "not a whole number"),
        ({"a": entry(0, 4, [-1])}, b"1234", None, "not a whole number"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"1" * 12, None, "overlap"),
        ({"a": {**entry(0, 4, [1]), "dtype": []}}, b"1234", None, "not the format"),
        ({"a": {**entry(0, 4, [1]), "shape": ""}}, b"1234", None, "not the format"),
        ({"a": entry(0, 4, [10**4000, 10**4000])}, b"1234", None, "no file can hold"),
        ({"a": entry(0, 0, [0, 2**62, 2**62])}, b"", None, "no file can hold"),
        ({"a": entry(0, 4, [1] * 1000)}, b"1234", None, "no file can hold"),
        ({"a": entry(0, 4, [1], "Q4_K")}, b"1234", None, "unknown dtype"),
        ({"\ud800": entry(0, 4, [1])}, b"1234", None, "not Unicode"),
        (b'{"\xed\xbf\xbf": {}}', b"", None, "not Unicode"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, header: object, data: bytes, length: int | None, message: str
) -> None:
    path = raw(tmp_path, header, data, length)
    with pytest.raises(CheckpointError, match=message) as caught:
        SafetensorsFile(path)
    assert str(path) in str(caught.value)


def test_a_file_that_shrank_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.randn(100)}, path)
    file = SafetensorsFile(path)
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 10)
    with pytest.raises(CheckpointError, match="ends inside"):
        file.read("a")
    path.unlink()
    with pytest.raises(CheckpointError, match="cannot be read: No such file"):
        file.read("a")


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_give_a_file_or_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "x.safetensors"
    path.write_bytes(data)
    try:
        SafetensorsFile(path)
    except CheckpointError:
        return
