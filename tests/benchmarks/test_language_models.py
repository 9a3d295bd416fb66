"""The scripts of the language-model table, from items to tables, on a very small model."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch

from tiny import write_adapter

SCRIPTS = Path(__file__).parents[2] / "benchmarks" / "language_models"
NAMES = ("tasks", "items", "merges", "scoring", "run", "tables")
TASKS = ("gsm8k", "mbpp")
RECORD = {
    "tokens": 1, "steps": 1, "seconds": 1, "train_loss": [2.0, 1.0],
    "held_out_nats_per_token": {"before": 2.0, "after": 1.0},
    "settings": {"learning_rate": 1e-3, "rank": 2, "seed": 0},
}  # fmt: skip


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


def test_from_items_to_tables(
    scripts: dict[str, ModuleType],
    shared_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MISCIBLE_SHARED_DATA", str(shared_data))
    stories = shared_data / "models" / "stories260k"
    monkeypatch.setattr(scripts["run"], "REFERENCE", str(stories))
    monkeypatch.setattr(scripts["items"], "CONTEXT", range(8, 400))
    for task in set(scripts["tasks"].TASKS) - set(TASKS):
        monkeypatch.delitem(scripts["tasks"].TASKS, task)
    for seed, task in enumerate(TASKS):
        random = torch.Generator().manual_seed(seed)
        factors = [torch.randn(shape, generator=random) * 0.1 for shape in ((2, 64), (64, 2))]
        folder = write_adapter(
            tmp_path / "adapters" / task, {"model.layers.0.self_attn.q_proj": tuple(factors)}
        )
        (folder / "training.json").write_text(json.dumps(RECORD))
    arguments = [str(tmp_path / "adapters"), str(tmp_path / "work")]
    command = ["run", *arguments, "--methods", "tsv", "--dtype", "float32"]
    monkeypatch.setattr(sys, "argv", [*command, "--count", "4"])

    scripts["run"].main()
    steps = sorted((tmp_path / "work" / "scores").rglob("*.parquet"))
    # One merge and three models, each on both tasks.
    assert len(steps) == 8
    capsys.readouterr()
    scripts["run"].main()
    assert "all is scored" in capsys.readouterr().out
    assert sorted((tmp_path / "work" / "scores").rglob("*.parquet")) == steps

    results = tmp_path / "results"
    monkeypatch.setattr(sys, "argv", ["tables", *arguments, str(results), "--dtype", "float32"])
    scripts["tables"].main()
    items = pd.read_parquet(results / "items.parquet")
    assert len(items) == 8 * 4
    assert items["likelihood"].between(0, 1).all()
    models = pd.read_csv(results / "models.csv").set_index("task")
    outcomes = pd.read_csv(results / "outcomes.csv")
    assert outcomes["error"].isna().all()
    merge = outcomes.set_index("method").loc["tsv"]
    assert merge["norm_acc_b"] == pytest.approx(
        merge["acc_b"] / models.loc["mbpp", "finetuned"], rel=1e-4
    )
    held = items[(items["model"] == "tsv:gsm8k__mbpp") & (items["task"] == "mbpp")]
    assert merge["acc_b"] == pytest.approx(held["likelihood"].mean(), rel=1e-4)
