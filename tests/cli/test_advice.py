"""From measured merges to advice, through the command line: fit, predict, suggest, and again."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from miscible.cli import app
from tiny import WORDS, tiny_tensors, write_model

KNOWN, NEW = 8, 3
METRICS = "task_vector_l2_distance,activation_cosine_similarity"
RUN = ("--samples", 8, "--length", 8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of one base that share a change, and merges that fail the sensitive among them."""
    folder, rng = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    base, common = tiny_tensors(0), tiny_tensors(99)
    write_model(folder / "base", base)
    names = [f"m{number}" for number in range(KNOWN + NEW)]
    sizes = np.linspace(0.4, 1.0, len(names))[[0, 10, 2, 3, 4, 6, 8, 9, 1, 5, 7]]
    size = dict(zip(names, sizes.tolist(), strict=True))
    for seed, name in enumerate(names, 1):
        own = tiny_tensors(seed)
        changed = {n: t + 0.05 * size[name] * (own[n] + common[n]) for n, t in base.items()}
        write_model(folder / name, changed)
    sentences = [" ".join(rng.permutation(WORDS)) for _ in range(30)]
    (folder / "text.txt").write_text("\n".join(sentences))
    rows = ["task_a,task_b,method,norm_acc_a,norm_acc_b"]
    for a, b in combinations(names[:KNOWN], 2):
        on_a, on_b = (
            1 - 0.1 * np.exp(3 * size[x] + size[y] - 3 + 0.05 * rng.normal())
            for x, y in ((a, b), (b, a))
        )
        rows.append(f"{a},{b},ties,{on_a},{on_b}")
    (folder / "outcomes.csv").write_text("\n".join(rows) + "\n")
    scalars = [f"{name},{0.3 + 0.2 * size[name]},0.9" for name in names]
    (folder / "models.csv").write_text("\n".join(["task,zero_shot,finetuned", *scalars]))
    return folder


def call(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert found.exit_code == 0, found.exception or found.output
    return found.stdout


def test_from_measured_merges_to_advice(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world)
    monkeypatch.setenv("COLUMNS", "80")
    text = ("--calibration", "text.txt", *RUN)
    known = [f"m{number}" for number in range(KNOWN)]
    new = [f"m{number}" for number in range(KNOWN, KNOWN + NEW)]
    call("measure", *known, "--base", "base", "--metrics", METRICS, *text, "--output", "m.json")
    fitted = call(
        "fit", "--metrics", "m.json", "--outcomes", "outcomes.csv", "--models", "models.csv",
        "--objective", "effects", "--validate", "loto,lkto:4", "--draws", 4, "--null", 3,
        "--bootstrap", 20, "--seeds", 1, "--out", "effects.json",
    )  # fmt: skip
    assert "this predictor" in fitted and "null (3)" in fitted

    asked = ("effects.json", "--base", "base", *new, "m0", "--models", "models.csv")
    held = json.loads(call("predict", *asked, *text, "--format", "json"))
    forecasts = {frozenset((p["a"], p["b"])): p for p in held["predictions"]}
    assert len(forecasts) == 6 and held["notes"] == []
    ranked = [p for p in forecasts.values() if p["status"] == "ok"]
    assert len(ranked) >= 3 and sum(held["abstained"].values()) == 6 - len(ranked)
    for each in ranked:
        assert each["low"] < each["mean"] < each["high"]
        assert each["mean"] == pytest.approx(np.mean(list(each["directed"].values())))
    _fits(call("predict", *asked, *text), "Expected normalised score of merges")

    other = json.loads(call("predict", *asked, "--calibration", "text.txt", "--samples", 6,
                            "--length", 8, "--format", "json"))  # fmt: skip
    assert {p["status"] for p in other["predictions"]} == {"abstained"}
    assert "6 samples, 48 tokens" in other["predictions"][0]["reason"]

    first = _suggested(*asked, *text)
    best = max(ranked, key=lambda p: float(p["mean"]))
    tried = first["suggestions"][0]
    assert tried["mean"] == pytest.approx(best["mean"])
    made = Path("made.csv")
    made.write_text(
        f"task_a,task_b,method,norm_acc_a,norm_acc_b\n{tried['b']},{tried['a']},ties,.4,.5\n"
    )
    again = _suggested(*asked, *text, "--outcomes", made)
    assert again["learnt"] == {"ties": 1} and again["open"] == first["open"] - 1
    assert (again["threshold"], again["best"]) == (
        0.45, f"{tried['a']} with {tried['b']} by ties",
    )  # fmt: skip
    before = {(s["a"], s["b"]): s["mean"] for s in first["suggestions"]}
    for each in again["suggestions"]:
        if {each["a"], each["b"]} & {tried["a"], tried["b"]} & set(new):
            assert each["mean"] < before[each["a"], each["b"]]
    _fits(call("suggest", *asked, *text, "--outcomes", made), "Merges to try next")


def _suggested(*arguments: object) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        call("suggest", *arguments, "--budget", 9, "--format", "json")
    )
    assert found["suggestions"]
    return found


def _fits(shown: str, title: str) -> None:
    """Check that a table is shown, and is as wide as the terminal at most."""
    lines = shown.splitlines()
    start = next(number for number, line in enumerate(lines) if title in line)
    table = lines[start : lines.index("", start + 2) if "" in lines[start + 2 :] else None]
    assert len(table) > 3 and max(len(line.rstrip()) for line in table[:6]) <= 80
