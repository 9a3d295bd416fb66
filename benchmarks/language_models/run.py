"""Score the base, its children, and their merges on the tasks that belong to them.

    python benchmarks/language_models/run.py ADAPTERS_FOLDER WORK_FOLDER [--minutes 90]

Resumable: each (model, task) is stored when it is finished; run it again to go on. Data is read
from ``MISCIBLE_SHARED_DATA`` (default ``../shared/data``) and never copied into the project.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from items import COUNT, write_items
from merges import BASE, METHODS, merges, pairs
from scoring import Scorer
from tasks import TASKS
from transformers import AutoTokenizer

import miscible
from miscible.models.checkpoint import Checkpoint
from miscible.models.ref import open_checkpoint
from miscible.study.store import Store

REFERENCE = "demo:smollm2-135m-instruct"
DTYPE = "bfloat16"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("adapters", type=Path, help="folder of the children")
    parser.add_argument("work", type=Path, help="folder of items and results")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--minutes", type=float, default=90.0, help="stop after so many")
    parser.add_argument("--dtype", default=DTYPE)
    parser.add_argument("--count", type=int, default=COUNT, help="items of a task")
    parser.add_argument("--every", type=int, default=1, help="only every so-many-th merge")
    parser.add_argument("--part", default="0/1", help="i/n: of n processes at once, the i-th")
    arguments = parser.parse_args()
    part, parts = (int(number) for number in arguments.part.split("/"))
    end = time.monotonic() + 60 * arguments.minutes
    models = open_models(arguments.adapters)
    items = arguments.work / "items"
    tokenizer = AutoTokenizer.from_pretrained(models[BASE].folder)
    counts = write_items(items, tokenizer, arguments.count)
    print(f"items: {json.dumps(counts)}", flush=True)
    store = Store(arguments.work / "scores" / f"part-{part}-of-{parts}-{arguments.dtype}")
    with store.locked():
        scorer = Scorer(models[BASE], items, store, arguments.dtype)
        planned = plan(models, arguments.methods, arguments.every)
        for name, model, tasks in islice(planned, part, None, parts):
            if time.monotonic() > end:
                print("the time is up; run it again to go on", flush=True)
                return
            scorer.score(name, model, tasks, say)
    print("all is scored", flush=True)


def open_models(adapters: Path) -> dict[str, Checkpoint]:
    """Return the base and its children by task."""
    return {BASE: open_checkpoint(REFERENCE, name=BASE)} | {
        task: open_checkpoint(f"{REFERENCE}+{adapters / task}", name=task) for task in TASKS
    }


def plan(
    models: dict[str, Checkpoint], methods: Sequence[str], every: int
) -> Iterator[tuple[str, Checkpoint, Sequence[str]]]:
    """Yield what is scored, by name, in the order of use: a table that is cut short is of use."""
    yield BASE, models[BASE], list(TASKS)
    for task in TASKS:
        yield task, models[task], [task]
    for merge in merges(pairs(), methods)[::every]:
        given = {name: models[name] for name in merge.named}
        merged = miscible.merge(merge.recipe, models=given)
        merged.name = f"{merge.method}:{merge.group}"
        yield merged.name, merged, merge.models
    for task in TASKS:
        yield task, models[task], list(TASKS)


def say(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)  # where cores are shared, barriers cost more than threads gain
    main()
