"""A real 260 000-parameter Llama, data for it, and small tasks of a user's own."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from miscible.evaluate import Evaluation, EvaluationOptions, evaluators
from miscible.models import LiveModel, open_checkpoint

OWN_CHOICE: dict[str, Any] = {
    "task": "own_choice",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "questions.jsonl"}},
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_target": "{{choices.label.index(answerKey)}}",
    "doc_to_choice": "{{choices.text}}",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}
OWN_STORIES: dict[str, Any] = {
    "task": "own_stories",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "stories.jsonl"}},
    "output_type": "loglikelihood_rolling",
    "test_split": "test",
    "doc_to_text": "",
    "doc_to_target": "{{text}}",
    "metric_list": [{"metric": "bits_per_byte"}, {"metric": "byte_perplexity"}],
}
OWN_ANSWER: dict[str, Any] = {
    "task": "own_answer",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "sums.jsonl"}},
    "output_type": "generate_until",
    "test_split": "test",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 24},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


@pytest.fixture(scope="session")
def stories_folder(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260k"


@pytest.fixture(scope="session")
def stories(stories_folder: Path) -> LiveModel:
    """The model in float32; tests that swap its weights must load their own."""
    return LiveModel.load(open_checkpoint(str(stories_folder)))


@pytest.fixture(scope="session")
def questions(shared_data: Path) -> list[dict[str, Any]]:
    return read_lines(shared_data / "behaviour" / "arc" / "ARC-Easy-test.jsonl.gz")[:30]


@pytest.fixture(scope="session")
def own_tasks(
    shared_data: Path, questions: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with three tasks of a user's own, their data beside them."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in (OWN_CHOICE, OWN_STORIES, OWN_ANSWER):
        (folder / f"{task['task']}.yaml").write_text(yaml.safe_dump(task))
    write_lines(folder / "questions.jsonl", questions)
    solved = read_lines(shared_data / "behaviour" / "gsm8k" / "test.jsonl.gz")
    # Documents shorter and longer than the 512 tokens of the model's context.
    long = [{"text": " ".join(each["answer"] for each in solved[i : i + 8])} for i in (0, 8)]
    write_lines(folder / "stories.jsonl", [{"text": s["question"]} for s in solved[:10]] + long)
    sums = [{"question": f"{s['question'][:60]}", "answer": "the end"} for s in solved[:6]]
    write_lines(folder / "sums.jsonl", sums)
    return folder


@pytest.fixture
def run(stories: LiveModel) -> Callable[..., Evaluation]:
    """Evaluate the model with these options."""

    def evaluate(**options: Any) -> Evaluation:
        return evaluators.get("lm_eval")(EvaluationOptions(**options)).evaluate(stories)

    return evaluate


def read_lines(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
