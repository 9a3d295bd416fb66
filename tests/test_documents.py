"""Files for others: whole or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from miscible.documents import json_text, plain, write_text
from miscible.errors import MiscibleError


def test_numbers_that_json_lacks_become_null() -> None:
    held = {"a": [1.5, math.nan, (math.inf, "x")], 2: {"b": -math.inf, "c": True, "d": None}}
    assert plain(held) == {"a": [1.5, None, [None, "x"]], "2": {"b": None, "c": True, "d": None}}
    assert json.loads(json_text(held)) == plain(held)


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "it.txt"
    write_text(path, "old")
    write_text(path, "né")
    assert path.read_text(encoding="utf-8") == "né"
    assert [file.name for file in tmp_path.iterdir()] == ["it.txt"]


def test_what_cannot_be_written_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MiscibleError, match=r"gone/it\.txt: it cannot be written: .*folder"):
        write_text(tmp_path / "gone" / "it.txt", "text")
    (tmp_path / "folder").mkdir()
    with pytest.raises(MiscibleError, match="cannot be written"):
        write_text(tmp_path / "folder", "text")
    assert [file.name for file in tmp_path.iterdir()] == ["folder"]
