"""Image classifiers: the true head, the true labels, and bodies under one another's heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from measure.tiny_calibration import gram_of
from miscible.errors import CheckpointError, DatasetError, MiscibleError
from miscible.measure.classifier import ImageClassifier, LabelledImages
from miscible.measure.contract import METRICS, Pair
from miscible.measure.tracing import trace
from miscible.models import Checkpoint, FolderCheckpoint
from miscible.models.memory import MemoryCheckpoint


def write_vit(folder: Path, seed: int, classes: int = 10) -> FolderCheckpoint:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        image_size=28, patch_size=7, num_channels=1, num_labels=classes,
        initializer_range=0.2,
    )  # fmt: skip
    ViTForImageClassification(config).save_pretrained(folder)
    return FolderCheckpoint(folder)


def digits(shared_data: Path, count: int, start: int = 0, **more: str) -> LabelledImages:
    with np.load(shared_data / "vision" / "mnist_full" / "mnist.npz") as held:
        images = held["x_test"][start : start + count, None].astype(np.float32) / 127.5 - 1
        labels = held["y_test"][start : start + count].astype(np.int64)
    return LabelledImages("digits", images, labels, **more)


def noise(count: int, classes: int, seed: int = 0, **more: str) -> LabelledImages:
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(count, 1, 28, 28)).astype(np.float32)
    return LabelledImages("noise", images, draw.integers(0, classes, count), **more)


def reference(
    body: Checkpoint, data: LabelledImages, *, head: Checkpoint | None = None, whole: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the gradients of the parameters and of the pixels, from autograd in float64."""
    owner = head or body
    model = AutoModelForImageClassification.from_pretrained(owner.folder, dtype=torch.float64)
    if head is not None:
        other = AutoModelForImageClassification.from_pretrained(body.folder, dtype=torch.float64)
        model.vit.load_state_dict(other.vit.state_dict())
    pixels = torch.from_numpy(data.images).double().requires_grad_(True)
    logits = model(pixel_values=pixels).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels))
    wanted = list(model.parameters() if whole else model.vit.parameters())
    *gradients, at_input = torch.autograd.grad(loss, [*wanted, pixels])
    return torch.cat([g.flatten() for g in gradients]), at_input.flatten()


def test_gradients_and_states_on_real_digits_equal_autograd(
    tmp_path: Path, shared_data: Path
) -> None:
    models = {f"v{seed}": write_vit(tmp_path / f"v{seed}", seed) for seed in (1, 2)}
    data = digits(shared_data, 50)
    runner = ImageClassifier(models, dtype="float64", batch_size=16)
    found = trace(models, runner, [data])
    assert not found.failures and found.coverage == 1
    pair = found.gradients("v1", "v2")
    assert pair is not None
    (a, at_a), (b, at_b) = (reference(models[name], data) for name in models)
    for key, wanted in (("encoder/union", gram_of(a, b)), ("input/union", gram_of(at_a, at_b))):
        for name in ("aa", "bb", "ab"):
            assert getattr(pair.grams[key], name) == pytest.approx(getattr(wanted, name), rel=1e-9)
    model = AutoModelForImageClassification.from_pretrained(
        models["v1"].folder, dtype=torch.float64
    )
    with torch.no_grad():
        output = model(torch.from_numpy(data.images).double(), output_hidden_states=True)
    expected = output.hidden_states[-1].mean(dim=1).numpy()
    np.testing.assert_allclose(found.states["v1"][:, 0], expected, atol=1e-10)


def test_images_name_the_head_that_classifies_them(tmp_path: Path) -> None:
    models = {"ten": write_vit(tmp_path / "ten", 1), "five": write_vit(tmp_path / "five", 2, 5)}
    sets = [noise(12, 10, head="ten"), noise(8, 5, seed=1, head="five")]
    runner = ImageClassifier(models, dtype="float64")
    found = trace(models, runner, sets, owners=["ten", "five"])
    assert not found.failures and 0.9 < found.coverage < 1, "no head is shared"
    pair = found.gradients("ten", "five")
    assert pair is not None
    for variant, data in zip(("own", "partner"), sets, strict=True):
        head = models[data.head]
        a, b = (reference(models[n], data, head=head, whole=False) for n in models)
        for kind, place in (("encoder", 0), ("input", 1)):
            wanted, gram = gram_of(a[place], b[place]), pair.grams[f"{kind}/{variant}"]
            for name in ("aa", "bb", "ab"):
                assert getattr(gram, name) == pytest.approx(getattr(wanted, name), rel=1e-9)


