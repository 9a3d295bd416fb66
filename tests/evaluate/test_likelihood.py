"""The likelihood of an answer, a token at a time, as task YAML can ask for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from miscible.evaluate import Evaluation
from miscible.models import LiveModel

TASK = {
    "task": "own_likelihood",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "answers.jsonl"}},
    "test_split": "test",
    "output_type": "loglikelihood",
    "doc_to_text": "context",
    "doc_to_target": "answer",
    "target_delimiter": "",
    "metric_list": [{"metric": "likelihood", "aggregation": "mean", "higher_is_better": True}],
}
FUNCTION = "process_results: !function miscible.evaluate.measures.likelihood_per_token\n"
ITEMS = [("Once upon a time", " there was a girl."), ("One day, Tim", " saw [1, 2]\nbirds")]


def test_likelihood_is_the_geometric_mean_of_the_tokens_probabilities(
    stories: LiveModel, run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    rows, expected = [], []
    for context, answer in ITEMS:
        given = len(stories.tokenizer(context).input_ids)
        ids = torch.tensor([stories.tokenizer(context + answer).input_ids])
        logprobs = stories.model(ids).logits[0].double().log_softmax(dim=-1)
        each = logprobs[given - 1 : -1].gather(1, ids[0, given:, None])
        rows.append({"context": context, "answer": answer, "tokens": len(each)})
        expected.append(float(each.mean().exp()))
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own_likelihood.yaml").write_text(yaml.safe_dump(TASK) + FUNCTION)

    found = run(tasks=("own_likelihood",), include=(str(tmp_path),))

    values = [item.value for item in found.items if item.metric == "likelihood"]
    assert values == pytest.approx(expected, rel=1e-4)
    (score,) = [row for row in found.scores if row.metric == "likelihood"]
    assert score.estimate == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert score.higher_is_better
