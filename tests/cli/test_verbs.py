from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from miscible.models import open_checkpoint
from study.small import write_small_study


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from miscible.cli import app; "
        "heavy = {'torch', 'transformers', 'lm_eval', 'plotly', 'pandas', 'numpy', 'duckdb'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_merge_writes_a_model_and_its_doses(
    miscible: Callable[..., Any], tiny_base: Path, tiny_children: list[Path], tmp_path: Path
) -> None:
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(tiny_base),
        "models": [
            {"model": str(folder), "parameters": {"weight": weight}}
            for folder, weight in zip(tiny_children, (0.2, 0.7), strict=True)
        ],
    }
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "merged"
    outcome = miscible("merge", tmp_path / "recipe.yml", out, "--format", "json")
    assert outcome.code == 0, outcome.err
    doses = {d["parent"]: round(d["coefficient"], 4) for d in json.loads(outcome.out)["doses"]}
    assert doses == {str(tiny_children[0]): 0.2, str(tiny_children[1]): 0.7}
    assert len(open_checkpoint(str(out)).tensors) == 20
    card = (out / "README.md").read_text()
    assert "child1" in card
    assert str(tmp_path) not in card, "a card is published; it must not tell where its author works"
    lineage = json.loads((out / "miscible.json").read_text())
    assert lineage["method"] == "task_arithmetic"
    human = miscible("merge", tmp_path / "recipe.yml", tmp_path / "again")
    assert "Effective dose" in human.out


def test_methods(miscible: Callable[..., Any]) -> None:
    held = json.loads(miscible("methods", "--format", "json").out)
    by_name = {method["name"]: method for method in held}
    assert {"linear", "slerp", "task_arithmetic", "ties", "dare_ties"} <= by_name.keys()
    assert by_name["ties"]["parameters"]["density"]["allowed"] == "a number in the range [0, 1]"
    assert by_name["dare_ties"]["random"] is True
    assert "2306.01708" in miscible("methods").out


def test_study_from_plan_to_report(miscible: Callable[..., Any], tmp_path: Path) -> None:
    path = write_small_study(tmp_path, with_task=True)
    plan = miscible("study", "run", path, "--dry-run", "--format", "json")
    cost = json.loads(plan.out)["cost"]
    assert (cost["steps"], cost["finished"]) == (21, 0)
    assert "linear 0.25" in miscible("study", "run", path, "--dry-run").out
    ran = miscible("study", "run", path, "--format", "json")
    assert ran.code == 0, ran.err
    summary = json.loads(ran.out)
    assert (summary["done"], summary["failed"]) == (21, [])
    page = Path(summary["report"]).read_text()
    assert "small_bpb" in page
    states = json.loads(miscible("study", "status", path, "--format", "json").out)
    assert {state["state"] for state in states} == {"finished"}
    assert "ties 0.5" in miscible("study", "status", path).out
    again = miscible("study", "report", path, "--out", tmp_path / "again.html")
    assert again.code == 0
    assert (tmp_path / "again.html").is_file()
