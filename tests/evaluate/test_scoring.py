"""Packed, padded and one-by-one scoring are the same numbers, on several architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from miscible.evaluate.packing import Query
from miscible.evaluate.scoring import can_pack, score_packed, score_padded
from miscible.models import LiveModel, open_checkpoint

SIZES: dict[str, Any] = {
    "vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3,
    "intermediate_size": 48, "num_key_value_heads": 2, "head_dim": 8,
}  # fmt: skip


def reference(model: Any, query: Query) -> tuple[float, bool]:
    """One sequence, all logits, float64 throughout."""
    with torch.no_grad():
        logits = model.double()(torch.tensor([query.tokens])).logits[0, query.unscored :]
    model.float()
    targets = torch.tensor(query.targets)
    logprobs = logits.log_softmax(-1).gather(1, targets[:, None])
    return float(logprobs.sum()), bool((logits.argmax(-1) == targets).all())


def requests(vocabulary: int, seed: int = 0) -> list[Query]:
    """Options that share questions that share a long beginning, and strangers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocabulary, (count,), generator=generator).tolist())

    found = []
    for stem in (draw(70), draw(5)):
        for _ in range(4):
            question = stem + draw(9)
            for length in (1, 1, 4, 7):
                option = draw(length)
                found.append(Query((question + option)[:-1], option))
    found += [Query((3, *(rest := draw(30))[:-1]), rest)]
    return found


@pytest.mark.parametrize("budget", [1, 40, 100, 2000])
def test_agrees_with_float64_on_a_real_model(stories: LiveModel, budget: int) -> None:
    asked = requests(512)
    packed = score_packed(stories.model, asked, budget)
    padded = score_padded(stories.model, asked, budget)
    expected = [reference(stories.model, query) for query in asked]
    for one, other, (logprob, greedy) in zip(packed, padded, expected, strict=True):
        assert one.logprob == pytest.approx(logprob, abs=1e-4)
        assert other.logprob == pytest.approx(logprob, abs=1e-4)
        assert one.greedy == other.greedy == greedy


def test_greedy_continuations_are_recognised(stories: LiveModel) -> None:
    start = stories.tokenizer.encode("Once upon a time")
    with torch.no_grad():
        row = stories.model.generate(torch.tensor([start]), max_new_tokens=8, do_sample=False)
    tokens = tuple(row[0].tolist())
    right = Query(tokens[:-1], tokens[-8:])
    wrong = Query(tokens[:-1], (*tokens[-8:-1], (tokens[-1] + 1) % 512))
    for score in (score_packed, score_padded):
        assert [a.greedy for a in score(stories.model, [right, wrong], 64)] == [True, False]


ARCHITECTURES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**SIZES), True),
    "gpt2": (GPT2LMHeadModel, GPT2Config(vocab_size=97, n_embd=32, n_layer=3, n_head=4), True),
    # A window longer than any trial: our own mask would let tokens see further than they may.
    "mistral": (MistralForCausalLM, MistralConfig(**SIZES, sliding_window=64), False),
    # Soft-capped logits: the model's own doings after the head must stay.
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**SIZES, sliding_window=64), False),
    "bloom": (BloomForCausalLM, BloomConfig(vocab_size=97, hidden_size=32, n_head=4), None),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_whatever_is_chosen_is_right(name: str) -> None:
    kind, config, packable = ARCHITECTURES[name]
    torch.manual_seed(0)
    model: Any = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)  # far from uniform, so that a wrong mask shows
    chosen = can_pack(model)
    assert packable is None or chosen == packable
    score = score_packed if chosen else score_padded
    asked = requests(97)
    for answer, query in zip(score(model, asked, 100), asked, strict=True):
        assert answer.logprob == pytest.approx(reference(model, query)[0], abs=2e-3, rel=1e-5)


def test_half_precision_log_probabilities_are_not_rounded(stories_folder: Path) -> None:
    live = LiveModel.load(open_checkpoint(str(stories_folder)), dtype="bfloat16")
    asked = [Query(query.tokens, query.targets[-1:]) for query in requests(512)]
    for query, answer in zip(asked, score_padded(live.model, asked, 1), strict=True):
        with torch.no_grad():
            logits = live.model(torch.tensor([query.tokens])).logits[0, -1]
        assert logits.dtype == torch.bfloat16
        expected = float(logits.double().log_softmax(-1)[query.targets[0]])
        assert answer.logprob == pytest.approx(expected, abs=1e-5)
