"""Gradients equal autograd's in float64, whatever the batches, the disk and the other models."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from architectures import build
from measure.tiny_calibration import children, gram_of, reference, tokens
from miscible.errors import StoreError
from miscible.measure.contract import METRICS, Pair
from miscible.measure.gradient_store import GradientStore
from miscible.measure.gram import Gram
from miscible.measure.language_model import LanguageModel, trace_language_models
from miscible.measure.trace import Trace
from miscible.measure.tracing import trace
from miscible.models import Checkpoint, FolderCheckpoint, open_checkpoint
from miscible.models.memory import MemoryCheckpoint
from tiny import WORDS, tiny_tensors, write_adapter, write_model, write_tokenizer


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Checkpoint]:
    return children(tmp_path)


def runner_of(
    models: dict[str, Checkpoint], dtype: str = "float64", size: int = 3
) -> LanguageModel:
    return LanguageModel.load(next(iter(models.values())), dtype=dtype, batch_size=size)


def close(found: Gram, wanted: Gram, tolerance: float) -> None:
    scale = max(wanted.aa, wanted.bb)
    for name in ("aa", "bb", "ab"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), abs=tolerance * scale)
    assert found.cosine == pytest.approx(wanted.cosine, abs=tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
def test_all_pairs_equal_autograd_in_float64(
    models: dict[str, Checkpoint], dtype: str, tolerance: float
) -> None:
    data = tokens(0)
    found = trace(models, runner_of(models, dtype), [data])
    wanted = {name: reference(model, data.ids) for name, model in models.items()}
    assert not found.failures and found.coverage == 1
    for a, b in permutations(models, 2):
        pair = found.gradients(a, b)
        assert pair is not None and pair.samples == 10
        close(pair.grams["encoder/union"], gram_of(wanted[a][0], wanted[b][0]), tolerance)
        close(pair.grams["input/union"], gram_of(wanted[a][1], wanted[b][1]), tolerance)
    losses = [wanted[name][2] for name in found.models]
    assert found.loss[:, 0] == pytest.approx(losses, rel=tolerance)


def test_an_architecture_that_computes_in_float64_throughout(tmp_path: Path) -> None:
    # Llama's norms and softmax are in float32 whatever the model's dtype; GPT-2's are not.
    models: dict[str, Checkpoint] = {}
    for seed in (1, 2):
        build("gpt2", seed).save_pretrained(tmp_path / f"g{seed}")
        write_tokenizer(tmp_path / f"g{seed}", WORDS)
        models[f"g{seed}"] = FolderCheckpoint(tmp_path / f"g{seed}")
    data = tokens(0)
    wanted = [reference(model, data.ids) for model in models.values()]
    pair = trace(models, runner_of(models), [data]).gradients("g1", "g2")
    assert pair is not None
    close(pair.grams["encoder/union"], gram_of(wanted[0][0], wanted[1][0]), 1e-12)
    close(pair.grams["input/union"], gram_of(wanted[0][1], wanted[1][1]), 1e-12)


def test_own_partner_and_union_are_gradients_on_the_same_inputs(
    models: dict[str, Checkpoint],
) -> None:
    sets = {"m1": tokens(1, 4), "m2": tokens(2, 9)}
    found = trace(models, runner_of(models), list(sets.values()), owners=list(sets))
    pair = found.gradients("m1", "m2")
    assert pair is not None
    both = np.concatenate([each.ids for each in sets.values()])
    inputs = {"own": sets["m1"].ids, "partner": sets["m2"].ids, "union": both}
    for variant, ids in inputs.items():
        a, b = (reference(models[name], ids) for name in ("m1", "m2"))
        close(pair.grams[f"encoder/{variant}"], gram_of(a[0], b[0]), 1e-6)
        close(pair.grams[f"input/{variant}"], gram_of(a[1], b[1]), 1e-6)
    swapped = found.gradients("m2", "m1")
    assert swapped is not None and swapped.grams["encoder/own"].ab == pytest.approx(
        pair.grams["encoder/partner"].ab
    )
    third = found.gradients("m1", "m3")
    assert third is not None and "encoder/partner" not in third.grams


def test_folds_of_the_data_add_up_to_the_whole(models: dict[str, Checkpoint]) -> None:
    data = tokens(3, 11)
    whole = trace(models, runner_of(models), [data]).gradients("m1", "m3")
    parts = trace(models, runner_of(models), data.split(4)).gradients("m1", "m3")
    assert whole is not None and parts is not None
    for key, gram in whole.grams.items():
        close(parts.grams[key], gram, 1e-6)


def test_a_small_disk_costs_sweeps_and_changes_nothing(models: dict[str, Checkpoint]) -> None:
    data = [tokens(4, 5), tokens(5, 5)]
    wide = trace(models, runner_of(models), data, by_tensor=True)
    sizes = [p.numel() for p in runner_of(models).module.parameters()]
    inputs = 3 * 2 * 5 * 7 * 16 * 8
    least = inputs + 3 * 2 * 8 * max(sizes)
    narrow = trace(models, runner_of(models), data, disk_bytes=least, by_tensor=True)
    for kind, gram in wide.grams.items():
        np.testing.assert_allclose(narrow.grams[kind], gram, rtol=1e-12)
    total = sum(wide.tensor_grams.values())
    np.testing.assert_allclose(total, wide.grams["encoder"], rtol=1e-12)
    with pytest.raises(StoreError, match=r"need at least .* GB more of disk.*Free some"):
        trace(models, runner_of(models), data, disk_bytes=least - 1)


def test_the_files_are_gone_afterwards_even_after_an_error(
    models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    folder = tmp_path / "scratch"
    trace(models, runner_of(models), [tokens(0)], folder=folder)
    assert folder.is_dir() and not list(folder.iterdir())
    with pytest.raises(ZeroDivisionError), GradientStore(2, {"a": 5}, folder=folder) as store:
        store.write(0, "a", np.ones(5))
        raise ZeroDivisionError
    assert not list(folder.iterdir())
    with pytest.raises(StoreError, match="GB are free"):
        GradientStore(1 << 40, {"a": 1 << 30}, folder=folder)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(StoreError, match="no gradients can be stored here"):
        GradientStore(1, {"a": 1}, folder=blocked)


def test_products_of_a_store_are_those_of_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("miscible.measure.gradient_store.BLOCK_BYTES", 3 * 8 * 10)
    rows = np.random.default_rng(0).normal(size=(3, 37)).astype(np.float32)
    with GradientStore(3, {"a": 12, "b": 25}) as store:
        for number, row in enumerate(rows):
            store.write(number, "b", row[12:20])
            store.write(number, "b", row[20:], start=8)
            store.write(number, "a", row[:12])
        wide = rows.astype(np.float64)
        np.testing.assert_allclose(store.gram("a", [0, 2]), wide[[0, 2], :12] @ wide[[0, 2], :12].T)
        np.testing.assert_allclose(store.gram("b", [0, 1, 2]), wide[:, 12:] @ wide[:, 12:].T)
        with pytest.raises(ValueError, match="elements"):
            store.write(0, "a", np.ones(13))


def values(found: Trace, a: str, b: str) -> dict[str, float]:
    pair = Pair(a, b, gradients=found.gradients(a, b))
    metrics = [METRICS.get(name) for name in METRICS.names() if "gradient_" in name]
    return {metric.name: metric(pair).value for metric in metrics if metric(pair).status == "ok"}


def test_identical_models_have_cosine_1_and_distance_0(models: dict[str, Checkpoint]) -> None:
    models["twin"] = models["m1"]
    found = values(trace(models, runner_of(models, "float32"), [tokens(6)]), "m1", "twin")
    for kind in ("encoder", "input"):
        assert found[f"{kind}_gradient_cosine_similarity"] == pytest.approx(1, abs=1e-14)
        assert found[f"{kind}_gradient_l2_distance"] == 0
        assert found[f"{kind}_gradient_dot_product"] > 0


def test_the_signs_of_dot_and_cosine_agree_and_distance_is_of_the_same_gram(
    models: dict[str, Checkpoint],
) -> None:
    sets = {name: tokens(seed, 3) for seed, name in enumerate(models)}
    found = trace(models, runner_of(models), list(sets.values()), owners=list(sets))
    checked = 0
    for a, b in permutations(models, 2):
        held = values(found, a, b)
        pair = found.gradients(a, b)
        assert pair is not None
        for name, cosine in held.items():
            if "cosine_similarity" not in name:
                continue
            dot = held[name.replace("cosine_similarity", "dot_product")]
            distance = held[name.replace("cosine_similarity", "l2_distance")]
            kind, _, variant = name.partition("_gradient_cosine_similarity")
            gram = pair.grams[f"{kind}/{variant.removeprefix('_') or 'union'}"]
            assert np.sign(dot) == np.sign(cosine)
            assert distance**2 == pytest.approx(gram.aa + gram.bb - 2 * dot)
            checked += 1
    assert checked == 6 * 6


def test_a_model_runs_under_its_own_config(models: dict[str, Checkpoint]) -> None:
    path = models["m2"].folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "rms_norm_eps": 0.5}))
    data = tokens(10)
    found = trace(models, runner_of(models), [data])
    for place, model in enumerate(models.values()):
        gradient, _, loss = reference(model, data.ids)
        assert found.loss[place, 0] == pytest.approx(loss, rel=1e-6)
        norm = found.grams["encoder"][place, 0, place, 0]
        assert norm == pytest.approx(float(gradient @ gradient), rel=1e-5)


def test_a_broken_model_fails_alone(models: dict[str, Checkpoint], tmp_path: Path) -> None:
    tensors = tiny_tensors(0)
    tensors["model.norm.weight"][3] = float("nan")
    broken = FolderCheckpoint(write_model(tmp_path / "broken", tensors))
    wide = MemoryCheckpoint("wide", {"other.weight": torch.ones(3)}, config=models["m1"].config)
    alone = trace(models, runner_of(models), [tokens(7)])
    found = trace({"bad": broken, **models, "wide": wide}, runner_of(models), [tokens(7)])
    assert set(found.failures) == {"bad", "wide"}
    assert "not finite" in found.failures["bad"] and "no place" in found.failures["wide"]
    assert np.isnan(found.loss[0, 0]) and np.isnan(found.grams["encoder"][0]).all()
    np.testing.assert_array_equal(found.grams["encoder"][1:4, :, 1:4, :], alone.grams["encoder"])
    assert found.gradients("bad", "m1") is None and "not finite" in found.missing("bad", "m1")
    assert ("m1", "m2") in found.gradient_pairs() and ("m1", "bad") not in found.gradient_pairs()


def test_a_loss_that_overflows_fails_its_model(models: dict[str, Checkpoint]) -> None:
    huge = {n: models["m1"].read(n) * (1e30 if n.endswith("norm.weight") else 1)
            for n in models["m1"].tensors}  # fmt: skip
    models["huge"] = MemoryCheckpoint("huge", huge, config=models["m1"].config)
    found = trace(models, runner_of(models, "float32"), [tokens(8)])
    assert set(found.failures) == {"huge"} and "not finite" in found.failures["huge"]


def test_half_precision_accumulates_in_float32(models: dict[str, Checkpoint]) -> None:
    data = tokens(9, 40)
    sums = []
    for name in ("m1", "m2"):
        runner = LanguageModel.load(models[name], dtype="bfloat16")
        parameters = list(runner.parameters([data]).values())
        for parameter in parameters:
            parameter.requires_grad_(True)
        total = torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64)
        for row in torch.from_numpy(data.ids):
            loss = runner.losses({"input_ids": row[None]}).sum() / data.predictions
            total += torch.cat(
                [g.double().flatten() for g in torch.autograd.grad(loss, parameters)]
            )
        sums.append(total)
    found = trace(models, runner_of(models, "bfloat16", size=1), [data]).gradients("m1", "m2")
    assert found is not None
    close(found.grams["encoder/union"], gram_of(*sums), 1e-6)


def test_an_adapter_has_the_gradient_of_the_full_model(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base", tiny_tensors(0))
    draw = torch.Generator().manual_seed(0)
    factors = {
        "model.layers.0.self_attn.q_proj": (
            torch.randn(2, 16, generator=draw), torch.randn(16, 2, generator=draw),
        )
    }  # fmt: skip
    adapter = write_adapter(tmp_path / "adapter", factors, base=str(base))
    adapted = open_checkpoint(f"{base}+{adapter}")
    dense = {name: adapted.read(name) for name in adapted.tensors}
    full = FolderCheckpoint(write_model(tmp_path / "full", dense))
    pair = trace({"lora": adapted, "full": full}, LanguageModel.load(full), [tokens(1)]).gradients(
        "lora", "full"
    )
    assert pair is not None and pair.coverage == 1
    assert pair.grams["encoder/union"].distance == 0


def test_from_text_to_metrics_through_the_front_door(models: dict[str, Checkpoint]) -> None:
    import miscible

    found = trace_language_models(models["m1"], models, length=16, sequences=12, folds=2)
    assert [piece.samples for piece in found.pieces] == [6, 6]
    measured = miscible.measure(
        models["m1"], models,
        metrics="activation,gradient", cache=False,
        activations=found.activation_pairs(), gradients=found.gradient_pairs(),
    )  # fmt: skip
    pair = next(each for each in measured.pairs if {each.a, each.b} == {"m2", "m3"})
    assert pair.metrics["encoder_gradient_cosine_similarity"].status == "ok"
    assert pair.metrics["activation_cosine_similarity"].status == "ok"
    assert pair.metrics["encoder_gradient_dot_product_own"].status == "excluded"


def test_what_lies_in_the_module_afterwards(models: dict[str, Checkpoint]) -> None:
    runner = runner_of(models, "float32")
    trace(models, runner, [tokens(1)])
    for parameter in runner.module.parameters():
        assert parameter.grad is None and not parameter.requires_grad
    hooks = [m for m in runner.module.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
