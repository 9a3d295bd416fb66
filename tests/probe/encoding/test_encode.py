"""Pooled states and log-probabilities against plain forward passes and lm-eval."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.probe.encoding.encode import encode, resolve_layers
from miscible.probe.encoding.tokens import EncodingPlan


def plan_of(live, sentences, **options) -> EncodingPlan:
    return EncodingPlan.build(sentences, live.tokenizer, live.model.config, **options)


def plainly(model, ids: list[int], pooled_from: int) -> tuple[np.ndarray, float]:
    """Mean of every layer's states, and the log-probability of all tokens but the first."""
    with torch.no_grad():
        output = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    states = torch.stack([layer[0, pooled_from:].mean(dim=0) for layer in output.hidden_states])
    scores = output.logits[0, :-1].float().log_softmax(dim=-1)
    chosen = scores.gather(1, torch.tensor(ids[1:])[:, None])
    return states.numpy(), float(chosen.sum())


def test_equals_one_plain_forward_a_sentence(stories, sentences) -> None:
    found = encode(stories, plan_of(stories, sentences))
    assert found.layers == (0, 1, 2, 3, 4, 5) and found.states.dtype == np.float32
    for index, sentence in enumerate(sentences):
        ids = stories.tokenizer(sentence)["input_ids"]
        assert ids[0] == stories.tokenizer.bos_token_id
        states, log_probability = plainly(stories.model, ids, 0)
        np.testing.assert_allclose(found.states[index], states, atol=1e-4)
        assert found.log_probability[index] == pytest.approx(log_probability, abs=1e-4)
        assert found.tokens[index] == len(ids) - 1


@pytest.mark.filterwarnings("ignore")
def test_log_probability_is_that_of_lm_eval(stories, sentences) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    texts = [*sentences, "<s>Once", "<s>"]
    judge = HFLM(pretrained=stories.model, tokenizer=stories.tokenizer, batch_size=3, device="cpu")
    requests = [
        Instance("loglikelihood", {}, ("", text), index) for index, text in enumerate(texts[:-1])
    ]
    expected = [score for score, _ in judge.loglikelihood(requests, disable_tqdm=True)]
    found = encode(stories, plan_of(stories, texts))
    np.testing.assert_allclose(found.log_probability[:-1], expected, atol=1e-4)


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 4096])
def test_batches_padding_and_order_change_nothing(
    stories, sentences, padding, batch_tokens
) -> None:
    expected = encode(stories, plan_of(stories, sentences))
    plan = plan_of(stories, sentences[::-1], padding=padding, batch_tokens=batch_tokens)
    found = encode(stories, plan)
    np.testing.assert_allclose(found.states[::-1], expected.states, atol=1e-4)
    np.testing.assert_allclose(found.log_probability[::-1], expected.log_probability, atol=1e-4)


def test_repeated_texts_are_read_once(stories) -> None:
    plan = plan_of(stories, ["One.", "Two.", "One."])
    assert plan.texts == ("One.", "Two.")
    assert plan.indices(["Two.", "One."]).tolist() == [1, 0]


def test_layers_can_be_chosen(stories, sentences) -> None:
    plan = plan_of(stories, sentences)
    every, some = encode(stories, plan), encode(stories, plan, [0, -1])
    assert some.layers == (0, 5)
    np.testing.assert_array_equal(some.states, every.states[:, [0, 5]])
    assert resolve_layers([3, -1, 3], 5) == (3, 5)
    with pytest.raises(MiscibleError, match="there is no layer 6"):
        encode(stories, plan, [6])
    with pytest.raises(MiscibleError, match="empty"):
        resolve_layers([], 5)


def test_hooks_are_gone_afterwards(stories, sentences) -> None:
    encode(stories, plan_of(stories, sentences))
    hooks = [
        hook
        for module in stories.model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    assert not any("miscible.probe" in getattr(hook, "__module__", "") for hook in hooks)


def test_a_text_beyond_the_context_keeps_its_first_tokens(stories) -> None:
    long = "the dog ran " * 400
    plan = plan_of(stories, ["One.", long])
    assert plan.truncated.tolist() == [False, True]
    ids = stories.tokenizer(long)["input_ids"][:512]
    states, log_probability = plainly(stories.model, ids, 0)
    found = encode(stories, plan)
    np.testing.assert_allclose(found.states[1], states, atol=1e-4)
    assert found.log_probability[1] == pytest.approx(log_probability, rel=1e-5)
    assert found.tokens[1] == 511


def test_another_tokenizer_is_refused(stories, sentences) -> None:
    from transformers import AutoTokenizer

    plan = plan_of(stories, sentences)
    again = AutoTokenizer.from_pretrained(stories.tokenizer.name_or_path)
    plan.check_tokenizer(again)
    again.bos_token = "</s>"
    with pytest.raises(IncompatibleModelsError, match="another tokenizer"):
        plan.check_tokenizer(again)
    again.bos_token = again.eos_token = None
    with pytest.raises(IncompatibleModelsError, match="neither a bos nor an eos"):
        EncodingPlan.build(sentences, again, stories.model.config)


def tiny(family: str):
    """A random model of another architecture over the same vocabulary, or the eos as prefix."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
        "gpt_neox": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "intermediate_size": 64,
        },
        "gemma2": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64,
            "final_logit_softcapping": 0.5,
        },
        "opt": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "ffn_dim": 64,
            "word_embed_proj_dim": 32, "max_position_embeddings": 64,
        },
        "qwen2": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "intermediate_size": 64,
        },
    }  # fmt: skip
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, vocab_size=512, **sizes[family])
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "gemma2", "opt", "qwen2"])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_other_architectures(stories, sentences, family, padding) -> None:
    model = tiny(family)
    live = SimpleNamespace(model=model, tokenizer=stories.tokenizer, device=torch.device("cpu"))
    found = encode(live, plan_of(live, sentences, padding=padding))
    for index, sentence in enumerate(sentences):
        states, log_probability = plainly(model, stories.tokenizer(sentence)["input_ids"], 0)
        np.testing.assert_allclose(found.states[index], states, atol=1e-4)
        assert found.log_probability[index] == pytest.approx(log_probability, abs=1e-4)


def test_a_prefix_token_that_the_tokenizer_does_not_add_is_not_pooled(stories, sentences) -> None:
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast.from_pretrained(stories.tokenizer.name_or_path)
    bare.backend_tokenizer.post_processor = None
    ids = bare(sentences[0])["input_ids"]
    assert ids[0] != bare.bos_token_id
    live = SimpleNamespace(model=stories.model, tokenizer=bare, device=torch.device("cpu"))
    found = encode(live, plan_of(live, sentences))
    states, log_probability = plainly(stories.model, [bare.bos_token_id, *ids], 1)
    np.testing.assert_allclose(found.states[0], states, atol=1e-4)
    assert found.log_probability[0] == pytest.approx(log_probability, abs=1e-4)
