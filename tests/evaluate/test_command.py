"""``miscible evaluate`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from miscible.cli import app
from miscible.cli.evaluate import _parse_data
from miscible.errors import MiscibleError


def test_json_output_holds_scores_and_items(
    stories_folder: Path, own_tasks: Path, tmp_path: Path
) -> None:
    output = tmp_path / "scores.json"
    command = [
        "evaluate", str(stories_folder), "--tasks", "own_choice", "--include", str(own_tasks),
        "--limit", "4", "--format", "json", "--items", "--output", str(output),
    ]  # fmt: skip
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    printed = json.loads(done.stdout)
    assert printed == json.loads(output.read_text())
    assert {row["metric"] for row in printed["scores"]} == {
        "acc", "acc_norm", "choice_logprob", "answer_bits_per_byte",
    }  # fmt: skip
    assert len(printed["items"]) == 16
    assert printed["scores"][2]["baseline"] < 0


def test_table_for_people(stories_folder: Path, own_tasks: Path) -> None:
    command = [
        "evaluate", str(stories_folder), "--tasks", "own_choice", "--include", str(own_tasks),
        "--limit", "4",
    ]  # fmt: skip
    wide = {"COLUMNS": "120"}
    done = CliRunner().invoke(app, command, catch_exceptions=False, env=wide)
    assert "own_choice" in done.stdout
    assert "acc_norm" in done.stdout


def test_data_by_task_and_by_split() -> None:
    parsed = _parse_data(["a=x.jsonl", "b:train=t=1.jsonl", "b:test=u.jsonl"])
    assert parsed == {"a": "x.jsonl", "b": {"train": "t=1.jsonl", "test": "u.jsonl"}}
    for wrong in (["a"], ["=x"], ["a="], ["a:=x"], ["a=x", "a:test=y"], ["a=x", "a=y"]):
        with pytest.raises(MiscibleError):
            _parse_data(wrong)
