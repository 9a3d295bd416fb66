"""Kept states: the same numbers, no second forward pass, nothing shared that differs."""

from __future__ import annotations

import numpy as np
import pytest

from miscible.errors import StoreError
from miscible.probe.encoding.cache import StateCache
from miscible.probe.encoding.encode import encode
from miscible.probe.encoding.tokens import EncodingPlan, Read


class Counting:
    """Counts the texts that a model is run over."""

    def __init__(self, live) -> None:
        self.texts = 0
        live.model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module, args, kwargs) -> None:
        self.texts += len(kwargs["input_ids"])


@pytest.fixture
def live(shared_data):
    from miscible.models import LiveModel, open_checkpoint

    return LiveModel.load(open_checkpoint(str(shared_data / "models/stories260k")))


def plan_of(live, texts, **options) -> EncodingPlan:
    return EncodingPlan.build(texts, live.tokenizer, live.model.config, **options)


def test_the_second_time_nothing_is_run(live, sentences, tmp_path) -> None:
    counting, cache = Counting(live), StateCache(tmp_path)
    plan = plan_of(live, sentences)
    first = encode(live, plan, cache=cache)
    assert counting.texts == len(sentences)
    again = encode(live, plan, cache=StateCache(tmp_path))
    assert counting.texts == len(sentences)
    np.testing.assert_array_equal(first.states, again.states)
    np.testing.assert_array_equal(first.log_probability, again.log_probability)
    exact = encode(live, plan)
    np.testing.assert_allclose(first.states, exact.states, rtol=1e-3, atol=1e-3)


def test_only_what_is_new_is_run(live, sentences, tmp_path) -> None:
    counting, cache = Counting(live), StateCache(tmp_path)
    encode(live, plan_of(live, sentences[:3]), cache=cache)
    counting.texts = 0
    word = Read(sentences[0], 0, 0, 3)
    reads = [*map(Read, sentences), word]
    found = encode(live, plan_of(live, sentences, reads=reads), cache=cache)
    assert counting.texts == 3  # two new texts, and the one of which a word is read
    exact = encode(live, plan_of(live, sentences, reads=reads))
    np.testing.assert_allclose(found.states, exact.states, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(found.log_probability, exact.log_probability, atol=1e-4)


def test_other_weights_and_layers_are_others(live, sentences, tmp_path) -> None:
    counting, cache = Counting(live), StateCache(tmp_path)
    plan = plan_of(live, sentences)
    encode(live, plan, cache=cache)
    live.randomise(0)
    encode(live, plan, cache=cache)
    encode(live, plan, [0, -1], cache=cache)
    assert counting.texts == 3 * len(sentences)


def test_a_damaged_file_is_an_error(live, sentences, tmp_path) -> None:
    cache, plan = StateCache(tmp_path), plan_of(live, sentences)
    encode(live, plan, cache=cache)
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="damaged"):
        encode(live, plan, cache=cache)


def test_what_half_precision_cannot_hold_is_not_kept(live, sentences, tmp_path) -> None:
    counting, cache = Counting(live), StateCache(tmp_path)
    live.model.get_input_embeddings().weight.data.mul_(1e6)
    plan = plan_of(live, sentences)
    first = encode(live, plan, cache=cache)
    again = encode(live, plan, cache=cache)
    assert counting.texts == 2 * len(sentences)
    np.testing.assert_array_equal(first.states, again.states)
    assert np.abs(first.states).max() > 65504
