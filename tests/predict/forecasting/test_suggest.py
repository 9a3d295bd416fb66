"""Suggestions: the best candidates first, or those of which least is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from typer.testing import CliRunner

from miscible.cli import app
from miscible.errors import MiscibleError
from miscible.predict.contract import make
from miscible.predict.forecasting.knowledge import learn
from miscible.predict.forecasting.leverage import PRIOR, Leverage
from miscible.predict.forecasting.suggest import joined, suggest
from miscible.predict.forecasting.suggestion import expected_improvement
from miscible.predict.pairs import Examples
from miscible.predict.tables import read_tables
from predict.merged_tables import write_tables

OPEN = [("m0", "m1"), ("m2", "m5"), ("m3", "m4"), ("m6", "m8"), ("m1", "m7")]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tables(tmp_path_factory.mktemp("tables"), unmerged=OPEN)


def test_expected_improvement_is_the_mean_of_what_lies_above() -> None:
    mean, sd = np.array([0.8, 0.9, 0.7]), np.array([0.05, 0.01, 0.2])
    draws = norm.ppf((np.arange(20000) + 0.5) / 20000)
    expected = [np.maximum(m + s * draws - 0.85, 0).mean() for m, s in zip(mean, sd, strict=True)]
    np.testing.assert_allclose(expected_improvement(mean, sd, 0.85), expected, rtol=1e-3)
    assert expected_improvement(np.array([0.9]), np.array([np.nan]), 0.85)[0] == pytest.approx(0.05)


def test_gain_prefers_what_the_law_prefers(tables: tuple[Path, Path]) -> None:
    table = read_tables(*tables)
    found = suggest(table, make("lasso"), 3, above=0.8)
    assert found.open == 2 * len(OPEN)
    cells = dict(zip(table.pairs.names(), table.pairs.metrics, strict=True))
    law = {pair: 0.1 * cells[pair][0] - 0.05 * cells[pair][1] for pair in OPEN}
    best = max(law, key=lambda pair: law[pair])
    assert (found.merges[0].a, found.merges[0].b, found.merges[0].method) == (*best, "ties")
    values = [merge.value for merge in found.merges]
    assert values == sorted(values, reverse=True)


def test_each_new_outcome_changes_what_is_asked_next(tmp_path: Path) -> None:
    metrics, outcomes = write_tables(tmp_path, unmerged=OPEN, methods=["ties"])
    first = suggest(read_tables(metrics, outcomes), make("lasso"), 1).merges[0]
    with outcomes.open("a") as file:
        file.write(f"{first.b},{first.a},ties,0.9,0.9,0.9,0.9\n")  # swapped order is the same pair
    again = suggest(read_tables(metrics, outcomes), make("lasso"), 9)
    assert again.open == len(OPEN) - 1
    assert (first.a, first.b) not in [(m.a, m.b) for m in again.merges]


def test_information_is_greedy_in_leverage(tables: tuple[Path, Path]) -> None:
    table = read_tables(*tables)
    found = suggest(table, make("lasso"), 3, aim="information", methods=["ties"])
    examples = table.examples("ties")
    left = table.pairs.take(np.array([table.pairs.names().index(pair) for pair in OPEN]))
    chosen: list[tuple[str, str]] = []
    start = examples.pairs.metrics
    centre, scale = start.mean(axis=0), start.std(axis=0)
    for _ in range(3):  # by fitting anew, without updates
        learnt = examples.pairs.metrics
        design = np.hstack([np.ones((len(learnt), 1)), (learnt - centre) / scale])
        matrix = design.T @ design + np.diag([0.0, PRIOR, PRIOR, PRIOR])
        x = np.hstack([np.ones((len(left), 1)), (left.metrics - centre) / scale])
        squares = np.sum(x * np.linalg.solve(matrix, x.T).T, axis=1)
        squares[[name in chosen for name in left.names()]] = -1
        row = int(np.argmax(squares))
        chosen.append(left.names()[row])
        examples = Examples(
            joined(examples.pairs, left.take(np.array([row]))),
            np.concatenate([examples.directed, [[0.8, 0.8]]]),
            np.append(examples.mean, 0.8),
        )
    assert [(merge.a, merge.b) for merge in found.merges] == chosen


def test_learning_of_a_candidate_lowers_its_doubt(tables: tuple[Path, Path]) -> None:
    table = read_tables(*tables)
    examples = table.examples("ties")
    doubt = Leverage.of(learn(make("lasso"), examples), examples, table.pairs)
    before = doubt.sd()
    doubt.learn(0)
    after = doubt.sd()
    assert after[0] < before[0]
    assert (after <= before + 1e-15).all()


def test_what_cannot_be_suggested_is_said(tmp_path: Path) -> None:
    metrics, outcomes = write_tables(tmp_path)
    table = read_tables(metrics, outcomes)
    with pytest.raises(MiscibleError, match="all pairs were merged"):
        suggest(table, make("lasso"), 3)
    with pytest.raises(MiscibleError, match="at least one merge"):
        suggest(table, make("lasso"), 0)
    few = outcomes.read_text().splitlines()[:4]
    outcomes.write_text("\n".join(few) + "\n")
    with pytest.raises(MiscibleError, match="too little was merged"):
        suggest(read_tables(metrics, outcomes), make("lasso"), 3)


def test_candidates_outside_the_range_are_counted(tmp_path: Path) -> None:
    metrics, outcomes = write_tables(tmp_path, unmerged=OPEN, methods=["ties"])
    metrics.write_text(
        "\n".join(
            "m0,m1,50,0,0" if line.startswith("m0,m1,") else line
            for line in metrics.read_text().splitlines()
        )
    )
    found = suggest(read_tables(metrics, outcomes), make("lasso"), 9)
    assert found.left_out == {"ties: metrics outside the range of the merged pairs": 1}
    assert len(found.merges) == len(OPEN) - 1


def test_command_prints_json_and_a_table(
    tables: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    given = ["suggest", "--metrics", str(tables[0]), "--outcomes", str(tables[1]), "--budget", "2"]
    written = tmp_path / "next.json"
    held = CliRunner().invoke(app, [*given, "--format", "json", "--output", str(written)])
    assert held.exit_code == 0, held.output
    document = json.loads(held.stdout)
    assert len(document["suggestions"]) == 2
    assert json.loads(written.read_text()) == document
    shown = CliRunner().invoke(app, given).stdout
    assert "Merges to try next" in shown
    first = document["suggestions"][0]
    assert f"1. {first['a']} + {first['b']}" in shown


def test_command_errors_are_one_sentence(tables: tuple[Path, Path]) -> None:
    given = ["suggest", "--metrics", str(tables[0]), "--outcomes", str(tables[1])]
    for more, message in (
        (["--predictor", "laso"], "Did you mean 'lasso'"),
        (["--method", "tiess"], "Did you mean 'ties'"),
        (["--drop", "alfa"], "Did you mean 'alpha'"),
        (["--samples", "8"], "'--samples' has no use here"),
        (["--above", "nan"], "a finite number"),
    ):
        failed = CliRunner().invoke(app, [*given, *more])
        assert isinstance(failed.exception, MiscibleError)
        assert failed.exception.exit_code == 2
        assert message in str(failed.exception)
