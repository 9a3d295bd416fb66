"""``miscible measure``: tables for people, JSON for programs, an exit code for both."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner, Result

from miscible.cli import app
from miscible.errors import MiscibleError
from miscible.measure.api import measure
from tiny import tiny_tensors, write_model


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """A base and three fine-tunes."""
    base = tiny_tensors(0)
    folders = [write_model(tmp_path / "base", base)]
    for seed, name in enumerate(("math", "code", "law"), 1):
        noise = tiny_tensors(seed)
        tensors = {n: t + 0.1 * noise[n] for n, t in base.items()}
        folders.append(write_model(tmp_path / name, tensors))
    return folders


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.setenv("COLUMNS", "100")

    def call(base: Path, *arguments: object) -> Result:
        return CliRunner().invoke(
            app, ["measure", "--base", str(base), *(str(argument) for argument in arguments)]
        )

    return call


def test_json_holds_every_pair_and_metric(models: list[Path], run: Callable[..., Result]) -> None:
    outcome = run(*models, "--format", "json", "--by", "layer")
    assert outcome.exit_code == 0
    document = json.loads(outcome.stdout)
    expected = measure(models[0], models[1:], by="layer").as_dict()
    assert document == json.loads(json.dumps(expected))
    assert len(document["pairs"]) == 3
    held = document["pairs"][0]["metrics"]["task_vector_cosine_similarity"]
    assert held["status"] == "ok"
    assert -1 < held["value"] < 1
    assert "model.layers.1" in document["pairs"][0]["by"]


def test_people_see_models_and_ranked_pairs(models: list[Path], run: Callable[..., Result]) -> None:
    outcome = run(*models)
    assert outcome.exit_code == 0
    found = measure(models[0], models[1:])
    text = outcome.stdout[outcome.stdout.index("Pairs") :]
    names = {str(folder): folder.name for folder in models}
    ranked = sorted(found.pairs, key=lambda p: -p.metrics["task_vector_cosine_similarity"].value)
    lines = [line.split()[:2] for line in text.splitlines() if line.startswith((" math", " code"))]
    assert lines == [[names[p.a], names[p.b]] for p in ranked]
    assert "not a forecast" in outcome.stdout


def test_a_narrow_terminal_cuts_no_name_and_no_figure(
    models: list[Path], run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [models[0].parent / f"SmolLM2-135M-{folder.name}-instruct" for folder in models[1:]]
    for folder, name in zip(models[1:], long, strict=True):
        folder.rename(name)
    monkeypatch.setenv("COLUMNS", "80")
    found = measure(models[0], long)
    for metrics in ((), ("--metrics", "task_vector")):
        outcome = run(models[0], *long, *metrics)
        text = outcome.stdout[outcome.stdout.index("Pairs") :]
        table = text[: text.index("These are")].splitlines()
        assert max(len(line) for line in table) <= 80
        # Words are read down their column: broken, they are still whole.
        start = next(line for line in table if "other" in line).index("other")
        first = "".join(line[:start].strip() for line in table)
        assert all(name.name in first for name in long[:2])
        for pair in found.pairs:
            value = pair.metrics["task_vector_magnitude_ratio"].value
            assert f"{value:.3f}" in text
    assert "weight_space_angle" in text


def test_one_metric_is_a_matrix(models: list[Path], run: Callable[..., Result]) -> None:
    outcome = run(*models, "--metrics", "weight_space_angle")
    values = measure(models[0], models[1:], metrics="weight_space_angle").matrix(
        "weight_space_angle"
    )
    (line,) = [line for line in outcome.stdout.splitlines() if line.split()[:2] == ["2", "code"]]
    assert line.split()[2:] == [f"{value:.3f}" for value in values[1] if not math.isnan(value)]


def test_a_broken_model_is_told_and_fails_the_command(
    models: list[Path], run: Callable[..., Result]
) -> None:
    tensors = tiny_tensors(3)
    tensors["model.norm.weight"] = tensors["model.norm.weight"] * math.nan
    broken = write_model(models[0].parent / "broken", tensors)
    outcome = run(*models, broken)
    assert outcome.exit_code == 1
    assert "model.norm.weight" in outcome.stdout
    assert "NaN" in outcome.stdout
    document = json.loads(run(*models, broken, "--format", "json").stdout)
    status = {(p["a"], p["b"]): p["metrics"]["stable_rank"]["status"] for p in document["pairs"]}
    assert sorted(status.values()) == ["failed", "failed", "failed", "ok", "ok", "ok"]
    assert "NaN" not in json.dumps([p for p in document["pairs"] if "broken" not in p["b"]])


def test_each_broken_model_is_told_on_one_line_and_loses_its_own_values_alone(
    models: list[Path], run: Callable[..., Result]
) -> None:
    root, base = models[0].parent, tiny_tensors(0)
    bad = {
        "other-base": {name: 5 * tensor for name, tensor in tiny_tensors(7).items()},
        "other-names": {"model.embed_tokens.weight": base["model.embed_tokens.weight"]}
        | {f"net.{name}": tensor.clone() for name, tensor in base.items()},
        "quantised": {**base, "model.layers.0.mlp.up_proj.weight": torch.zeros(
            24, 16, dtype=torch.uint8
        )},
        "not-a-number": {**base, "model.norm.weight": base["model.norm.weight"] * math.nan},
    }  # fmt: skip
    folders = [write_model(root / name, tensors) for name, tensors in bad.items()]
    outcome = run(*models, *folders)
    assert outcome.exit_code == 1, outcome.output
    said = [line for line in outcome.stdout.splitlines() if line.startswith("failed: ")]
    assert [Path(line.split(": ")[1]).name for line in said] == list(bad)
    for line, part in zip(said, ("another base", "another architecture", "U8", "NaN"), strict=True):
        assert part in line
    document = json.loads(run(*models, *folders, "--format", "json").stdout)
    sound = [p for p in document["pairs"] if Path(p["a"]).name in ("math", "code", "law")]
    statuses = {p["metrics"]["stable_rank"]["status"] for p in sound if Path(p["b"]).name == "code"}
    assert statuses == {"ok"}
    quantised_base = run(root / "quantised", *models[1:])
    assert isinstance(quantised_base.exception, MiscibleError)
    assert "quantised" in str(quantised_base.exception)


def test_models_are_run_where_that_is_asked_for(
    models: list[Path], run: Callable[..., Result]
) -> None:
    metrics = "activation_cosine_similarity,input_gradient_cosine_similarity,loss_barrier"
    small = ("--samples", 4, "--length", 8)
    outcome = run(*models, *small, "--metrics", metrics, "--format", "json")
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(outcome.stdout)
    for pair in document["pairs"]:
        assert {pair["metrics"][name]["status"] for name in metrics.split(",")} == {"ok"}
    assert document["calibration"]["data"][0]["name"] == "built-in"
    again = json.loads(run(*models, *small, "--metrics", metrics, "--format", "json").stdout)
    assert again["calibration"]["key"] == document["calibration"]["key"]


def test_calibration_data_may_be_one_model_s_own(
    models: list[Path], run: Callable[..., Result], tmp_path: Path
) -> None:
    lines = [json.dumps({"body": "the cat sees the dog . " * 4}) for _ in range(9)]
    (tmp_path / "law=1.jsonl").write_text("\n".join(lines))
    (tmp_path / "text.txt").write_text("the cat sees the dog .\n" * 20)
    small = ("--samples", 4, "--length", 8, "--format", "json")
    own = ("--calibration", f"law={tmp_path / 'law=1.jsonl'}", "--column", "body")
    outcome = run(*models, *own, *small, "--metrics", "encoder_gradient_dot_product_partner")
    assert outcome.exit_code == 0, outcome.output
    document = json.loads(outcome.stdout)
    assert document["calibration"]["data"][0]["owner"] == str(models[3])
    statuses = [next(iter(pair["metrics"].values()))["status"] for pair in document["pairs"]]
    assert statuses == ["excluded", "ok", "ok"]
    shared = run(*models, "--calibration", tmp_path / "text.txt", *small)
    assert shared.exit_code == 0, shared.output
    pair = json.loads(shared.stdout)["pairs"][0]["metrics"]
    assert pair["activation_cka"]["status"] == "ok"
    assert pair["loss_barrier"]["status"] == "excluded"


def test_table_is_what_people_see(models: list[Path], run: Callable[..., Result]) -> None:
    assert run(*models, "--format", "table").stdout == run(*models).stdout
    assert run(*models, "--format", "quiet").stdout == ""
    wrong = run(*models, "--format", "tabel")
    assert wrong.exit_code == 2
    assert "human, json, quiet, table" in " ".join(wrong.output.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--metrics", "task_vectr"], "Did you mean 'task_vector'"),
        (["--metrics", "gradient", "--samples", "9999"], "9999 are needed"),
        (["--calibration", "nowhere.txt"], "nowhere.txt"),
        (["--folds", "4"], "no model is run"),
        (["--calibration", "a.txt", "--calibration", "b.txt"], "MODEL=DATA"),
        (["--metrics", "activation", "--layer", "9"], "no layer 9"),
        (["--only-one"], "two models or more"),
    ],
)
def test_bad_arguments_are_one_line(models: list[Path], arguments: list[str], message: str) -> None:
    folders = models[1:2] if arguments == ["--only-one"] else models[1:]
    options = [] if arguments == ["--only-one"] else arguments
    command: list[Any] = [sys.executable, "-m", "miscible", "measure", "--base", models[0]]
    outcome = subprocess.run(
        [*command, *folders, *options], capture_output=True, text=True, timeout=60
    )
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.strip().count("\n") == 0
