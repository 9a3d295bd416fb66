"""The demo's study: written out as files that a user can read, change and run again."""

from __future__ import annotations

from importlib.resources import as_file, files
from pathlib import Path

import yaml

from miscible.demo.tasks import write_demo_tasks
from miscible.errors import StoreError
from miscible.probe.contract import SourceOptions, open_datasets
from miscible.study import Study

BASE = "demo:smollm2-135m-instruct"
CHILDREN = ("math", "code")
PARADIGMS = (
    "subject_verb_agreement_prepositional", "subject_verb_agreement_relative",
    "determiner_noun_agreement_adjective", "anaphor_number_agreement", "irregular_participle",
    "filler_gap", "transitivity", "binding_domain", "npi_licensing",
    "existential_there_quantifiers", "tense_time_adverb", "connective",
)  # fmt: skip
"""Twelve of the built-in suite's paradigms, over four competences."""
PROBING_PAIRS = 20
COMPARED_TEXTS = 32
GRAMMAR_PAIRS = 2  # of each paradigm, for the behaviour task
ITEMS = {
    "demo_code_bpb": 10, "demo_english_bpb": 8, "demo_math_bpb": 12, "demo_math_choice": 12,
    "demo_grammar": GRAMMAR_PAIRS * len(PARADIGMS),
}  # fmt: skip
"""Small enough for twelve models in minutes on two cores; raise them for tighter intervals."""


def demo_study(folder: Path) -> Study:
    """Write the demo's study file and tasks into *folder* and open it.

    Raises:
        StoreError: if the folder cannot be written.
    """
    tasks = folder / "tasks"
    try:
        tasks.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot be made: {error.strerror}.", where=str(tasks)) from error
    names = write_demo_tasks(tasks, items=ITEMS, pairs=_grammar_pairs())
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
        "internals": {
            "datasets": [f"templates:en/{name}" for name in PARADIGMS],
            "limit": PROBING_PAIRS,
            "similarity": COMPARED_TEXTS,
        },
    }
    path = folder / "study.yml"
    try:
        path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot be written: {error.strerror}.", where=str(path)) from error
    return Study.open(path, folder / "results")


def adapter_folder(child: str) -> str:
    """Return the folder of a child of the demo's base, shipped in the package."""
    with as_file(files("miscible.demo") / "adapters" / child) as path:
        return str(path.resolve())


def _grammar_pairs() -> list[tuple[str, str]]:
    specs = [f"templates:en/{name}" for name in PARADIGMS]
    datasets = open_datasets(specs, SourceOptions(GRAMMAR_PAIRS))
    return [(pair.good, pair.bad) for dataset in datasets for pair in dataset.pairs]
