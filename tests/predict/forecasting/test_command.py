"""``miscible predict`` from a predictor file: measures, ranks, abstains, and refuses bad input."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import miscible
from miscible.cli import app
from miscible.errors import MiscibleError
from miscible.measure.api import measure
from miscible.predict.fitting import fit
from miscible.predict.predictor_file import write_predictor
from miscible.predict.tables import read_tables
from miscible.predict.validation.settings import Settings
from predict.merged_tables import write_tables
from tiny import tiny_tensors, write_model

COSINE = "task_vector_cosine_similarity"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A base, and seven fine-tunes that share more and more of one change."""
    folder = tmp_path_factory.mktemp("models")
    base, common = tiny_tensors(0), tiny_tensors(99)
    folders = [write_model(folder / "base", base)]
    for seed in range(1, 8):
        own = tiny_tensors(seed)
        tensors = {n: t + 0.05 * (own[n] + 0.15 * seed * common[n]) for n, t in base.items()}
        folders.append(write_model(folder / f"m{seed}", tensors))
    return folders


@pytest.fixture(scope="module")
def predictor(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fitted to the cosines of these models, and outcomes that grow with them."""
    folder = tmp_path_factory.mktemp("predictor")
    named = {path.name: str(path) for path in models[1:]}
    cosine = measure(str(models[0]), named, metrics=COSINE).matrix(COSINE)
    names, rng = list(named), np.random.default_rng(1)
    metrics, outcomes = [f"task_a,task_b,{COSINE}"], ["task_a,task_b,method,acc_a,acc_b"]
    for i, j in combinations(range(len(names)), 2):
        score = 0.5 + 0.5 * cosine[i, j] + 0.005 * rng.standard_normal()
        metrics.append(f"{names[i]},{names[j]},{cosine[i, j]}")
        outcomes.append(f"{names[i]},{names[j]},ties,{score},{score}")
    (folder / "m.csv").write_text("\n".join(metrics))
    (folder / "p.csv").write_text("\n".join(outcomes))
    table = read_tables(folder / "m.csv", folder / "p.csv")
    found = fit(table, target="raw", settings=Settings(k=3, draws=10, null=0, bootstrap=0, seeds=1))
    write_predictor(folder / "predictor.json", found.predictor)
    return folder / "predictor.json"


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *(str(argument) for argument in arguments)])


def test_models_are_measured_and_ranked(models: list[Path], predictor: Path) -> None:
    base, given = models[0], models[1:5]
    outcome = call(predictor, "--base", base, *given, "--format", "json")
    assert outcome.exit_code == 0, outcome.output
    held = json.loads(outcome.stdout)
    assert {p["reason"] for p in held["predictions"]} == {""}
    cosine = measure(base, given, metrics=COSINE)
    ranked = sorted(cosine.pairs, key=lambda pair: -pair.metrics[COSINE].value)
    found = [{p["a"], p["b"]} for p in held["predictions"]]
    assert found == [{pair.a, pair.b} for pair in ranked]
    first = held["predictions"][0]
    assert first["rank"] == 1
    assert first["low"] < first["mean"] < first["high"]
    assert first["mean"] == pytest.approx(0.5 + 0.5 * ranked[0].metrics[COSINE].value, abs=0.02)
    assert held["level"] == first["level"] == 0.8


def test_order_and_names_of_models_change_nothing_else(models: list[Path], predictor: Path) -> None:
    base = ("--base", models[0], "--format", "json")
    one = json.loads(call(predictor, *base, f"m1={models[1]}", f"m2={models[2]}").stdout)
    two = json.loads(call(predictor, *base, f"m2={models[2]}", f"m1={models[1]}").stdout)
    assert one == two
    assert (one["predictions"][0]["a"], one["predictions"][0]["b"]) == ("m1", "m2")


def test_python_gives_what_the_command_prints(models: list[Path], predictor: Path) -> None:
    found = miscible.predict(predictor, str(models[0]), [str(m) for m in models[1:4]])
    shown = call(predictor, "--base", models[0], *models[1:4], "--format", "json").stdout
    assert json.loads(json.dumps(found.as_dict())) == json.loads(shown)


def test_a_measurement_may_be_given_instead(models: list[Path], predictor: Path) -> None:
    found = measure(models[0], models[1:5], metrics=COSINE).as_dict()
    written = predictor.parent / "measured.json"
    written.write_text(json.dumps(found))
    there = json.loads(call(predictor, "--measured", written, "--format", "json").stdout)
    now = json.loads(call(predictor, "--base", models[0], *models[1:5], "--format", "json").stdout)
    assert there == now


def test_models_unlike_those_in_training_are_abstained_from(
    models: list[Path], predictor: Path
) -> None:
    twin = write_model(predictor.parent / "twin", _scaled(models, 3.0))
    outcome = call(predictor, "--base", models[0], models[7], twin, "--format", "json")
    assert outcome.exit_code == 0
    (p,) = json.loads(outcome.stdout)["predictions"]
    assert (p["status"], p["mean"], p["rank"]) == ("abstained", None, None)
    assert f"{COSINE} is 1, above" in p["reason"]
    shown = call(predictor, "--base", models[0], models[7], twin).stdout
    assert "No merge can be forecast." in shown
    assert "Abstained from 1 of 1 merges" in shown


def test_a_broken_model_is_excluded_and_fails_the_command(
    models: list[Path], predictor: Path
) -> None:
    tensors = tiny_tensors(3)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * float("nan")
    broken = write_model(predictor.parent / "broken", tensors)
    outcome = call(predictor, "--base", models[0], *models[1:3], broken, "--format", "json")
    assert outcome.exit_code == 1
    held = json.loads(outcome.stdout)
    assert len(held["predictions"]) == 1
    assert held["excluded"][0]["model"] == str(broken)
    assert "model.norm.weight" in held["excluded"][0]["reason"]


def test_people_see_a_ranking_and_groups(
    models: list[Path], predictor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    named = [f"{path.name}={path}" for path in models[1:5]]
    shown = call(predictor, "--base", models[0], *named, "--together", 3).stdout
    assert "1. m3 + m4" in shown
    assert "80% interval" in shown
    assert "Merged together" in shown
    assert "1. m2 + m3 + m4" in shown


def _scaled(models: Sequence[Path], size: float) -> dict[str, object]:
    """The last model's change, larger: its task vector has a cosine of 1 with it."""
    base, own, common = tiny_tensors(0), tiny_tensors(7), tiny_tensors(99)
    change = {n: 0.05 * (own[n] + 0.15 * 7 * common[n]) for n in base}
    return {n: t + size * change[n] for n, t in base.items()}


def _bad(predictor: Path) -> list[tuple[list[str], str]]:
    text = predictor.read_text()
    folder = predictor.parent
    held = json.loads(text)
    files = {
        "tampered": text.replace('"level": 0.8', '"level": 0.9'),
        "foreign": json.dumps({**held, "version": 99}),
        "other": '{"a": 1}',
        "broken": text[:100],
    }
    for name, content in files.items():
        (folder / f"{name}.json").write_text(content)
    some = ["--base", "b", "one", "two"]
    return [
        ([str(folder / "tampered.json"), *some], "not as it was written"),
        ([str(folder / "foreign.json"), *some], "format 99"),
        ([str(folder / "other.json"), *some], "not a predictor"),
        ([str(folder / "broken.json"), *some], "no valid JSON"),
        ([str(folder / "nowhere.json"), *some], "nowhere.json"),
        ([str(predictor), *some, "--method", "tie"], "Did you mean 'ties'"),
        ([str(predictor), *some, "--level", "80"], "between 0 and 1"),
        ([str(predictor), "one", "two"], "base is not given"),
        ([str(predictor), "--base", "b", "x=one", "x=two"], "given twice"),
        ([str(predictor), "--base", "b", "one", "--measured", "m.csv"], "not both"),
    ]


def test_bad_input_is_one_sentence(models: list[Path], predictor: Path) -> None:
    for arguments, message in _bad(predictor):
        failed = call(*arguments)
        assert isinstance(failed.exception, MiscibleError), (arguments, failed.output)
        assert failed.exception.exit_code == 2
        assert message in str(failed.exception)
    alone = call(predictor, "--base", models[0], models[1])
    assert "two models or more" in str(alone.exception)


def test_a_predictor_of_metrics_that_nobody_can_measure_says_so(
    models: list[Path], tmp_path: Path
) -> None:
    table = read_tables(*write_tables(tmp_path))
    found = fit(table, settings=Settings(k=None, null=0, bootstrap=0, seeds=1))
    write_predictor(tmp_path / "foreign.json", found.predictor)
    failed = call(tmp_path / "foreign.json", "--base", models[0], *models[1:3])
    assert "no metric that this version can measure: alpha" in str(failed.exception)
    read = call(tmp_path / "foreign.json", "--measured", tmp_path / "metrics.csv", "--format=json")
    held = json.loads(read.stdout)
    assert {p["status"] for p in held["predictions"]} == {"ok"}
    assert [p["rank"] for p in held["predictions"]] == list(range(1, 73))
