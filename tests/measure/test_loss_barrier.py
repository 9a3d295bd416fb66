"""The loss barrier is the loss of the mean of the weights, above both models' losses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ViTForImageClassification

from measure.test_classifier import noise, write_vit
from measure.tiny_calibration import children, reference, tokens
from miscible.errors import MiscibleError
from miscible.measure.classifier import ImageClassifier, LabelledImages
from miscible.measure.contract import Pair
from miscible.measure.language_model import LanguageModel
from miscible.measure.loss_barrier import loss_barrier, loss_barrier_first, loss_barrier_second
from miscible.measure.midpoint import run_midpoints
from miscible.measure.tracing import trace
from miscible.models import Checkpoint, FolderCheckpoint
from tiny import write_model


def midpoint(folder: Path, a: Checkpoint, b: Checkpoint) -> Checkpoint:
    tensors = {name: (a.read(name) + b.read(name)) / 2 for name in a.tensors}
    return FolderCheckpoint(write_model(folder / "mid", tensors))


def test_on_shared_data(tmp_path: Path) -> None:
    models, data = children(tmp_path), tokens(0)
    runner = LanguageModel.load(models["m1"], dtype="float64")
    found = trace(models, runner, [data], gradients=())
    barriers = run_midpoints(found, models, runner, [data])
    ids = data.ids
    losses = [reference(each, ids)[2] for each in (models["m1"], models["m2"])]
    middle = reference(midpoint(tmp_path, models["m1"], models["m2"]), ids)[2]
    held = barriers["m1", "m2"]
    assert held.barrier == pytest.approx(middle - sum(losses) / 2, abs=1e-6)
    assert held.half_a == pytest.approx(middle - losses[0], abs=1e-6)
    forth, back = (Pair(*k, midpoints=barriers[k]) for k in (("m1", "m2"), ("m2", "m1")))
    assert loss_barrier(forth) == pytest.approx(held.barrier) == loss_barrier(back)
    assert loss_barrier_first(forth) == pytest.approx(held.half_a) == loss_barrier_second(back)
    assert loss_barrier_first(back) == pytest.approx(held.half_b) == loss_barrier_second(forth)


def test_on_own_data_each_half_is_of_that_models_data(tmp_path: Path) -> None:
    models = children(tmp_path, 2)
    sets = [tokens(1, 4), tokens(2, 9)]
    runner = LanguageModel.load(models["m1"], dtype="float64")
    found = trace(models, runner, sets, owners=["m1", "m2"], gradients=())
    held = run_midpoints(found, models, runner, sets)["m1", "m2"]
    middle = midpoint(tmp_path, models["m1"], models["m2"])
    for half, model, data in zip((held.half_a, held.half_b), models.values(), sets, strict=True):
        wanted = reference(middle, data.ids)[2] - reference(model, data.ids)[2]
        assert half == pytest.approx(wanted, abs=1e-6)


def test_heads_of_differing_size(tmp_path: Path) -> None:
    models: dict[str, Checkpoint] = {
        "ten": write_vit(tmp_path / "ten", 1), "five": write_vit(tmp_path / "five", 2, 5)
    }  # fmt: skip
    sets = [noise(12, 10, head="ten"), noise(8, 5, seed=1, head="five")]
    runner = ImageClassifier(models, dtype="float64")
    found = trace(models, runner, sets, owners=["ten", "five"], gradients=())
    held = run_midpoints(found, models, runner, sets)["ten", "five"]
    # Each body under the head of the data's owner; the midpoint's body is the mean.
    bodies = [loaded(model).vit.state_dict() for model in models.values()]
    mean = {name: (bodies[0][name] + bodies[1][name]) / 2 for name in bodies[0]}
    for half, data in zip((held.half_a, held.half_b), sets, strict=True):
        owner = loaded(models[data.head])
        before = image_loss(owner, data)
        owner.vit.load_state_dict(mean)
        assert half == pytest.approx(image_loss(owner, data) - before, abs=1e-6)
    shared = noise(12, 5)
    found = trace(models, runner, [shared], gradients=())
    reason = run_midpoints(found, models, runner, [shared])["ten", "five"].reason
    assert "'classifier.bias' is [10] in ten and [5] in five." in reason
    assert "data of its own" in reason and "vocabular" not in reason


def loaded(model: Checkpoint) -> ViTForImageClassification:
    return ViTForImageClassification.from_pretrained(model.folder, dtype=torch.float64)


def image_loss(module: ViTForImageClassification, data: LabelledImages) -> float:
    with torch.no_grad():
        logits = module.eval()(pixel_values=torch.from_numpy(data.images).double()).logits
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels)))


def test_a_model_and_itself_lose_nothing_and_other_data_are_refused(tmp_path: Path) -> None:
    models = children(tmp_path, 1)
    models["twin"] = models["m1"]
    runner = LanguageModel.load(models["m1"])
    found = trace(models, runner, [tokens(0)], gradients=())
    assert run_midpoints(found, models, runner, [tokens(0)])["m1", "twin"].barrier == 0
    with pytest.raises(MiscibleError, match="not those that were traced"):
        run_midpoints(found, models, runner, [tokens(1)])
