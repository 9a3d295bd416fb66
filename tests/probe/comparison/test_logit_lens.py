"""The logit lens against a direct computation, on tiny random models of several families."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from miscible.errors import IncompatibleModelsError
from miscible.models import LiveModel, open_checkpoint
from miscible.probe.comparison import logit_lens
from miscible.probe.comparison.lens import Lens
from miscible.probe.comparison.logit_lens import lens_curve, lens_divergence

FAMILIES = {
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 2, "n_positions": 64},
    "gpt_neox": {"tie_word_embeddings": False},
    "opt": {"ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "gemma2": {"head_dim": 16, "num_key_value_heads": 1, "final_logit_softcapping": 3.0},
    "qwen2": {"num_key_value_heads": 1},
    "phi": {},
    "cohere": {"logit_scale": 0.3, "num_key_value_heads": 2},
    "granite": {"logits_scaling": 7.0, "num_key_value_heads": 2},
}


def random_model(family: str, seed: int = 0, dtype: torch.dtype = torch.float32):
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {} if family == "gpt2" else {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2,
        "intermediate_size": 64,
    }  # fmt: skip
    if family == "opt":
        del sizes["intermediate_size"]
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, vocab_size=211, **sizes, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(config).eval().to(dtype)
    with torch.no_grad():  # norms that are not the identity, blocks and logits that matter
        for parameter in model.parameters():
            spread = 0.3 if parameter.ndim == 2 else 0.2
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def hidden_states(model, positions: int = 12) -> tuple[np.ndarray, torch.Tensor]:
    """States [positions, layers, width], and the logits of the model itself."""
    ids = torch.randint(0, 200, (1, positions), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        output = model(ids, output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0].swapaxes(0, 1).float().numpy(), output.logits[0]


def log_probabilities(model, norm: str, states: np.ndarray) -> np.ndarray:
    """By the modules' names, in float64: [positions, layers, vocabulary]."""
    model = model.double()
    rows = []
    with torch.no_grad():
        for layer in range(states.shape[1]):
            given = torch.from_numpy(states[:, layer]).double()
            if layer < states.shape[1] - 1:
                given = model.get_submodule(norm)(given)
            rows.append(model.get_output_embeddings()(given).log_softmax(dim=1))
    return torch.stack(rows, dim=1).numpy()


def bits(target: np.ndarray, found: np.ndarray) -> np.ndarray:
    """KL(target ‖ found) along the last axis."""
    return (np.exp(target) * (target - found)).sum(axis=-1) / np.log(2)


