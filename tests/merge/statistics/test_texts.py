"""Calibration texts and their tokens."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from miscible.errors import DatasetError
from miscible.merge.statistics.texts import Text, read_texts, tokenise


def test_plain_text_is_a_text_a_line(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one two\n\n  three \r\nfour", encoding="utf-8")
    assert read_texts(path) == [Text("one two"), Text("three"), Text("four")]
    assert read_texts(path, 2) == [Text("one two"), Text("three")]


def test_pairs_have_a_prompt(tmp_path: Path) -> None:
    rows = [
        {"text": "one", "id": 3},
        {"question": "what?", "answer": "that"},
        {"prompt": "say", "completion": "it"},
    ]
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(json.dumps(row) for row in rows).encode()))
    assert read_texts(path) == [Text("one"), Text("that", "what?"), Text("it", "say")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"x", "no file of texts"),
        ("a.txt", b"\n \n", "holds no text"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.jsonl", b'{"text": "x"}\n{', "a.jsonl, line 2: it is not JSON"),
        ("a.jsonl", b"[" * 100_000, "line 1: it is not JSON"),
        ("a.jsonl", b'{"question": "x"}', "line 1: it holds no text"),
        ("a.jsonl", b'["x"]', "line 1: it holds no text"),
        ("a.jsonl", b'{"text": 3}', "line 1: it holds no text"),
        ("a.txt.gz", b"x", "damaged"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read_texts(tmp_path / name)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        read_texts(tmp_path / "a.txt")


def test_a_prompt_is_read_but_not_predicted(tiny_base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_base)
    texts = [Text("sleeps .", "the cat"), Text("the dog sees the cat")]
    pair, plain = tokenise(texts, tokenizer, length=4)
    words = tokenizer.convert_ids_to_tokens(pair["input_ids"][0])
    assert words == ["the", "cat", "sleeps", "."]
    assert pair["labels"][0].tolist() == [-100, -100, *pair["input_ids"][0, 2:].tolist()]
    assert plain["labels"].equal(plain["input_ids"])
    assert plain["input_ids"].shape == (1, 4)
