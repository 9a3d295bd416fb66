"""Mean hidden states equal a float64 reference, and so do metrics, similarity and stability."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from measure.tiny_calibration import children, tokens
from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.measure.contract import METRICS, Pair
from miscible.measure.hidden_states import StateTaps
from miscible.measure.language_model import LanguageModel
from miscible.measure.stability import stability
from miscible.measure.trace import Trace
from miscible.measure.tracing import trace
from miscible.models import Checkpoint, FolderCheckpoint
from miscible.similarity.cka import linear_cka


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Checkpoint]:
    return children(tmp_path)


def traced(models: dict[str, Checkpoint], dtype: str = "float32", folds: int = 1) -> Trace:
    runner = LanguageModel.load(next(iter(models.values())), dtype=dtype, batch_size=4)
    return trace(models, runner, tokens(0, 12).split(folds), layers=(0, 1, -1))


def block_states(model: Checkpoint) -> list[torch.Tensor]:
    """Return the hidden states at all layers, before the final norm, [samples, tokens, width]."""
    assert isinstance(model, FolderCheckpoint)
    module = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float64)
    held: list[torch.Tensor] = []
    module.model.norm.register_forward_pre_hook(lambda _, args: held.append(args[0]))
    with torch.no_grad():
        output = module(torch.as_tensor(tokens(0, 12).split(1)[0].ids), output_hidden_states=True)
    return [*output.hidden_states[:-1], held[0]]


def test_mean_states_of_any_layer(models: dict[str, Checkpoint]) -> None:
    found = traced(models, "float64")
    for name, model in models.items():
        wanted = block_states(model)
        for place in range(3):
            expected = wanted[place].mean(dim=1).numpy()
            np.testing.assert_allclose(found.states[name][:, place], expected, atol=1e-6)


def test_the_four_metrics_come_from_the_means_of_the_last_block(
    models: dict[str, Checkpoint],
) -> None:
    found = traced(models)
    for a, b in combinations(models, 2):
        pair = Pair(a, b, activations=found.activations(a, b, layer=2))
        first, second = (block_states(models[n])[2].mean(dim=(0, 1)).numpy() for n in (a, b))
        lengths = sorted([np.linalg.norm(first), np.linalg.norm(second)])
        wanted = {
            "l2_distance": np.linalg.norm(first - second),
            "cosine_similarity": first @ second / np.prod(lengths),
            "magnitude_ratio": lengths[0] / lengths[1],
            "dot_product": first @ second,
        }
        for name, value in wanted.items():
            metric = METRICS.get(f"activation_{name}")
            assert metric(pair).value == pytest.approx(value, rel=1e-4, abs=1e-6)
        assert pair.activations is not None
        assert (pair.activations.samples, pair.activations.tokens) == (12, 84)


def test_a_model_and_itself(models: dict[str, Checkpoint]) -> None:
    found = traced({"one": models["m1"], "two": models["m1"]})
    pair = Pair("one", "two", activations=found.activations("one", "two"))
    assert METRICS.get("activation_l2_distance")(pair).value == 0
    assert METRICS.get("activation_cka")(pair).value == pytest.approx(1, abs=1e-12)


def test_without_states_the_metrics_are_excluded_with_a_reason(
    models: dict[str, Checkpoint],
) -> None:
    runner = LanguageModel.load(models["m1"])
    found = trace(models, runner, [tokens(0)], layers=(), gradients=("input",))
    assert found.activations("m1", "m2") is None and set(found.grams) == {"input"}
    value = METRICS.get("activation_l2_distance")(Pair("m1", "m2"))
    assert value.status == "excluded" and math.isnan(value.value)


def test_layers_and_blocks_that_are_not_there(models: dict[str, Checkpoint]) -> None:
    module = LanguageModel.load(models["m1"]).module
    with pytest.raises(MiscibleError, match=r"no layer 3.*0 to 2"):
        StateTaps(module, [3])
    module.config.num_hidden_layers = 5
    with pytest.raises(IncompatibleModelsError, match="no list of 5 blocks"):
        StateTaps(module, [-1])


def test_cka_equals_that_of_the_probes(models: dict[str, Checkpoint]) -> None:
    found = traced(models, folds=4)  # of three samples each
    held = found.activations("m1", "m2")
    few = found.activations("m1", "m2", pieces=[0])
    assert held is not None and few is not None
    first, second = (found.states[name][:, :1] for name in ("m1", "m2"))
    wanted = float(linear_cka(first, second).value[0, 0])
    assert held.more["cka"][0] == pytest.approx(wanted, abs=1e-10)
    assert few.samples < 4 and math.isnan(few.more["cka"][0])


def test_stability_is_the_spread_over_folds_and_halves(models: dict[str, Checkpoint]) -> None:
    found = traced(models, folds=4)
    spreads = {(s.metric, s.a, s.b): s for s in stability(found)}
    assert {name for name, _, _ in spreads} >= {
        "activation_l2_distance", "encoder_gradient_cosine_similarity",
        "input_gradient_dot_product",
    }  # fmt: skip
    metric = METRICS.get("encoder_gradient_dot_product")

    def value(pieces: list[int]) -> float:
        return metric(Pair("m1", "m2", gradients=found.gradients("m1", "m2", pieces))).value

    spread = spreads["encoder_gradient_dot_product", "m1", "m2"]
    single = [value([fold]) for fold in range(4)]
    halves = [value(list(chosen)) for chosen in combinations(range(4), 2)]
    assert spread.folds == 4 and spread.value == pytest.approx(value([0, 1, 2, 3]))
    assert spread.fold_sd == pytest.approx(np.std(single, ddof=1))
    assert spread.half_sd == pytest.approx(np.std(halves, ddof=1))
    assert 0 < spread.half_sd < spread.fold_sd
    with pytest.raises(MiscibleError, match="not cut into folds"):
        stability(traced(models))
    with pytest.raises(MiscibleError, match="depends on no calibration data"):
        stability(found, ["task_vector_dot_product"])
