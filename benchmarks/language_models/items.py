"""The held-out items of the tasks as lm-eval tasks over local files.

Rule of length: the context has 8 to 80 tokens, else the item is passed over; of the answer the
first 32 tokens are asked. Rule of choice: of the items that are left, those whose contexts have
the smallest SHA-256, one item a context.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import yaml
from tasks import TASKS, Item

COUNT = 200
CONTEXT = range(8, 81)
ANSWER = 32


def write_items(folder: Path, tokenizer: Any, count: int) -> dict[str, int]:
    """Write a YAML and a JSONL file of each task into *folder*; return the number of items."""
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for name, task in TASKS.items():
        by_digest = {_digest(item): item for item in task.items("held_out")}
        rows: list[dict[str, Any]] = []
        for digest in sorted(by_digest):
            row = _row(by_digest[digest], tokenizer)
            if row is not None:
                rows.append({"id": f"{name}-{digest[:12]}", **row})
            if len(rows) == count:
                break
        _write(folder.resolve(), name, rows)
        written[name] = len(rows)
    return written


def _digest(item: Item) -> str:
    return hashlib.sha256(item.context.encode()).hexdigest()


def _row(item: Item, tokenizer: Any) -> dict[str, Any] | None:
    given = len(tokenizer(item.context).input_ids)
    if given not in CONTEXT:
        return None
    whole = tokenizer(item.context + item.answer, return_offsets_mapping=True)
    ends = [end for _, end in whole.offset_mapping[: given + ANSWER]]
    text = (item.context + item.answer)[: ends[-1]]
    answer = text[len(item.context) :]
    # As lm-eval counts: what the whole has more than the context.
    tokens = len(tokenizer(text).input_ids) - given
    if tokens < 1 or not answer.strip():
        return None
    return {"context": item.context, "answer": answer, "tokens": tokens}


def _write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    data = folder / f"{name}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    _publish(data, "".join(lines))
    # Bare names of fields: a template would parse what looks like a list.
    config = {
        "task": f"lm_{name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "context",
        "doc_to_target": "answer",
        "target_delimiter": "",
        "process_results": "FUNCTION",
        "metric_list": [
            {"metric": "likelihood", "aggregation": "mean", "higher_is_better": True},
        ],
        "metadata": {"version": 1},
    }
    text = yaml.safe_dump(config, sort_keys=False)
    function = "!function miscible.evaluate.measures.likelihood_per_token"
    _publish(folder / f"{name}.yaml", text.replace("FUNCTION", function))


def _publish(path: Path, text: str) -> None:
    # Several parts of a run write the same files at once.
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