def test_a_head_that_is_too_small_fails_its_model_alone(tmp_path: Path) -> None:
    models = {
        "ten": write_vit(tmp_path / "ten", 1), "five": write_vit(tmp_path / "five", 2, 5),
        "too": write_vit(tmp_path / "too", 3),
    }  # fmt: skip
    found = trace(models, ImageClassifier(models), [noise(20, 10)])
    assert set(found.failures) == {"five"}
    assert "5 classes" in found.failures["five"] and "Name the model" in found.failures["five"]
    pair = found.gradients("ten", "too")
    assert pair is not None and pair.coverage < 1 and pair.grams["encoder/union"].aa > 0


def test_opposite_gradients(tmp_path: Path) -> None:
    # One image with both labels, a head of zeros: the gradient is p - 1/2 for the biases, and p is
    # mirrored between the two models.
    vit = write_vit(tmp_path / "vit", 1, 2)
    state = {name: vit.read(name) for name in vit.tensors}
    models: dict[str, Checkpoint] = {}
    for name, sign in (("left", 1.0), ("right", -1.0)):
        head = {
            "classifier.weight": torch.zeros(2, 16),
            "classifier.bias": torch.tensor([sign, -sign]),
        }
        models[name] = MemoryCheckpoint(name, {**state, **head}, config=vit.config)
    image = noise(1, 2).images
    data = LabelledImages("both", np.repeat(image, 2, axis=0), np.array([0, 1]))
    found = trace(models, ImageClassifier(models), [data])
    pair = Pair("left", "right", gradients=found.gradients("left", "right"))
    assert METRICS.get("encoder_gradient_cosine_similarity")(pair).value == pytest.approx(-1)
    assert METRICS.get("encoder_gradient_dot_product")(pair).value < 0
    norm = METRICS.get("encoder_gradient_l2_distance")(pair).value
    assert pair.gradients is not None
    assert norm == pytest.approx(2 * pair.gradients.grams["encoder/union"].norm_a)
    flat = METRICS.get("input_gradient_cosine_similarity")(pair)
    assert flat.status == "undefined", "nothing reaches the pixels through a head of zeros"


def test_broken_models_and_data(tmp_path: Path) -> None:
    vit = write_vit(tmp_path / "vit", 1)
    state = {name: vit.read(name) for name in vit.tensors}
    state["vit.layernorm.weight"][0] = float("nan")
    models: dict[str, Checkpoint] = {
        "vit": vit,
        "bad": MemoryCheckpoint("bad", state, config=vit.config),
        "bare": MemoryCheckpoint("bare", {"x": torch.ones(2)}, config=vit.config),
    }
    found = trace(models, ImageClassifier(models), [noise(8, 10)])
    assert set(found.failures) == {"bad", "bare"}
    assert "not finite" in found.failures["bad"] and "missing" in found.failures["bare"]
    with pytest.raises(CheckpointError, match="cannot load"):
        ImageClassifier({"text": MemoryCheckpoint("text", {}, config={"model_type": "nothing"})})
    with pytest.raises(DatasetError, match="height"):
        LabelledImages("flat", np.zeros((3, 4), np.float32), np.zeros(3, np.int64))
    with pytest.raises(DatasetError, match="negative"):
        LabelledImages("odd", np.zeros((1, 1, 2, 2), np.float32), np.array([-1]))
    with pytest.raises(MiscibleError, match="cannot be split"):
        noise(3, 2).split(4)


def test_data_for_an_unknown_head_are_told_of_every_model(tmp_path: Path) -> None:
    models: dict[str, Checkpoint] = {"vit": write_vit(tmp_path / "vit", 1)}
    found = trace(models, ImageClassifier(models), [noise(4, 10, head="nobody")])
    assert "no model 'nobody'" in found.failures["vit"]


def test_keys_follow_content() -> None:
    one, same, other = noise(4, 10), noise(4, 10), noise(4, 10, head="x")
    assert one.key == same.key != other.key
    assert [len(part) for part in noise(9, 2).split(2)] == [5, 4]
