"""A predictor asked before merging, outcomes beside it, and a study's rows as input of a fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from miscible.analyse import analyse
from miscible.cli import app
from miscible.errors import DatasetError, MiscibleError
from miscible.predict.fitting import fit
from miscible.predict.predictor_file import write_predictor
from miscible.predict.tables import read_tables
from miscible.predict.validation.settings import Settings
from miscible.report.expectations import expectations, expectations_finding, expectations_table
from miscible.report.page import render
from miscible.study import Study
from miscible.study.outcomes import merge_outcomes
from predict.merged_tables import write_tables
from study.small import open_small_study, write_small_study

COSINE = "task_vector_cosine_similarity"
OWN = {"one": "small_bpb", "two": "small_bpb"}


def write_cosine_predictor(folder: Path) -> Path:
    """Write a predictor of merges by ties from their cosine."""
    metrics, outcomes = write_tables(folder, methods=["ties"])
    metrics.write_text(metrics.read_text().replace("alpha", COSINE))
    table = read_tables(metrics, outcomes, drop=["beta", "noise"])
    found = fit(table, settings=Settings(k=4, draws=5, null=0, bootstrap=0, seeds=1))
    write_predictor(folder / "predictor.json", found.predictor)
    return folder / "predictor.json"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    write_cosine_predictor(folder)
    held = open_small_study(
        folder, with_task=True, internals=None, metrics=[COSINE, "loss_barrier"],
        merges=[{"method": "linear", "dose": [0.25, 0.5]}, {"method": "ties", "dose": 0.5}],
        predict={"predictor": "predictor.json", "tasks": OWN},
    )  # fmt: skip
    assert not held.run().failed
    return held


def test_merges_are_forecast_before_they_are_made(study: Study) -> None:
    kinds = [step.kind for step in study.plan.steps]
    assert "prediction" in kinds[: kinds.index("dose")]
    (row,) = study.rows("prediction").to_dict("records")
    assert (row["first"], row["second"], row["method"]) == ("one", "two", "ties")
    measured = study.rows("mergeability").set_index(["first", "second", "metric", "scope"])
    cosine = measured.loc[("one", "two", COSINE, ""), "value"]
    assert row["mean"] == pytest.approx(0.82 + 0.1 * cosine, abs=0.03)
    assert row["low"] < row["mean"] < row["high"]


def test_outcomes_are_scores_over_the_parents_own(study: Study) -> None:
    scores = study.rows("score").set_index("model")["estimate"]
    found = {each.merge: each for each in merge_outcomes(study)}
    assert [each.method for each in found.values()] == ["linear 0.25", "linear", "ties"]
    ties = found["ties 0.5"]
    # bits per byte: less is better, so that the ratio is turned round
    expected = (scores["one"] / scores["ties 0.5"], scores["two"] / scores["ties 0.5"])
    assert ties.normalised == pytest.approx(expected)
    assert ties.error == ""


def test_the_report_puts_both_side_by_side(study: Study) -> None:
    tables = study.tables()
    held = {each.merge: each for each in expectations(tables)}
    assert held["ties 0.5"].forecast
    assert held["linear 0.5"].reason == "the predictor knows no such method"
    table = expectations_table(tables)
    assert table is not None
    cells = {row[0].text: [cell.text for cell in row[1:]] for row in table.rows}
    assert cells["ties 0.5"][0] == f"{held['ties 0.5'].mean:.3f}"
    assert cells["ties 0.5"][1] == f"{held['ties 0.5'].measured:.3f}"
    assert cells["linear 0.25"][0] == "abstained"
    notes = {row[0].text: row[2].note for row in table.rows}
    low, high, measured = (getattr(held["ties 0.5"], key) for key in ("low", "high", "measured"))
    inside = low <= measured <= high
    assert notes["ties 0.5"] == ("in the interval" if inside else "outside the interval")
    assert notes["linear 0.25"] == ""
    assert expectations_finding(tables) == (
        "1 of 3 merges were forecast; of 1 outcome, "
        f"{int(inside)} came to lie in the 80 % interval."
    )
    page = render(tables, analyse(tables))
    assert "Should I merge?" in page
    assert "expected-and-measured" in page


def test_a_study_without_a_predictor_has_no_such_section(tmp_path: Path) -> None:
    study = open_small_study(tmp_path)
    assert expectations_table(study.tables()) is None
    assert expectations_finding(study.tables()) == ""


def test_rows_of_a_study_are_input_of_a_fit(study: Study, tmp_path: Path) -> None:
    file = study.origin / "study.yml"
    written = ["--outcomes", str(tmp_path / "p.csv"), "--metrics", str(tmp_path / "m.csv")]
    outcome = CliRunner().invoke(app, ["study", "table", str(file), *written, "--format", "json"])
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout) == {"outcomes": 3, "metrics": 1}
    table = read_tables(tmp_path / "m.csv", tmp_path / "p.csv")
    assert table.methods == ["linear", "linear 0.25", "ties"]
    assert set(table.pairs.metric_names) == {COSINE, "loss_barrier"}
    expected = {each.method: each.mean for each in merge_outcomes(study)}
    for method in table.methods:
        assert table.examples(method).mean[0] == pytest.approx(expected[method])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --outcomes, --metrics or both"),
        (["--outcomes", "p.csv", "--task", "one"], "PARENT=TASK"),
        (["--outcomes", "p.csv", "--task", "on=small_bpb"], "which task is one's own"),
        (["--outcomes", "p.csv", "--task", "one=smal_bpb"], "which task is two's own|Did you mean"),
    ],
)
def test_bad_arguments_are_one_sentence(tmp_path: Path, arguments: list[str], message: str) -> None:
    file = write_small_study(tmp_path, with_task=True)
    failed = CliRunner().invoke(app, ["study", "table", str(file), *arguments])
    assert isinstance(failed.exception, MiscibleError)
    assert any(part in str(failed.exception) for part in message.split("|"))


def test_a_broken_predictor_is_told_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "predictor.json").write_text("{}")
    study = open_small_study(tmp_path, predict="predictor.json")
    with pytest.raises(DatasetError, match="not a predictor"):
        _ = study.plan
