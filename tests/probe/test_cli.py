"""``miscible probe`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from miscible.cli.probe import probe
from miscible.errors import MiscibleError

app = typer.Typer()
app.command()(probe)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def model(shared_data: Path) -> str:
    return str(shared_data / "models/stories260k")


def test_json_rows(model: str, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(f'{{"good": "Dog {i}.", "bad": "Cat {i}."}}' for i in range(9)))
    out = tmp_path / "rows.json"
    data = ("--data", f"minimal_pairs:{path}", "--output", str(out))
    printed = json.loads(run(model, *data, "--layers", "0,-1", "--format", "json"))
    assert printed == json.loads(out.read_text())
    assert [(row["metric"], row["layer"]) for row in printed["rows"]] == [
        ("probe_accuracy", 0), ("probe_macro_f1", 0), ("probe_accuracy", 5), ("probe_macro_f1", 5),
        ("preference", None), ("preference_margin", None), ("bag_of_words_accuracy", None),
    ]  # fmt: skip
    assert set(printed["rows"][0]) == {
        "model", "dataset", "phenomenon", "competence", "layer", "metric", "estimate", "low",
        "high", "baseline", "selectivity", "n", "flags",
    }  # fmt: skip
    assert printed["rows"][0]["selectivity"] is not None and printed["rows"][0]["n"] == 9


def test_table_and_silence(model: str) -> None:
    arguments = (model, "--limit", "6", "--layers", "-1")
    assert "subject_verb_agreement" in run(*arguments)
    assert run(*arguments, "--format", "quiet") == ""


def test_mistakes(model: str) -> None:
    for arguments, message in (
        (("--layers", "first"), "--layers must be 'all' or numbers"),
        (("--layers", "17"), "there is no layer 17"),
        (("--data", "holms:x"), "no probe source named 'holms'"),
    ):
        with pytest.raises(MiscibleError, match=message):
            run(model, "--limit", "6", *arguments)


def test_other_probes_and_code_lengths(model: str) -> None:
    arguments = (model, "--data", "templates:en/subject_verb_agreement", "--limit", "12")
    chosen = (*arguments, "--layers", "-1", "--format", "json")
    coded = json.loads(run(*chosen, "--mdl"))["rows"]
    assert {"mdl_bits", "mdl_compression", "probe_accuracy"} <= {row["metric"] for row in coded}
    near = json.loads(run(*chosen, "--probe", "knn"))["rows"]
    assert {row["flags"] for row in near if row["metric"] == "probe_accuracy"} == {"knn"}
    reference = json.loads(run(*chosen, "--probe", "holmes-compat"))["rows"]
    assert {row["metric"] for row in reference} == {"holmes_macro_f1"}


def test_models_are_compared_with_the_first(model: str) -> None:
    arguments = (
        "--data",
        "templates:en/subject_verb_agreement",
        "--limit",
        "8",
        "--layers",
        "0,-1",
    )
    printed = json.loads(
        run(model, *arguments, "--random-weights", "--similarity", "8", "--format", "json")
    )
    names = {row["model"] for row in printed["rows"]}
    assert names == {model, "random weights"}
    compared = {(row["model"], row["other"]) for row in printed["similarities"]}
    assert ("random weights", model) in compared
    assert "Without probes" in run(model, *arguments, "--random-weights", "--similarity", "8")
