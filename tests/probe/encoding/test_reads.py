"""Spans of texts: which tokens they are, and the mean of their states."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.probe.encoding.encode import encode
from miscible.probe.encoding.tokens import EncodingPlan, Read


def plan_of(live, texts, reads, **options) -> EncodingPlan:
    return EncodingPlan.build(texts, live.tokenizer, live.model.config, reads=reads, **options)


def plainly(model, ids) -> np.ndarray:
    with torch.no_grad():
        output = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    return torch.stack([layer[0] for layer in output.hidden_states]).numpy()


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_a_span_is_the_mean_of_the_tokens_that_overlap_it(
    stories, sentences, padding, batch_tokens
) -> None:
    reads, expected = [], []
    for text in sentences:
        encoded = stories.tokenizer(text, return_offsets_mapping=True)
        states = plainly(stories.model, encoded["input_ids"])
        start = 0
        for word in text.split():
            start = text.index(word, start)
            stop = start + len(word)
            reads.append(Read(text, 0, start, stop))
            own = [
                place for place, (first, last) in enumerate(encoded["offset_mapping"])
                if first < stop and last > start and last > first
            ]  # fmt: skip
            assert own
            expected.append(states[:, own].mean(axis=1))
            start = stop
    plan = plan_of(stories, sentences, reads, padding=padding, batch_tokens=batch_tokens)
    found = encode(stories, plan)
    assert found.states.shape[:2] == (len(reads), 6)
    np.testing.assert_allclose(found.states, np.stack(expected), atol=1e-4)


def test_reads_are_found_again_and_told_apart(stories) -> None:
    reads = [Read("One two."), Read("One two.", 0, 4, 7), Read("One two.")]
    plan = plan_of(stories, ["One two."], reads)
    assert plan.reads == (reads[0], reads[1])
    assert plan.rows(reads).tolist() == [0, 1, 0]


def test_only_what_is_wanted_is_scored(stories, sentences) -> None:
    plan = EncodingPlan.build(
        sentences, stories.tokenizer, stories.model.config, scored={sentences[1]}
    )
    whole = encode(stories, EncodingPlan.build(sentences, stories.tokenizer, stories.model.config))
    found = encode(stories, plan)
    assert np.isfinite(found.log_probability).tolist() == [False, True, False, False, False]
    assert found.log_probability[1] == pytest.approx(whole.log_probability[1], abs=1e-4)
    np.testing.assert_allclose(found.states, whole.states, atol=1e-4)


def test_a_span_beyond_the_context_is_missing(stories) -> None:
    text = "the dog ran " * 400
    plan = plan_of(stories, [text], [Read(text, 0, 0, 3), Read(text, 0, len(text) - 4, len(text))])
    assert plan.missing.tolist() == [False, True]
    found = encode(stories, plan)
    assert found.states[0].any() and not found.states[1].any()


def test_joined_sentences_are_separated(stories) -> None:
    pair = ("Tom ran.", "The cat slept.")
    plan = plan_of(stories, [pair], [Read(pair), Read(pair, 1, 4, 7), Read(pair, 0, 0, 3)])
    tokenizer = stories.tokenizer
    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair)
    whole = [tokenizer.bos_token_id, *first, tokenizer.eos_token_id, *second]
    assert list(plan.sequences[0].ids) == whole
    covered = [
        tokenizer.decode(whole[first:last]).strip() for first, last in plan.positions.tolist()
    ]
    assert "cat" in covered[1] and "slept" not in covered[1]
    assert covered[2] == "Tom"
    states = plainly(stories.model, whole)
    found = encode(stories, plan)
    np.testing.assert_allclose(found.states[0], states.mean(axis=1), atol=1e-4)
