"""One call from models and calibration data to values of whole models, layers and roles."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from measure.test_classifier import noise, write_vit
from measure.tiny_calibration import children, gram_of, reference
from miscible.errors import CheckpointError, DatasetError, IncompatibleModelsError, MiscibleError
from miscible.measure.api import measure
from miscible.measure.calibrate import Calibration, kind_of
from miscible.measure.calibration import calibration_set, calibration_text
from miscible.measure.result import Measurement
from miscible.measure.scopes import renamed, same_stacks
from miscible.models import Checkpoint, FolderCheckpoint
from miscible.models.layout import DEFAULT
from miscible.models.live import load_tokenizer
from miscible.models.memory import MemoryCheckpoint
from tiny import tiny_tensors, write_model

FEW = Calibration(samples=6, length=8, dtype="float64")


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Checkpoint]:
    return children(tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    return FolderCheckpoint(write_model(tmp_path / "base", tiny_tensors(0)))


def ran(
    base: Checkpoint, models: dict[str, Checkpoint], metrics: str, **more: object
) -> Measurement:
    options: dict[str, object] = {"calibration": FEW, "cache": False, **more}
    return measure(base, models, metrics=metrics, **options)  # type: ignore[arg-type]


def test_what_a_metric_needs_is_measured(base: Checkpoint, models: dict[str, Checkpoint]) -> None:
    found = ran(base, models, "activation_dot_product,encoder_gradient_dot_product,loss_barrier")
    ids = calibration_set(calibration_text(), load_tokenizer(base), length=8, sequences=6).ids
    (first, _, loss_a), (second, _, loss_b) = (reference(models[m], ids) for m in ("m1", "m2"))
    pair = found.pairs[0]
    gradients = pair.metrics["encoder_gradient_dot_product"].value
    assert gradients == pytest.approx(gram_of(first, second).ab, rel=1e-6)
    middle = {n: (models["m1"].read(n) + models["m2"].read(n)) / 2 for n in base.tensors}
    at_middle = FolderCheckpoint(write_model(base.folder.parent / "middle", middle))
    barrier = reference(at_middle, ids)[2] - (loss_a + loss_b) / 2
    assert pair.metrics["loss_barrier"].value == pytest.approx(barrier, abs=1e-6)
    assert found.models[0].losses["built-in"] == pytest.approx(loss_a, abs=1e-6)
    assert pair.metrics["activation_dot_product"].status == "ok"


def test_data_alone_measure_all_but_what_takes_a_pass_a_pair(
    base: Checkpoint, models: dict[str, Checkpoint]
) -> None:
    found = measure(base, models, calibration=FEW, cache=False)
    for pair in found.pairs:
        for name, value in pair.metrics.items():
            own = name.endswith(("_own", "_partner")) or name.startswith("loss_barrier")
            assert value.status == ("excluded" if own else "ok"), (name, value.reason)
        assert "ask for the metric by name" in pair.metrics["loss_barrier"].reason


def test_parts_add_up_to_the_whole(base: Checkpoint, models: dict[str, Checkpoint]) -> None:
    for by, parts in (
        ("layer", {"before the layers", "model.layers.0", "model.layers.1", "after the layers"}),
        ("role", {"attention", "mlp", "norm", "embedding"}),
    ):
        found = ran(base, models, "activation,gradient,task_vector", by=by)
        for pair in found.pairs:
            assert set(pair.scopes) == parts
            for name in ("task_vector_l2_distance", "encoder_gradient_l2_distance"):
                squares = sum(values[name].value ** 2 for values in pair.scopes.values())
                assert squares == pytest.approx(pair.metrics[name].value ** 2, rel=1e-9)
            for values in pair.scopes.values():
                assert not any(name.startswith("input_gradient") for name in values)
            with_states = [s for s, v in pair.scopes.items() if "activation_cka" in v]
            if by == "role":
                assert not with_states
                continue
            # Layer 0 is what the first block receives; nothing comes after the last.
            assert set(with_states) == parts - {"after the layers"}
            last = pair.scopes["model.layers.1"]["activation_l2_distance"]
            assert last.value == pair.metrics["activation_l2_distance"].value


def test_the_layer_of_the_whole_can_be_chosen(
    base: Checkpoint, models: dict[str, Checkpoint]
) -> None:
    first = Calibration(samples=6, length=8, layer=1)
    found = ran(base, models, "activation", by="layer", calibration=first)
    assert found.calibration is not None and found.calibration.layer == 1
    pair = found.pairs[0]
    for name, value in pair.scopes["model.layers.0"].items():
        assert value.value == pair.metrics[name].value
    with pytest.raises(MiscibleError, match="no layer 7"):
        ran(base, models, "activation", calibration=Calibration(samples=6, length=8, layer=7))


def test_own_data_give_all_three_variants_both_ways(
    base: Checkpoint, models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    own: dict[str, str] = {}
    for name, words in (("m1", "the cat sees a dog . "), ("m2", "dogs sleep . ")):
        (tmp_path / f"{name}.txt").write_text(words * 30)
        own[name] = str(tmp_path / f"{name}.txt")
    asked = Calibration(None, own, samples=5, length=8)
    found = ran(base, models, "gradient,loss", calibration=asked)
    pair = found.pairs[0]
    assert {value.status for value in pair.metrics.values()} == {"ok"}
    forth, back = (m["encoder_gradient_dot_product_own"] for m in (pair.metrics, pair.reverse))
    assert forth.value == pytest.approx(pair.reverse["encoder_gradient_dot_product_partner"].value)
    assert forth.value != pytest.approx(back.value)
    assert pair.metrics["loss_barrier_first"] == pair.reverse["loss_barrier_second"]
    assert found.calibration is not None
    assert [(s.name, s.owner, s.samples) for s in found.calibration.data] == [
        ("m1.txt", "m1", 5), ("m2.txt", "m2", 5),
    ]  # fmt: skip
    assert set(found.models[0].losses) == {"m1.txt of m1", "m2.txt of m2"}
    with pytest.raises(MiscibleError, match="Did you mean 'm1'"):
        ran(base, models, "gradient", calibration=Calibration(None, {"m11": own["m1"]}))


def test_a_model_that_cannot_be_run_keeps_its_weights_and_says_why(
    base: Checkpoint, models: dict[str, Checkpoint]
) -> None:
    state = {name: models["m3"].read(name) for name in models["m3"].tensors}
    del state["model.norm.weight"]
    models["m3"] = MemoryCheckpoint("m3", state, config=base.config, folder=base.folder)
    found = ran(base, models, "activation,gradient,stable_rank")
    assert set(found.run_failures) == {"m3"} and "missing" in found.run_failures["m3"]
    for pair in found.pairs:
        assert pair.metrics["stable_rank"].status == "ok"
        value = pair.metrics["activation_cka"]
        assert value.status == ("failed" if "m3" in (pair.a, pair.b) else "ok")
        assert ("m3: " in value.reason) == (value.status == "failed")


@pytest.mark.parametrize("broken", ["tokenizer", "config", "dtype"])
def test_weights_are_told_where_no_model_can_be_run(
    base: Checkpoint, models: dict[str, Checkpoint], broken: str, tmp_path: Path
) -> None:
    config = dict(base.config)
    state = {name: base.read(name) for name in base.tensors}
    folder, asked = base.folder, Calibration()
    if broken == "tokenizer":
        folder = tmp_path / "without"
        folder.mkdir()
        (folder / "tokenizer.json").write_text("{}")
    elif broken == "config":
        config["hidden_size"] = 17
    else:
        asked = Calibration(dtype="float16")
        state["model.norm.weight"] = state["model.norm.weight"] * 0 + 1e6
    mended = MemoryCheckpoint("base", state, config=config, folder=folder)
    wanted = "activation,encoder_gradient_cosine_similarity,loss_barrier,task_vector"
    if broken == "dtype":
        models = {
            name: MemoryCheckpoint(
                name, {n: state[n] + 0.001 * model.read(n) for n in state}, config=config,
                folder=folder,
            )
            for name, model in models.items()
        }  # fmt: skip
    found = ran(mended, models, wanted, calibration=asked)
    assert set(found.run_failures) == {"m1", "m2", "m3"}
    (said,) = found.not_run()
    assert said.startswith("no model was run: base: ")
    for pair in found.pairs:
        assert pair.metrics["task_vector_dot_product"].status == "ok"
        for name in ("activation_cka", "encoder_gradient_cosine_similarity", "loss_barrier"):
            value = pair.metrics[name]
            assert (value.status, f"no model was run: {value.reason}") == ("failed", said)
    if broken == "tokenizer":  # what nothing would come of is refused before anything is read
        with pytest.raises(CheckpointError, match="tokenizer"):
            ran(mended, models, "activation")


def test_weights_are_told_where_the_disk_is_too_small(
    base: Checkpoint, models: dict[str, Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("miscible.measure.tracing.DISK_SHARE", 0)
    found = ran(base, models, "gradient,stable_rank")
    for pair in found.pairs:
        assert pair.metrics["stable_rank"].status == "ok"
        value = pair.metrics["encoder_gradient_cosine_similarity"]
        assert value.status == "failed" and "more of disk" in value.reason


def test_models_whose_weights_are_broken_are_not_run(
    base: Checkpoint, models: dict[str, Checkpoint]
) -> None:
    state = {name: models["m3"].read(name) for name in models["m3"].tensors}
    state["model.norm.weight"] = state["model.norm.weight"] * math.nan
    models["m3"] = MemoryCheckpoint("m3", state, config=base.config, folder=base.folder)
    found = ran(base, models, "activation_cka")
    assert [m.status for m in found.models] == ["ok", "ok", "failed"] and not found.run_failures
    assert [p.metrics["activation_cka"].status for p in found.pairs] == ["ok", "failed", "failed"]


def test_keys_follow_the_draw_and_stability_is_told(
    base: Checkpoint, models: dict[str, Checkpoint]
) -> None:
    def key(**more: int) -> str:
        asked = Calibration(samples=8, length=8, **more)
        found = ran(base, models, "activation_cosine_similarity", calibration=asked)
        assert found.calibration is not None
        return found.calibration.key

    assert key() == key() != key(seed=1)
    asked = Calibration(samples=8, length=8, folds=4)
    found = ran(base, models, "activation,gradient", calibration=asked)
    held = {each.metric: each for each in found.stability_by_metric()}
    cosine = held["encoder_gradient_cosine_similarity"]
    assert (cosine.pairs, cosine.folds) == (3, 4) and 0 < cosine.half_sd < cosine.fold_sd
    assert json.loads(json.dumps(found.as_dict()))["stability"]


def test_text_that_is_too_short_or_of_another_kind_is_refused(
    base: Checkpoint, models: dict[str, Checkpoint], tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("the cat sees .\n")
    for asked in (Calibration(str(short)), Calibration(str(short), samples=9, length=4)):
        with pytest.raises(DatasetError, match=r"sequences of \d+ tokens; [49] are needed"):
            ran(base, models, "activation", calibration=asked)
    with pytest.raises(DatasetError, match="read text, not images"):
        ran(base, models, "activation", calibration=noise(4, 2))
    with pytest.raises(MiscibleError, match="'folds' must be at least 1"):
        Calibration(folds=0)
    with pytest.raises(MiscibleError, match="no calibration data"):
        Calibration(None)


def test_classifiers_are_run_over_tensors_and_image_files(tmp_path: Path) -> None:
    base = write_vit(tmp_path / "base", 0)
    draw = np.random.default_rng(0)
    models: dict[str, Checkpoint] = {}
    for name in ("one", "two"):
        torch.manual_seed(len(models))
        state = {n: base.read(n) + 0.05 * torch.randn(base.tensors[n].shape) for n in base.tensors}
        models[name] = MemoryCheckpoint(name, state, config=base.config, folder=base.folder)
    pixels = draw.integers(0, 256, (12, 1, 28, 28)).astype(np.uint8)
    labels = np.arange(12) % 3
    tensors = tmp_path / "images.safetensors"
    save_file({"images": pixels, "labels": labels}, tensors)
    np.savez(tmp_path / "images.npz", images=pixels / 127.5 - 1, labels=labels)
    image = pytest.importorskip("PIL.Image")
    for number, (each, label) in enumerate(zip(pixels, labels, strict=True)):
        place = tmp_path / "classes" / f"{label}"
        place.mkdir(parents=True, exist_ok=True)
        image.fromarray(each[0]).save(place / f"{number:02}.png")
    sources = [tensors, tmp_path / "images.npz", tmp_path / "classes"]
    asked = [Calibration(source, dtype="float64") for source in sources]
    found = [ran(base, models, "activation,gradient,loss", calibration=each) for each in asked]
    for each in found:
        for name, value in each.pairs[0].metrics.items():
            if not name.endswith(("_own", "_partner")):
                expected = found[0].pairs[0].metrics[name].value
                assert value.status == "ok", (name, value.reason)
                assert value.value == pytest.approx(expected, rel=1e-5, abs=1e-7), name
    layers = ran(base, models, "activation,gradient,stable_rank", calibration=asked[0], by="layer")
    together = {"stable_rank", "activation_cka", "encoder_gradient_l2_distance"}
    inside = {scope for scope, values in layers.pairs[0].scopes.items() if together <= set(values)}
    assert inside == {"before the layers", "vit.encoder.layer.0", "vit.encoder.layer.1"}
    for source, message in (
        ("built-in", "run over images"),
        (tmp_path / "nothing", "no such folder"),
        (base.folder / "model.safetensors", "no tensors 'images'"),
    ):
        with pytest.raises(DatasetError, match=message):
            ran(base, models, "activation", calibration=Calibration(source))
    (tmp_path / "classes" / "zebra").mkdir()
    with pytest.raises(DatasetError, match="'zebra' is no class"):
        ran(base, models, "activation", calibration=Calibration(tmp_path / "classes"))


def test_what_is_neither_text_nor_image_is_refused(base: Checkpoint) -> None:
    other = MemoryCheckpoint("bert", {}, config={"architectures": ["BertForMaskedLM"]})
    with pytest.raises(IncompatibleModelsError, match="BertForMaskedLM.*weights alone"):
        kind_of(other, {})
    assert kind_of(base, {}) == "text"


def test_stacks_are_matched_by_name_or_by_their_number_of_layers() -> None:
    names = [f"vit.layers.{i}.mlp.fc1.weight" for i in range(3)]
    others = [f"encoder.layer.{i}.output.dense.weight" for i in range(3)]
    stacks = same_stacks(names, others, DEFAULT)
    assert renamed("vit.layers.2", stacks) == "encoder.layer.2"
    assert renamed("after the layers", stacks) == "after the layers"
    assert same_stacks(names, names, DEFAULT) == {"vit.layers.": "vit.layers."}
    assert same_stacks(names[:2], others, DEFAULT) == {}
