"""A study of tiny models that takes about a second."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import yaml

from miscible.study import Study
from tiny import tiny_tensors, write_model

SINGULAR, PLURAL = ("cat", "dog"), ("cats", "dogs")


def write_small_study(folder: Path, *, with_task: bool = False, **changes: object) -> Path:
    """Write models, data and a study file; return the study file."""
    base = tiny_tensors(0)
    write_model(folder / "base", base)
    for seed, name in ((1, "one"), (2, "two")):
        noise = tiny_tensors(seed)
        child = {key: tensor + 0.1 * noise[key] for key, tensor in base.items()}
        write_model(folder / name, child)
    (folder / "pairs.jsonl").write_text("\n".join(json.dumps(row) for row in _pairs()))
    spec: dict[str, object] = {
        "name": "small",
        "base": "base",
        "parents": {"one": "one", "two": "two"},
        "merges": [{"method": "linear", "dose": [0.25, 0.75]}, {"method": "ties", "dose": 0.5}],
        "internals": {"datasets": [{"minimal_pairs": str(folder / "pairs.jsonl")}]},
    }
    if with_task:
        _write_task(folder / "tasks")
        spec["behaviour"] = {"tasks": ["small_bpb"], "include": ["tasks"]}
    path = folder / "study.yml"
    path.write_text(yaml.safe_dump({**spec, **changes}, sort_keys=False))
    return path


def open_small_study(folder: Path, **changes: object) -> Study:
    """Write a small study and open it."""
    return Study.open(write_small_study(folder, **changes))  # type: ignore[arg-type]


def _pairs() -> list[dict[str, str]]:
    rows = []
    for article, number, noun, verb in itertools.product(
        ("the", "a"), (0, 1), (0, 1), (("sleeps", "sleep"), ("sees", "see"))
    ):
        subject = (SINGULAR, PLURAL)[number][noun]
        good, bad = verb[number], verb[1 - number]
        rows.append(
            {
                "sentence_good": f"{article} {subject} {good} .",
                "sentence_bad": f"{article} {subject} {bad} .",
                "UID": "agreement", "field": "syntax", "linguistics_term": "agreement",
                "pairID": str(len(rows)),
            }
        )  # fmt: skip
    return rows


def _write_task(folder: Path) -> None:
    folder.mkdir()
    rows = [{"text": " ".join([r["sentence_good"]] * (1 + i % 3))} for i, r in enumerate(_pairs())]
    (folder / "docs.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    task = {
        "task": "small_bpb", "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / "docs.jsonl")}},
        "test_split": "test", "output_type": "loglikelihood_rolling", "doc_to_text": "",
        "doc_to_target": "{{text}}", "metric_list": [{"metric": "bits_per_byte"}],
        "metadata": {"version": 1},
    }  # fmt: skip
    (folder / "small_bpb.yaml").write_text(yaml.safe_dump(task))
