"""Behaviour tasks for the demo: lm-eval YAML files and their data, written from what is at hand.

| task | output | metric | what |
|---|---|---|---|
| `demo_code_bpb` | rolling log-likelihood | bits per byte | held-out standard-library source |
| `demo_english_bpb` | rolling log-likelihood | bits per byte | prose of `pydoc_data` |
| `demo_math_bpb` | rolling log-likelihood | bits per byte | word problems with worked solutions |
| `demo_math_choice` | multiple choice | accuracy | the last calculation of word problems |
| `demo_grammar` | multiple choice | accuracy | minimal pairs, empty context |
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from miscible.demo.problems import draw_problems
from miscible.demo.text import Document, code_documents, english_documents
from miscible.errors import DatasetError, did_you_mean

DEFAULT_ITEMS: Final[Mapping[str, int]] = {
    "demo_code_bpb": 16,
    "demo_english_bpb": 16,
    "demo_math_bpb": 24,
    "demo_math_choice": 24,
    "demo_grammar": 64,
}

Row = dict[str, Any]


def write_demo_tasks(
    folder: Path,
    *,
    items: Mapping[str, int] | None = None,
    seed: int = 0,
    pairs: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Write the tasks into `folder` and return their names in the order of `DEFAULT_ITEMS`.

    Args:
        folder: made if absent; give it to lm-eval as `TaskManager(include_path=folder)`. The YAML
            files name their data by absolute path, so the folder must stay where it is.
        items: number of items per task, instead of the default; 0 leaves a task out.
        seed: which items are drawn. Same seed and Python version, same bytes of data.
        pairs: (grammatical, ungrammatical) sentences for `demo_grammar`; without any the task is
            left out, with fewer than asked for all are taken.

    Raises:
        DatasetError: an unknown task name in `items`, or not enough text to draw from.
    """
    wanted = {**DEFAULT_ITEMS, **(items or {})}
    for name in wanted:
        if name not in DEFAULT_ITEMS:
            raise DatasetError(
                f"There is no demo task named {name!r}.", fix=did_you_mean(name, DEFAULT_ITEMS)
            )
    makers: dict[str, Callable[[int], list[Row]]] = {
        "demo_code_bpb": lambda count: _documents(code_documents(count, seed=seed)),
        "demo_english_bpb": lambda count: _documents(english_documents(count, seed=seed)),
        "demo_math_bpb": lambda count: _solutions(count, seed),
        "demo_math_choice": lambda count: _answers(count, seed),
        "demo_grammar": lambda count: _minimal_pairs(count, seed, pairs),
    }
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, make in makers.items():
        rows = make(wanted[name]) if wanted[name] > 0 else []
        if rows:
            _write(folder.resolve(), name, rows)
            written.append(name)
    return written


def _documents(documents: Sequence[Document]) -> list[Row]:
    return [{"source": document.source, "text": document.text} for document in documents]


def _solutions(count: int, seed: int) -> list[Row]:
    problems = draw_problems(count, seed=seed)
    return [
        {"source": problem.template, "text": f"{problem.question}\n{problem.solution}\n"}
        for problem in problems
    ]


def _answers(count: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    # Another seed than the solutions': no problem is scored twice.
    for problem in draw_problems(count, seed=seed + 1_000_003, most_steps=2):
        choices = [problem.calculation, *problem.wrong]
        rng.shuffle(choices)
        label = choices.index(problem.calculation)
        opening = problem.opening.removesuffix(" ")
        if opening != problem.opening:  # a blank belongs to the token after it
            choices = [f" {choice}" for choice in choices]
        rows.append(
            {"source": problem.template, "question": opening, "choices": choices, "label": label}
        )
    return rows


def _minimal_pairs(count: int, seed: int, pairs: Sequence[tuple[str, str]]) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for good, bad in rng.sample(pairs, min(count, len(pairs))):
        # The right side changes, so that ties do not all count as right (the first choice wins).
        label = rng.randrange(2)
        choices = [good, bad] if label == 0 else [bad, good]
        rows.append({"question": "", "choices": choices, "label": label})
    return rows


def _write(folder: Path, name: str, rows: Sequence[Row]) -> None:
    data = folder / f"{name}.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    data.write_text("".join(lines), encoding="utf-8")
    config: Row = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "metadata": {"version": 1},
    }
    if "text" in rows[0]:
        # A bare column name is read as it is; a template of it would parse what looks like a list.
        config |= {
            "output_type": "loglikelihood_rolling",
            "doc_to_text": "",
            "doc_to_target": "text",
            "metric_list": [
                {"metric": "bits_per_byte", "aggregation": "bits_per_byte"}
                | {"higher_is_better": False}
            ],
        }
    else:
        config |= {
            "output_type": "multiple_choice",
            "doc_to_text": "question",
            "doc_to_choice": "choices",
            "doc_to_target": "label",
            "target_delimiter": "",
            "metric_list": [
                {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
            ],
        }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
