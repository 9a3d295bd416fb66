"""Scores are what their items say, and what lm-eval says."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from miscible.evaluate import Evaluation, EvaluationOptions, evaluators
from miscible.evaluate import rows as rows_module
from miscible.models import LiveModel, open_checkpoint

Run = Callable[..., Evaluation]


@pytest.fixture(scope="module")
def found(stories: LiveModel, own_tasks: Path) -> Evaluation:
    return evaluate(stories, own_tasks)


def test_items_reproduce_scores(found: Evaluation) -> None:
    checked = 0
    for score in found.scores:
        items = [
            item
            for item in found.items
            if (item.dataset, item.metric) == (score.dataset, score.metric)
        ]
        if "no-items" in score.flags.split(","):
            assert not items
            continue
        mean = np.average([i.value for i in items], weights=[i.weight for i in items])
        assert score.estimate == pytest.approx(mean, rel=1e-9)
        assert len(items) == score.n == len({item.item for item in items})
        assert score.low <= score.estimate <= score.high
        checked += 1
    assert checked == 6


def test_bits_per_byte_is_weighted_by_bytes(found: Evaluation, own_tasks: Path) -> None:
    import json

    texts = [json.loads(line)["text"] for line in (own_tasks / "stories.jsonl").open()]
    items = [item for item in found.items if item.metric == "bits_per_byte"]
    assert [item.weight for item in items] == [len(text.encode()) for text in texts]


def test_transformed_metric_has_an_interval_but_no_items(found: Evaluation) -> None:
    by_metric = {row.metric: row for row in found.scores if row.dataset == "own_stories"}
    bits, perplexity = by_metric["bits_per_byte"], by_metric["byte_perplexity"]
    for name in ("estimate", "low", "high"):
        assert getattr(perplexity, name) == pytest.approx(2 ** getattr(bits, name), rel=1e-9)
    assert perplexity.flags.split(",") == ["prefix-1", "no-items"]


def test_choice_logprob_is_the_normalised_log_probability_of_the_right_option(
    found: Evaluation, stories: LiveModel, questions: list[dict[str, Any]]
) -> None:
    values = [item.value for item in found.items if item.metric == "choice_logprob"]
    for question, value in zip(questions[:5], values, strict=False):
        context = f"Question: {question['question']}\nAnswer:"
        start = stories.tokenizer.encode(context)
        logprobs = []
        for option in question["choices"]["text"]:
            row = stories.tokenizer.encode(f"{context} {option}")
            with torch.no_grad():
                table = stories.model(torch.tensor([row])).logits[0].log_softmax(-1)
            steps = range(len(start), len(row))
            logprobs.append(math.fsum(float(table[i - 1, row[i]]) for i in steps))
        right = question["choices"]["label"].index(question["answerKey"])
        expected = logprobs[right] - np.logaddexp.reduce(logprobs)
        assert value == pytest.approx(expected, abs=1e-3)


def test_chance_is_the_baseline(found: Evaluation, questions: list[dict[str, Any]]) -> None:
    options = [len(question["choices"]["text"]) for question in questions]
    by_metric = {row.metric: row for row in found.scores if row.dataset == "own_choice"}
    assert by_metric["acc"].baseline == pytest.approx(np.mean([1 / n for n in options]))
    expected = -np.mean([math.log(n) for n in options])
    assert by_metric["choice_logprob"].baseline == pytest.approx(expected)


def test_group_score_averages_its_tasks(run: Run, shared_data: Path) -> None:
    blimp = str(shared_data / "probing" / "blimp" / "BLiMP.zip")
    found = run(tasks=("blimp",), data={"blimp": blimp}, limit=2, resamples=20)
    by_metric = {row.metric: row for row in found.scores if row.dataset == "blimp"}
    leaves = [r.estimate for r in found.scores if r.metric == "acc" and r.dataset != "blimp"]
    assert len(leaves) == 67
    assert by_metric["acc"].estimate == pytest.approx(np.mean(leaves))
    assert by_metric["acc"].low < by_metric["acc"].estimate < by_metric["acc"].high
    assert by_metric["acc"].flags.split(",")[0] == "group"
    assert not [item for item in found.items if item.dataset == "blimp"]


def test_a_score_that_its_items_contradict_is_a_bug(
    run: Run, own_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows_module, "TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="own_choice: acc is"):
        run(tasks=("own_choice",), include=(str(own_tasks),), limit=2)


def test_clusters_follow_a_field_of_the_documents(run: Run, own_tasks: Path) -> None:
    include = (str(own_tasks),)
    found = run(tasks=("own_choice",), include=include, cluster={"own_choice": "answerKey"})
    (first, *_) = found.items
    assert {item.cluster for item in found.items} == {"A", "B", "C", "D"}
    assert first.item == "0"


def test_truncated_contexts_and_prefix_tokens_are_flagged(run: Run, shared_data: Path) -> None:
    data = {"gsm8k_solution_bpb": str(shared_data / "behaviour" / "gsm8k")}
    long = run(tasks=("gsm8k_solution_bpb",), data=data, limit=2, num_fewshot=5)
    short = run(tasks=("gsm8k_solution_bpb",), data=data, limit=2)
    assert long.scores[0].flags == "truncated"
    assert short.scores[0].flags == ""
    code = {"python_code_bpb": str(shared_data / "behaviour" / "mbpp" / "mbpp.jsonl.gz")}
    pinned = run(tasks=("python_code_bpb",), data=code, limit=2, prefix_token=2)
    default = run(tasks=("python_code_bpb",), data=code, limit=2)
    assert (pinned.scores[0].flags, default.scores[0].flags) == ("prefix-2", "prefix-1")
    assert pinned.scores[0].estimate != default.scores[0].estimate


def test_prefix_that_is_a_control_token_is_flagged(stories: LiveModel) -> None:
    from miscible.evaluate.model import LikelihoodLM

    assert not LikelihoodLM(stories).prefix_is_control_token
    lm = LikelihoodLM(stories)
    lm.tokenizer = _Speaks("<|im_start|>")
    assert lm.prefix_is_control_token


class _Speaks:
    bos_token_id = 1

    def __init__(self, token: str) -> None:
        self.token = token

    def decode(self, _: list[int]) -> str:
        return self.token


@pytest.fixture
def own_stories_model(stories_folder: Path) -> LiveModel:
    return LiveModel.load(open_checkpoint(str(stories_folder)))


def overflow_on(live: LiveModel, token: int) -> None:
    """Make the model give NaN wherever it has read *token*."""

    def overflow(module: Any, args: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        return output.masked_fill((args[0] == token)[..., None], math.inf)

    live.model.get_input_embeddings().register_forward_hook(overflow)


def test_a_model_of_nan_has_no_scores(own_stories_model: LiveModel, own_tasks: Path) -> None:
    live = own_stories_model
    live.model.lm_head.weight.data[7, 3] = math.nan
    found = evaluate(live, own_tasks)
    assert len(found.scores) == 7
    for score in found.scores:
        assert math.isnan(score.estimate) and math.isnan(score.low) and math.isnan(score.high)
        assert "nonfinite" in score.flags.split(",")
    assert all(math.isnan(item.value) for item in found.items)


def test_only_the_items_that_overflow_lose_their_values(
    own_stories_model: LiveModel, own_tasks: Path
) -> None:
    live = own_stories_model
    before = evaluate(live, own_tasks)
    (token,) = live.tokenizer.encode("z", add_special_tokens=False)[-1:]
    overflow_on(live, token)
    after = evaluate(live, own_tasks)
    lost = dict.fromkeys(("own_choice", "own_stories"), 0)
    for old, new in zip(before.items, after.items, strict=True):
        if math.isnan(new.value):
            lost[new.dataset] = lost.get(new.dataset, 0) + 1
        else:
            assert new.value == pytest.approx(old.value, abs=1e-3)
    items = [item.dataset for item in after.items]
    for dataset, count in lost.items():
        assert 0 < count < items.count(dataset), dataset
    flagged = {score.dataset for score in after.scores if math.isnan(score.estimate)}
    assert set(lost) <= flagged


def evaluate(live: LiveModel, own_tasks: Path) -> Evaluation:
    names = ("own_choice", "own_stories", "own_answer")
    options = EvaluationOptions(tasks=names, include=(str(own_tasks),))
    return evaluators.get("lm_eval")(options).evaluate(live)
