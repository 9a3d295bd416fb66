"""The demo's study: written out as files that a user can read, change and run again."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import yaml

from miscible.demo.tasks import write_demo_tasks
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.study import Study

BASE = "demo:smollm2-135m-instruct"
CHILDREN = ("math", "code")
GRAMMAR_PAIRS_PER_PARADIGM = 5
PROBING_PAIRS = 40


def demo_study(folder: Path) -> Study:
    """Write the demo's study file and tasks into *folder* and open it."""
    tasks = folder / "tasks"
    names = write_demo_tasks(tasks, pairs=_grammar_pairs())
    spec = {
        "name": "demo",
        "base": BASE,
        "parents": {child: f"{BASE}+{adapter_folder(child)}" for child in CHILDREN},
        "merges": [
            {"method": "linear", "dose": [0.25, 0.5, 0.75]},
            {"method": "ties", "dose": [0.25, 0.5, 0.75]},
            {"method": ["slerp", "task_arithmetic", "dare_ties"], "dose": 0.5},
        ],
        "behaviour": {"tasks": names, "include": ["tasks"]},
        "internals": {"datasets": ["templates"], "limit": PROBING_PAIRS},
    }
    path = folder / "study.yml"
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    return Study.open(path, folder / "results")


def adapter_folder(child: str) -> str:
    """Return the folder of a child of the demo's base, shipped in the package."""
    with as_file(files("miscible.demo") / "adapters" / child) as path:
        return str(path.resolve())


def _grammar_pairs() -> list[tuple[str, str]]:
    datasets = open_datasets(["templates"], SourceOptions(GRAMMAR_PAIRS_PER_PARADIGM))
    return [(pair.good, pair.bad) for dataset in datasets for pair in dataset.pairs]