@pytest.mark.parametrize(
    ("family", "norm"),
    [
        ("gpt2", "transformer.ln_f"), ("gpt_neox", "gpt_neox.final_layer_norm"),
        ("opt", "model.decoder.final_layer_norm"), ("qwen2", "model.norm"),
        ("phi", "model.final_layernorm"),
    ],
)  # fmt: skip
def test_equals_a_direct_computation(family, norm, monkeypatch) -> None:
    monkeypatch.setattr(logit_lens, "CHUNK_LOGITS", 211 * 5)
    merge, parent = random_model(family), random_model(family, seed=1)
    lens, reference = Lens.of(merge), Lens.of(parent)
    states, theirs = hidden_states(merge)[0], hidden_states(parent)[0]
    ours, parents = (
        log_probabilities(model, norm, each) for model, each in ((merge, states), (parent, theirs))
    )
    curve = lens_curve(lens, states, range(4))
    np.testing.assert_allclose(curve.value, bits(ours[:, -1:], ours).mean(axis=0), rtol=1e-4)
    assert curve.value[-1] == 0 and (curve.value[:-1] > 0.01).all()
    apart = lens_divergence(lens, states, reference, theirs, range(4))
    np.testing.assert_allclose(apart.value, bits(parents, ours).mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_last_layer_gives_the_models_own_logits(family, dtype) -> None:
    model = random_model(family, dtype=dtype)
    states, logits = hidden_states(model)
    found = Lens.of(model).logits(torch.from_numpy(states[:, -1]), 3)
    assert found.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    torch.testing.assert_close(
        found, logits.float(), rtol=0, atol=tolerance * float(logits.abs().max())
    )


def test_hooks_are_gone_afterwards() -> None:
    model = random_model("qwen2")
    Lens.of(model)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_lens_outlives_a_swap_of_weights(tiny_base, tiny_children) -> None:
    live = LiveModel.load(open_checkpoint(str(tiny_base)))
    lens = Lens.of(live.model)
    states = hidden_states_of_tiny(live)
    before = lens_curve(lens, states, range(3)).value
    live.swap(open_checkpoint(str(tiny_children[0])))
    np.testing.assert_array_equal(lens_curve(lens, states, range(3)).value, before)
    assert not np.allclose(lens_curve(Lens.of(live.model), states, range(3)).value, before)


def hidden_states_of_tiny(live: LiveModel) -> np.ndarray:
    with torch.no_grad():
        output = live.model(torch.arange(10)[None], output_hidden_states=True)
    return torch.stack(output.hidden_states)[:, 0].swapaxes(0, 1).numpy()


def test_equal_models_are_0_bits_apart() -> None:
    model = random_model("qwen2")
    states = hidden_states(model)[0]
    apart = lens_divergence(Lens.of(model), states, Lens.of(model), states, range(4))
    np.testing.assert_array_equal(apart.value, 0)
    np.testing.assert_array_equal(apart.interval(), 0)


def test_a_small_divergence_survives_float32() -> None:
    model = random_model("qwen2")
    states = hidden_states(model)[0]
    noise = np.random.default_rng(0).standard_normal(states.shape).astype(np.float32)
    near = states + np.float32(1e-3) * np.abs(states).mean(axis=(0, 2))[:, None] * noise
    found = lens_divergence(Lens.of(model), near, Lens.of(model), states, range(4))
    exact = bits(log_probabilities(model, "model.norm", states),
                 log_probabilities(model, "model.norm", near))  # fmt: skip
    assert exact.mean(axis=0).max() < 1e-5
    np.testing.assert_allclose(found.value, exact.mean(axis=0), rtol=0.02)


def test_layers_may_be_a_selection() -> None:
    model = random_model("qwen2")
    states = hidden_states(model)[0]
    lens = Lens.of(model)
    every = lens_curve(lens, states, range(4))
    some = lens_curve(lens, states[:, [1, 3]], (1, 3))
    np.testing.assert_allclose(some.value, every.value[[1, 3]], rtol=1e-6)
    with pytest.raises(ValueError, match="is not among"):
        lens_curve(lens, states[:, :2], (0, 1))
    with pytest.raises(ValueError, match="no layer 4"):
        lens_divergence(lens, states, lens, states, (0, 1, 2, 4))


def test_the_interval_is_over_texts() -> None:
    model = random_model("qwen2")
    states = hidden_states(model)[0]
    lens = Lens.of(model)
    twice = np.concatenate([states, states])
    alone = lens_curve(lens, states, range(4)).standard_error
    together = lens_curve(lens, twice, range(4), np.tile(np.arange(12), 2)).standard_error
    np.testing.assert_allclose(together, alone, rtol=1e-6)


def test_states_that_are_not_finite_give_a_reason() -> None:
    model = random_model("qwen2")
    lens, states = Lens.of(model), hidden_states(model)[0]
    broken = states.copy()
    broken[2, 1, 0] = np.nan
    curve = lens_curve(lens, broken, range(4))
    assert np.isnan(curve.value).tolist() == [False, True, False, False]
    assert curve.reason[1] == "1 of 12 reads are not finite"
    broken[0, 3, 0] = np.inf
    curve = lens_curve(lens, broken, range(4))
    assert np.isnan(curve.value).all()
    assert curve.reason[0] == "the last layer: 1 of 12 reads are not finite"


def test_what_has_no_lens_is_refused() -> None:
    from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
             "intermediate_size": 64, "vocab_size": 99}  # fmt: skip
    config = AutoConfig.for_model("bert", **sizes)
    with pytest.raises(IncompatibleModelsError, match="no output layer over a vocabulary"):
        Lens.of(AutoModel.from_config(config).eval())
    with pytest.raises(IncompatibleModelsError, match="more than a final norm"):
        Lens.of(AutoModelForMaskedLM.from_config(config).eval())
    capped = random_model("qwen2")
    capped.config.final_logit_softcapping = 1.0  # which this architecture leaves out
    with pytest.raises(IncompatibleModelsError, match="not its output layer applied"):
        Lens.of(capped)
    t5 = AutoConfig.for_model("t5", d_model=32, d_ff=64, num_layers=2, num_heads=2, d_kv=16,
                              vocab_size=99)  # fmt: skip
    with pytest.raises(IncompatibleModelsError, match="an encoder and a decoder"):
        Lens.of(AutoModelForSeq2SeqLM.from_config(t5))


def test_other_vocabularies_are_refused() -> None:
    lens = Lens.of(random_model("qwen2"))
    short = Lens(lens.norm, lens.weight[:-1], None, lens.last)
    states = np.zeros((2, 1, 32), dtype=np.float32)
    with pytest.raises(IncompatibleModelsError, match="vocabularies of 211 and 210"):
        lens_divergence(lens, states, short, states, [3])
