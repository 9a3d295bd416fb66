"""Suggestions by a predictor file: the rules of a forecast, and what new outcomes teach."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import multivariate_t, norm
from scipy.stats import t as student
from typer.testing import CliRunner

from miscible.cli import app
from miscible.errors import MiscibleError
from miscible.predict.fitting import fit
from miscible.predict.forecasting.advice import suggest_by
from miscible.predict.forecasting.candidates import candidates
from miscible.predict.forecasting.conditioning import FREEDOM, MOST_STRETCH, Errors
from miscible.predict.forecasting.knowledge import of_file
from miscible.predict.forecasting.suggestion import Suggestions
from miscible.predict.pairs import TARGETS, Floats, Ints, Outcomes, Pairs, PairTable
from miscible.predict.predictor_file import PredictorFile, write_predictor
from miscible.predict.tables import read_tables
from miscible.predict.validation.settings import Settings
from predict.merged_tables import METRICS, write_tables
from predict.synthetic import made_up

QUICK = Settings(k=4, draws=8, null=0, bootstrap=0, seeds=1)
NEW = ("n0", "n1", "n2", "n3", "n4")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> PredictorFile:
    """Fitted to a law of metrics alone."""
    table = read_tables(*write_tables(tmp_path_factory.mktemp("tables")))
    return fit(table, settings=QUICK).predictor


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    """Metrics of all pairs of five models that the predictor does not know."""
    rng = np.random.default_rng(4)
    rows = [[a, b, *rng.uniform(-0.9, 0.9, 3)] for a, b in combinations(NEW, 2)]
    return write(tmp_path / "new.csv", ["task_a", "task_b", *METRICS], rows)


def write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def outcomes(path: Path, *rows: Sequence[object]) -> Path:
    head = ["task_a", "task_b", "method", "norm_acc_a", "norm_acc_b", "error"]
    return write(path, head, [[*row[:3], row[3], row[3], ""] for row in rows])


def ask(predictor: PredictorFile, measured: Path, **more: object) -> Suggestions:
    return suggest_by(predictor, measured=measured, **{"budget": 4, **more})  # type: ignore[arg-type]


def test_the_highest_forecasts_come_first(predictor: PredictorFile, measured: Path) -> None:
    found = ask(predictor, measured, methods=["ties"])
    rows = {(a, b): 0.1 * float(x) - 0.05 * float(y) for a, b, x, y, _ in _cells(measured)}
    best = sorted(rows, key=lambda pair: -rows[pair])[:4]
    assert [(each.a, each.b) for each in found.merges] == best
    assert found.best == "the best merge in training" and found.open == 10
    assert "no outcome yet" in found.rule and found.learnt == {}


def test_outcomes_close_pairs_and_raise_the_threshold(
    predictor: PredictorFile, measured: Path, tmp_path: Path
) -> None:
    first = ask(predictor, measured, methods=["ties"]).merges[0]
    made = outcomes(tmp_path / "o.csv", [first.b, first.a, "ties", 0.7], ["m0", "m1", "ties", 0.9])
    found = ask(predictor, measured, methods=["ties"], outcomes=made)
    assert (found.threshold, found.best) == (0.7, f"{first.a} with {first.b} by ties")
    assert found.open == 9 and found.learnt == {"ties": 1}
    assert (first.a, first.b) not in [(each.a, each.b) for each in found.merges]
    assert found.counts["outcomes of pairs without metrics (not used)"] == 1


def test_merges_of_training_are_neither_learnt_again_nor_suggested(
    predictor: PredictorFile, tmp_path: Path
) -> None:
    metrics, merged = write_tables(tmp_path, unmerged=[("m0", "m1")])
    with pytest.raises(MiscibleError, match="all pairs were merged"):
        ask(predictor, metrics, outcomes=merged)
    merged.write_text(merged.read_text() + "m0,new,ties,0.8,0.8,0.8,0.8\n")
    metrics.write_text(metrics.read_text() + "m0,new,0.1,0.1,0\nm1,new,0.1,0.1,0\n")
    found = ask(predictor, metrics, outcomes=merged, methods=["ties"], above=0.5)
    assert [(each.a, each.b) for each in found.merges] == [("m1", "new")]
    assert found.counts["outcomes to which the predictor was fitted"] == 35
    assert found.counts["merges that were made in training"] == 1


def test_a_model_that_disappoints_is_no_longer_suggested() -> None:
    table = made_up(14, signal=0.0, effects=3.0)
    held, new = _split(table, known=9)
    known = of_file(fit(held, settings=QUICK).predictor)["mean"]
    assert known.shared[0] > 0.3 and known.shared[1] > 0.3
    errors = Errors.of(known, new)
    bad = np.flatnonzero([name == "task09" for name, _ in new.names()])[:2]
    prior = errors.forecast.mean
    mean, sd = errors.given(bad, prior[bad] - 4.0)
    touches = np.array(["task09" in pair for pair in new.names()])
    others = np.setdiff1d(np.flatnonzero(touches), bad)
    assert (mean[others] < prior[others] - 0.5).all()
    assert (sd[others] < errors.forecast.sd[others]).all()
    assert np.allclose(mean[bad], prior[bad] - 4.0) and np.allclose(sd[bad], 0.0, atol=1e-6)


def test_learning_from_outcomes_lowers_errors_and_intervals_still_cover() -> None:
    before: list[float] = []
    after: list[float] = []
    inside: list[bool] = []
    for seed in range(6):
        table = made_up(18, signal=1.0, effects=4.0, seed=seed)
        held, new = _split(table, known=12)
        known = of_file(fit(held, settings=QUICK).predictor)["mean"]
        truth = _truth(table, new.names())
        errors = Errors.of(known, new)
        rows = np.random.default_rng(seed).permutation(len(new))
        mean, sd = errors.given(rows[:7], truth[rows[:7]])
        left = rows[7:]
        before += np.abs(truth[left] - errors.forecast.mean[left]).tolist()
        after += np.abs(truth[left] - mean[left]).tolist()
        half = 1.2816 * sd[left] * errors.stretch(rows[:7], truth[rows[:7]])
        inside += (np.abs(truth[left] - mean[left]) <= half).tolist()
    assert np.mean(after) < 0.8 * np.mean(before)
    # 48 pairs: binomial noise, and that of widths from ten tasks
    assert 0.65 < np.mean(inside) < 0.93


def test_conditioning_is_that_of_a_gaussian(predictor: PredictorFile, measured: Path) -> None:
    known = of_file(predictor)["ties"]
    known = replace(known, shared=(0.6, 0.4))
    pairs = candidates(measured, None, Counter())
    errors = Errors.of(known, pairs)
    rows: Ints = np.arange(len(pairs))
    covariance = errors.covariance(rows, rows)
    assert np.linalg.eigvalsh(covariance).min() > 0
    names = pairs.names()
    shared = [[len(set(one) & set(other)) for other in names] for one in names]
    correlation: Floats = np.where(np.array(shared) == 2, 1.0, 0.4 * np.array(shared))
    sd = errors.forecast.sd
    assert np.allclose(covariance, correlation * np.outer(sd, sd))
    taught, y = np.array([0, 3]), np.array([0.9, 0.6])
    mean, spread = errors.given(taught, y)
    precision = np.linalg.inv(covariance[np.ix_(taught, taught)])
    across = covariance[:, taught]
    residual = y - errors.forecast.mean[taught]
    assert np.allclose(mean, errors.forecast.mean + across @ precision @ residual)
    assert np.allclose(spread**2, np.diag(covariance - across @ precision @ across.T), atol=1e-12)


@pytest.mark.parametrize("far", [0.2, 3.0])
def test_intervals_are_those_of_a_student_t(
    predictor: PredictorFile, measured: Path, far: float
) -> None:
    known = replace(of_file(predictor)["ties"], shared=(0.6, 0.4))
    errors = Errors.of(known, candidates(measured, None, Counter()))
    rows: Ints = np.array([0, 3, 1])
    covariance = errors.covariance(rows, rows)
    taught = rows[:2]
    y = errors.forecast.mean[taught] + far * errors.forecast.sd[taught]
    mean, sd = errors.given(taught, y)
    half = norm.ppf(0.9) * errors.stretch(taught, y) * sd[1]
    # the same interval holds 80 % of each error by itself, before anything is known of another
    shape = covariance * (norm.ppf(0.9) / student.ppf(0.9, FREEDOM)) ** 2
    joint = multivariate_t(errors.forecast.mean[rows], shape, df=FREEDOM)
    known_alone = multivariate_t(errors.forecast.mean[taught], shape[:2, :2], df=FREEDOM)
    grid = np.linspace(mean[1] - half, mean[1] + half, 2001)
    at = np.column_stack([np.tile(y, (len(grid), 1)), grid])
    inside = np.trapezoid(joint.pdf(at), grid) / known_alone.pdf(y)
    assert inside == pytest.approx(0.8, abs=1e-4)
    assert (errors.stretch(taught, y) > 1) == (far > 1)
    assert errors.stretch(taught[:0], y[:0]) == 1.0
    assert errors.stretch(taught, y - 100.0) == MOST_STRETCH


def test_what_predict_abstains_from_is_left_out_by_its_rule(
    predictor: PredictorFile, measured: Path
) -> None:
    rows = [list(row) for row in _cells(measured)]
    rows[0][2], rows[1][2] = "50", ""
    write(measured, ["task_a", "task_b", *METRICS], rows)
    for aim in ("gain", "information"):
        found = ask(predictor, measured, methods=["ties"], aim=aim, budget=20)
        left = {why.partition(": ")[2][:16]: n for why, n in found.left_out.items()}
        assert left == {"one lies beyond ": 1, "a metric or scal": 1}
        assert len(found.merges) == 8
    known = replace(predictor.methods["ties"], quantiles=(0.8, 0.801))
    sure = ask(replace(predictor, methods={"ties": known}), measured)
    assert sure.merges == () and sure.open == 10
    assert (
        sure.left_out["ties: the interval is no narrower than that of the training outcomes"] == 8
    )


def test_information_asks_of_each_model_before_it_asks_again(
    predictor: PredictorFile, measured: Path
) -> None:
    held = {name: replace(each, shared=(0.6, 0.45)) for name, each in predictor.methods.items()}
    correlated = replace(predictor, methods=held)
    found = ask(correlated, measured, methods=["ties"], aim="information", budget=2)
    one, other = ({each.a, each.b} for each in found.merges)
    assert not one & other
    assert "never" in found.merges[0].why


def test_the_command_goes_from_file_to_outcome_and_asks_again(
    predictor: PredictorFile, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write_predictor(tmp_path / "p.json", predictor)
    given = ["suggest", str(tmp_path / "p.json"), "--metrics", str(measured)]
    first = json.loads(CliRunner().invoke(app, [*given, "--format", "json"]).stdout)
    best = first["suggestions"][0]
    made = outcomes(tmp_path / "o.csv", [best["a"], best["b"], best["method"], best["mean"]])
    shown = CliRunner().invoke(app, [*given, "--outcomes", str(made)])
    assert shown.exit_code == 0, shown.output
    assert f"Best so far: {best['mean']:.3f} ({best['a']} with {best['b']}" in shown.stdout
    assert "of 19 without an outcome" in shown.stdout
    for more, message in (
        (["--predictor", "lasso"], "says it already"),
        (["--method", "tie"], "Did you mean 'ties'"),
        (["--budget", "2", "--outcomes", str(measured)], "needs the column 'method'"),
    ):
        failed = CliRunner().invoke(app, [*given, *more])
        assert isinstance(failed.exception, MiscibleError), more
        assert message in str(failed.exception) and failed.exception.exit_code == 2


def _cells(path: Path) -> list[tuple[str, ...]]:
    with path.open() as file:
        return [tuple(row) for row in csv.reader(file)][1:]


def _split(table: PairTable, known: int) -> tuple[PairTable, Pairs]:
    """Return the table of the first models, and the pairs among the others."""
    unseen = np.arange(len(table.pairs.models)) >= known
    touched = table.pairs.touches(unseen)
    rows = np.flatnonzero(touched == 0)
    held = {
        method: Outcomes(
            {target: each.directed[target][rows] for target in TARGETS},
            {target: each.mean[target][rows] for target in TARGETS},
        )
        for method, each in table.outcomes.items()
    }
    return PairTable(table.pairs.take(rows), held), table.pairs.take(np.flatnonzero(touched == 2))


def _truth(table: PairTable, names: Sequence[tuple[str, str]]) -> Floats:
    place = {pair: row for row, pair in enumerate(table.pairs.names())}
    found: Floats = table.outcomes["mean"].mean["raw"][[place[pair] for pair in names]]
    return found
