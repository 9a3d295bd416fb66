"""The content key follows content: every option, every byte of data, no path."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from miscible.errors import DatasetError, MiscibleError
from miscible.evaluate import EvaluationOptions

OTHER: dict[str, Any] = {
    "tasks": ("b",), "limit": 3, "num_fewshot": 1, "apply_chat_template": True,
    "fewshot_as_multiturn": False, "system_instruction": "x", "prefix_token": 2,
    "batch_tokens": 2, "generation_batch": 2, "seed": 1, "resamples": 2, "confidence": 0.9,
    "cluster": {"a": "f"}, "allow_code": True,
}  # fmt: skip


def test_every_option_changes_the_key(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("{}")
    (tmp_path / "a.yaml").write_text("task: a")
    values = {**OTHER, "data": {"a": str(file)}, "include": (str(tmp_path),)}
    assert set(values) == {item.name for item in fields(EvaluationOptions)}
    base = EvaluationOptions(tasks=("a",)).key()
    keys = [EvaluationOptions(**{"tasks": ("a",), name: values[name]}).key() for name in values]
    assert len({base, *keys}) == len(values) + 1


def test_data_count_by_content_and_not_by_place(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "test.jsonl").write_text("{}")

    def key(path: Path) -> str:
        return EvaluationOptions(tasks=("a",), data={"a": str(path)}).key()

    assert key(one) == key(two)
    assert key(one / "test.jsonl") == key(two / "test.jsonl")
    before = key(two)
    (two / "test.jsonl").write_text("{ }")
    assert key(two) != before
    with pytest.raises(DatasetError, match="nowhere"):
        key(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "wrong",
    [{"tasks": ()}, {"limit": 0}, {"num_fewshot": -1}, {"confidence": 1.0}, {"resamples": 0}],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(MiscibleError):
        EvaluationOptions(**{"tasks": ("a",), **wrong})
