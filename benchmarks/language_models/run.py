"""Score the base, its children, and their merges on the tasks that belong to them.

    python benchmarks/language_models/run.py ADAPTERS_FOLDER WORK_FOLDER [--minutes 90]
    python benchmarks/language_models/run.py ADAPTERS_FOLDER WORK_FOLDER --backwards &

Resumable: each (model, task) is stored when it is finished; run it again to go on. Two processes
of one thread, one from each end, take two cores. Data is read from ``MISCIBLE_SHARED_DATA``
(default ``../shared/data``) and never copied into the project.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from items import COUNT, write_items
from merges import BASE, METHODS, TRIPLE_METHODS, Merge, merges, pairs, triples
from scoring import Scorer
from tasks import TASKS
from transformers import AutoTokenizer

import miscible
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import open_checkpoint
from miscible.study.store import Store

REFERENCE = "demo:smollm2-135m-instruct"
DTYPE = "bfloat16"
WHAT = ("parents", "pairs", "triples", "children")
"""Base and children on their tasks; merges of two; of three; children on the others' tasks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", type=Path, help="folder of the children")
    parser.add_argument("work", type=Path, help="folder of items and results")
    parser.add_argument("--what", nargs="+", choices=WHAT, default=list(WHAT))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=90.0, help="stop after so many")
    parser.add_argument("--backwards", action="store_true", help="a second process, from the end")
    parser.add_argument("--dtype", default=DTYPE)
    parser.add_argument("--count", type=int, default=COUNT, help="items of a task")
    parser.add_argument("--every", type=int, default=1, help="only every so-many-th model")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    models = open_models(arguments.adapters)
    items = arguments.work / "items"
    tokenizer = AutoTokenizer.from_pretrained(models[BASE].folder)
    counts = write_items(items, tokenizer, arguments.count)
    print(f"items: {json.dumps(counts)}", flush=True)
    way = "backwards" if arguments.backwards else "forwards"
    store = Store(arguments.work / "scores" / f"{way}-{arguments.dtype}")
    planned = plan(arguments.what, arguments.methods)[:: arguments.every]
    with store.locked():
        scorer = Scorer(models[BASE], items, store, arguments.dtype)
        for subject, tasks in reversed(planned) if arguments.backwards else planned:
            if time.monotonic() > end:
                print("the time is up; run it again to go on", flush=True)
                return
            scorer.score(*opened(subject, models), tasks, say)
    print("all is scored", flush=True)


def open_models(adapters: Path) -> dict[str, Checkpoint]:
    """Return the base and its children by task."""
    return {BASE: open_checkpoint(REFERENCE, name=BASE)} | {
        task: open_checkpoint(f"{REFERENCE}+{adapters / task}", name=task) for task in TASKS
    }


def plan(what: Sequence[str], methods: Sequence[str]) -> list[tuple[str | Merge, Sequence[str]]]:
    """Return what is scored on which tasks, in the order of use: cut short, it is of use too."""
    parts: dict[str, list[tuple[str | Merge, Sequence[str]]]] = {
        "parents": [(BASE, list(TASKS)), *((task, [task]) for task in TASKS)],
        "pairs": [(merge, merge.models) for merge in merges(pairs(), methods)],
        "triples": [(merge, merge.models) for merge in merges(triples(), TRIPLE_METHODS)],
        "children": [(task, list(TASKS)) for task in TASKS],
    }
    return [each for part in WHAT if part in what for each in parts[part]]


def opened(subject: str | Merge, models: dict[str, Checkpoint]) -> tuple[str, Checkpoint]:
    """Return name and weights of a model or of a merge, which is computed when it is read."""
    if isinstance(subject, str):
        return subject, models[subject]
    given = {name: models[name] for name in subject.named}
    virtual = miscible.merge(subject.recipe, models=given)
    virtual.name = f"{subject.method}:{subject.group}"
    return virtual.name, virtual


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # where cores are shared, barriers cost more than threads gain
    main()
