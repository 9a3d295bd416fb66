"""Holmes folders as the benchmark lays them out: small data sets of all seven types."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

NAMES = ["Mary", "John's brother", "The old farmer", 'A "friend"', "Nobody", "Łukasz", "Zoë"]
VERBS = [("sees", "saw"), ("buys", "bought"), ("doesn't mend", "didn't mend")]
THINGS = ["the red car", "a boat, or two", "them"]

SENTENCES = [
    f"{name} {verb[tense]} {thing}."
    for name in NAMES for verb in VERBS for tense in (0, 1) for thing in THINGS
]  # fmt: skip
"""126 distinct sentences with quotes, apostrophes, commas and letters beyond ASCII."""

ROLES = ["train", "train", "test", "train", "dev"]


class Task(NamedTuple):
    """One data set.

    Attributes:
        name: of its folder.
        type: ``probe_task_type``.
        labels: number of labels; 1 for a regression.
        rows: (inputs, context, label).
    """

    name: str
    type: str
    labels: int
    rows: list[tuple[Any, Any, Any]]


def word(sentence: str, number: int, context: int = 0) -> tuple[str, int, int, int]:
    """Return a token as Holmes writes it: (surface form, context, start, stop)."""
    start = 0
    for position, surface in enumerate(sentence.split()):
        start = sentence.index(surface, start)
        if position == number:
            return surface, context, start, start + len(surface)
        start += len(surface)
    raise IndexError(number)


def tasks(size: int = 30) -> list[Task]:
    """Return a data set of each type, and a regression."""
    first, second = SENTENCES[:size], SENTENCES[-size:]
    pairs = list(zip(first, second, strict=True))
    return [
        Task("senteval-past_present", "SENTENCE", 2,
             [([text], "", int(number // 3 % 2)) for number, text in enumerate(first)]),
        Task("const_max_depth", "SENTENCE", 1,
             [([text], "", len(text) / 10) for text in first]),
        Task("next-sentence-prediction", "SENTENCE_PAIR_BI", 2,
             [(list(pair), "", number % 2) for number, pair in enumerate(pairs)]),
        Task("synonym-antonym-hard", "SENTENCE_PAIR_CROSS", 2,
             [(list(pair), "", number % 2) for number, pair in enumerate(pairs)]),
        Task("dep", "SENTENCE_TOKENS", 3,
             [((word(text, 1), word(text, 0)), [text], number % 3)
              for number, text in enumerate(first)]),
        Task("coref", "SENTENCE_SPANS", 2,
             [([(*word(text, 0), 0), (*word(text, 2), 1), (*word(text, 1), 0)], [text], number % 2)
              for number, text in enumerate(first)]),
        Task("drt-arg-rel", "SENTENCE_PAIR_TOKENS_BI", 2,
             [([word(one, 1), word(two, 0, 1)], [one, two], number % 2)
              for number, (one, two) in enumerate(pairs)]),
        Task("rst-edu-relation", "SENTENCE_PAIR_TOKENS_CROSS", 2,
             [([word(one, 1), word(two, 0, 1)], [one, two], number % 2)
              for number, (one, two) in enumerate(pairs)]),
    ]  # fmt: skip


def config(task: Task, control: str = "NONE") -> dict[str, Any]:
    """Return the keys of a ``config-*.yaml``."""
    return {
        "probe_name": f"holmes-{task.name}",
        "control_task_type": control,
        "probe_task_type": task.type,
        "num_inputs": 1,
        "num_labels": task.labels,
        "num_probe_folds": 1,
        "probes_samples_path": f"/nowhere/{task.name}/",
        "hyperparameters": {"dropout": [0.2], "learning_rate": [0.001]},
    }


def table(task: Task, splits: int = 1) -> str:
    """Return a ``samples.csv`` as pandas writes it."""
    sets = [f"set-{number}" for number in range(splits)]
    rows: list[Sequence[Any]] = [["", "id", "inputs", "context", "label", *sets]]
    for number, (inputs, context, label) in enumerate(task.rows):
        roles = [ROLES[(number + split) % len(ROLES)] for split in range(splits)]
        rows.append([number, 100 + number, repr(inputs), context and repr(context), label, *roles])
    return csv_of(rows)


def csv_of(rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as CSV."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def write_task(version: Path, task: Task, splits: int = 1) -> Path:
    """Write a data set with its controls, and return its folder."""
    folder = version / task.name
    folder.mkdir(parents=True, exist_ok=True)
    controls = {"none": "NONE", "perm": "PERMUTATION", "rand-weights": "RANDOM_WEIGHTS"}
    for name, control in controls.items():
        text = yaml.safe_dump(config(task, control))
        (folder / f"config-{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "samples.csv").write_text(table(task, splits), encoding="utf-8")
    return folder


def write_holmes(version: Path, size: int = 30) -> Path:
    """Write a version with a data set of each type."""
    for task in tasks(size):
        write_task(version, task)
    return version
