from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import CheckpointError
from miscible.models import FolderCheckpoint
from miscible.models.tokenizer import check_same_vocabulary


@pytest.mark.parametrize(
    "change",
    [
        {"model": {"vocab": [1, 2]}}, {"model": {"vocab": [{}, 2]}}, {"model": {"vocab": 7}},
        {"model": {"vocab": {"a": "one"}}}, {"added_tokens": 5}, {"added_tokens": [3]},
        {"added_tokens": [{"content": "a"}]}, {"added_tokens": [{"content": [], "id": 0}]},
    ],
    ids=str,
)  # fmt: skip
def test_damaged_tokenizers_are_named(tiny_base: Path, change: dict[str, Any]) -> None:
    path = tiny_base / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match="not a tokenizer") as caught:
        check_same_vocabulary([FolderCheckpoint(tiny_base)])
    assert str(path) in str(caught.value)
