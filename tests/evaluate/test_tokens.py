"""The estimate of what a model will read is near what it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from miscible.evaluate import EvaluationOptions
from miscible.evaluate.harness import LmEvalHarness
from miscible.models import LiveModel

# The 512 tokens of stories260k hold such words in some 2.7 characters each, and other text in 1.3.
SENTENCE = "The little girl was happy to play with her friend in the park."
STORIES = [{"text": " ".join([SENTENCE] * (1 + i % 5))} for i in range(40)]
QUESTIONS = [
    {
        "question": SENTENCE,
        "choices": {"text": [f"{SENTENCE} {i}", "She went home."], "label": ["A", "B"]},
        "answerKey": "A",
    }
    for i in range(40)
]


@pytest.mark.parametrize("limit", [None, 10])
@pytest.mark.parametrize(
    ("name", "documents"), [("own_stories", STORIES), ("own_choice", QUESTIONS)]
)
def test_tokens_are_estimated_within_a_factor_of_two(
    stories: LiveModel,
    own_tasks: Path,
    tmp_path: Path,
    name: str,
    documents: list[dict[str, Any]],
    limit: int | None,
) -> None:
    text = (own_tasks / f"{name}.yaml").read_text()
    (tmp_path / "task.yaml").write_text(text)
    (file,) = yaml.safe_load(text)["dataset_kwargs"]["data_files"].values()
    (tmp_path / file).write_text("".join(json.dumps(each) + "\n" for each in documents))
    options = EvaluationOptions(tasks=(name,), include=(str(tmp_path),), limit=limit)

    texts = []
    for each in documents[:limit]:
        texts.append(each.get("text") or f"Question: {each['question']}\nAnswer:")
        texts += [f" {choice}" for choice in each.get("choices", {}).get("text", ())]
    read = sum(len(stories.tokenizer.encode(text, add_special_tokens=False)) for text in texts)
    assert 0.5 < LmEvalHarness(options).tokens() / read < 2
