"""``miscible fit``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from miscible.cli import app
from miscible.errors import MiscibleError
from predict.merged_tables import write_tables

QUICK = ["--validate", "loto,lkto:4", "--draws", "4", "--null", "4", "--bootstrap", "20"]


def run(folder: Path, *options: str, tables: tuple[Path, Path] | None = None) -> str:
    metrics, outcomes = tables or write_tables(folder)
    found = CliRunner().invoke(
        app,
        ["fit", "--metrics", str(metrics), "--outcomes", str(outcomes),
         "--out", str(folder / "p.json"), *QUICK, *options],
    )  # fmt: skip
    if isinstance(found.exception, MiscibleError):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.stdout


def test_json_has_every_score_beside_its_baselines_and_null(tmp_path: Path) -> None:
    held = json.loads(run(tmp_path, "--format", "json"))
    assert set(held["methods"]) == {"ties", "average"}
    ties = held["methods"]["ties"]
    assert {"r_mean", "r_sd", "r_pooled"} <= set(ties["loto"])
    assert {"r", "skill", "k"} <= set(ties["lkto"]) and ties["lkto"]["k"] == 4
    for scores in ties["baselines"].values():
        assert {"loto_r", "lkto_r", "lkto_skill"} <= set(scores)
    assert {"loto_r_mean", "p"} <= set(ties["null"])
    assert {"level", "observed"} <= set(ties["interval_coverage"])
    assert ties["loto"]["r_mean"] > 0.9 and ties["null"]["p"] == 0.2
    assert max(ties["coefficients"], key=lambda n: abs(ties["coefficients"][n])) == "alpha"
    single = ties["single"]
    assert set(single) == {"alpha", "beta", "noise"}
    assert {"r", "null_low", "null_high", "p", "p_any"} == set(single["alpha"])
    assert single["alpha"]["p"] == 0.2 <= single["noise"]["p"]
    assert held["settings"]["null"] == 4 and Path(held["predictor"]).is_file()
    assert "# A predictor of merges" in Path(held["card"]).read_text()


def test_the_same_command_says_the_same(tmp_path: Path) -> None:
    tables = write_tables(tmp_path)
    one = run(tmp_path, "--format", "json", tables=tables)
    metrics = tables[0].read_text().splitlines()
    tables[0].write_text("\n".join([metrics[0], *reversed(metrics[1:])]))
    other = run(tmp_path, "--format", "json", tables=tables)
    assert one == other


def test_people_see_tables(tmp_path: Path) -> None:
    shown = run(tmp_path, "--method", "ties", "--objective", "ols")
    for words in ("this predictor", "partner's mean", "null (4)", "intervals cover", "alpha"):
        assert words in shown
    assert "average" not in shown
    scores = [line for line in shown.splitlines() if "[" in line or "(p" in line]
    assert len(scores) == 6 and max(map(len, scores)) <= 80


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--objective", "laso"], "Did you mean 'lasso'"),
        (["--method", "tie"], "Did you mean 'ties'"),
        (["--validate", "kfold"], "no validation named"),
        (["--level", "1.5"], "level"),
        (["--drop", "alpa"], "Did you mean 'alpha'"),
        (["--models", "/nowhere.csv"], "no such file"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, options: list[str], says: str) -> None:
    with pytest.raises(MiscibleError, match=says):
        run(tmp_path, *options)


def test_methods_with_too_few_merges_are_told(tmp_path: Path) -> None:
    metrics, outcomes = write_tables(tmp_path)
    outcomes.write_text(outcomes.read_text() + "m0,m1,rare,1,1,1,1\n")
    held = json.loads(run(tmp_path, "--format", "json", tables=(metrics, outcomes)))
    assert set(held["methods_left_out"]) == {"rare"}
