"""Local documents: every layout is found, every defect is named."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from miscible import files
from miscible.errors import DatasetError
from miscible.evaluate.data import LocalData, to_dataset

ROWS = [{"text": "one"}, {"text": "line\u2028separator"}]


def splits(source: Any, subset: str | None = None) -> dict[str, Any]:
    return LocalData().splits(
        source, task="t", subset=subset, evaluated="test", others={"train", "validation"}
    )


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.json.gz", "a.parquet"])
def test_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    content = lines(ROWS) if ".jsonl" in name else json.dumps(ROWS).encode()
    if name.endswith(".parquet"):
        pd.DataFrame(ROWS).to_parquet(path)
    else:
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert splits(str(path)) == {"test": ROWS}


def test_folder_with_a_file_for_each_split(tmp_path: Path) -> None:
    for split in ("train", "test", "else"):
        (tmp_path / f"{split}.jsonl").write_bytes(lines([{"text": split}]))
    assert splits(str(tmp_path)) == {"train": [{"text": "train"}], "test": [{"text": "test"}]}


def test_zip_with_a_file_for_each_subset(tmp_path: Path) -> None:
    path = tmp_path / "all.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("wh_island", "causative"):
            archive.writestr(f"data/{name}.jsonl", lines([{"text": name}]))
    assert splits(str(path), "causative") == {"test": [{"text": "causative"}]}


def test_folders_of_subsets(tmp_path: Path) -> None:
    for subset in ("a", "b"):
        (tmp_path / subset).mkdir()
        (tmp_path / subset / "test.jsonl").write_bytes(lines([{"text": subset}]))
    assert splits(str(tmp_path), "b") == {"test": [{"text": "b"}]}
    assert splits(str(tmp_path), "a") == {"test": [{"text": "a"}]}


def test_one_file_for_several_subjects(tmp_path: Path) -> None:
    rows = [{"subject": "anatomy", "q": 1}, {"subject": "virology", "q": 2}]
    (tmp_path / "test.jsonl").write_bytes(lines(rows))
    assert splits(str(tmp_path), "virology") == {"test": rows[1:]}


def test_one_file_for_each_named_split(tmp_path: Path) -> None:
    for split in ("x", "y"):
        (tmp_path / f"{split}.jsonl").write_bytes(lines([{"text": split}]))
    source = {"train": str(tmp_path / "x.jsonl"), "test": str(tmp_path / "y.jsonl")}
    assert splits(source) == {"train": [{"text": "x"}], "test": [{"text": "y"}]}
    with pytest.raises(DatasetError, match="no split 'tset'"):
        splits({"tset": source["test"]})
    with pytest.raises(DatasetError, match="no data for task 't'"):
        splits({"train": source["train"]})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("broken.jsonl", b'{"a": 1}\n{"a": ', "cannot be read"),
        ("list.jsonl", b"[1, 2]\n", "something else than objects"),
        ("plain.jsonl.gz", b'{"a": 1}\n', "is damaged"),
        ("deep.json", b"[" * 100_000, "cannot be read"),
        ("table.xls", b"", "kind of file is not known"),
        ("not.zip", b"PK", "not a zip file"),
        ("latin.jsonl", b'{"a": "\xe9"}\n', "cannot be read"),
    ],
)
def test_defects_name_the_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        splits(str(path))
    assert name in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere\.jsonl: .*no such file"):
        splits(str(tmp_path / "nowhere.jsonl"))


def test_folder_without_the_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="Expected test.jsonl or main.jsonl"):
        splits(str(tmp_path), "main")


def test_fields_may_be_absent_from_some_documents() -> None:
    table = to_dataset([{"a": 1}, {"a": 2, "b": "x"}], where="f")
    assert table[0] == {"a": 1, "b": None}
    with pytest.raises(DatasetError, match="f: the documents do not have one form"):
        to_dataset([{"a": 1}, {"a": "x"}], where="f")


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.zip", "a.parquet"])
def test_bombs_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 2**20)
    path = tmp_path / name
    if name.endswith(".parquet"):
        pd.DataFrame({"text": ["x" * 2**16] * 100}).to_parquet(path)
    elif name.endswith(".gz"):
        path.write_bytes(gzip.compress(b" " * 2**21))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("test.jsonl", b" " * 2**21)
    assert path.stat().st_size < 2**17
    with pytest.raises(DatasetError, match=r"a\..* than 1 MiB"):
        splits(str(path))


def test_all_local_data_together_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 40)
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_bytes(lines([{"text": "x" * 20}]))
    with pytest.raises(DatasetError, match="together"):
        splits(str(tmp_path))
