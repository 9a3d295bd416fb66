"""AdaMerging: coefficients that lower entropy, and give the same weights through their map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from miscible.errors import IncompatibleModelsError, MiscibleError
from miscible.merge.adamerging import entropy, forward_of, learn_coefficients, learn_for_models
from miscible.merge.contract import Context
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import Recipe, Source
from miscible.merge.spaces import Deltas
from miscible.merge.statistics.texts import read_texts, tokenise
from miscible.models import FolderCheckpoint, LiveModel
from references import statistics as reference
from tiny import tiny_tensors, write_model


class Classifier(nn.Module):
    """Two layers in a stack and a head behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(6, 6)])
        self.head = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


@pytest.fixture
def shell() -> Classifier:
    torch.manual_seed(0)
    return Classifier().requires_grad_(False)


@pytest.fixture
def base(shell: Classifier) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in shell.state_dict().items()}


@pytest.fixture
def vectors(base: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    return {
        reference: {name: 0.5 * torch.randn_like(tensor) for name, tensor in base.items()}
        for reference in ("math", "code")
    }


@pytest.fixture
def batches() -> list[list[torch.Tensor]]:
    return [[torch.randn(16, 4) for _ in range(2)], [torch.randn(16, 4)]]


def test_entropy_is_that_of_the_distributions() -> None:
    logits = 3 * torch.randn(2, 5, 7)
    wanted = reference.mean_entropy(logits.double().numpy())
    assert float(entropy(logits)) == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    ("granularity", "keys"),
    [
        ("model", ["*"]),
        ("layer", ["layers.0.", "layers.1.", "head.weight", "head.bias"]),
        ("tensor", ["layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
                    "head.weight", "head.bias"]),
    ],
)  # fmt: skip
def test_entropy_falls_and_the_map_gives_the_same_weights(
    granularity: str,
    keys: list[str],
    shell: Classifier,
    base: dict[str, torch.Tensor],
    vectors: dict[str, dict[str, torch.Tensor]],
    batches: list[list[torch.Tensor]],
) -> None:
    forward = forward_of(shell)
    found = learn_coefficients(
        base, vectors, batches, forward, steps=41, learning_rate=0.02,
        granularity=granularity,  # type: ignore[arg-type]
    )  # fmt: skip
    assert len(found.entropy) == 42
    assert found.entropy[-1] < 0.9 * found.entropy[0]
    assert {r: list(f) for r, f in found.coefficients.models.items()} == {
        "math": keys, "code": keys,
    }  # fmt: skip
    merged = {
        name: tensor + sum(found.coefficients.factor(r, name) * vectors[r][name] for r in vectors)
        for name, tensor in base.items()
    }
    last = [own[40 % len(own)] for own in batches]
    again = np.mean([float(entropy(forward(merged, batch))) for batch in last])
    assert again == pytest.approx(found.entropy[-1], rel=1e-5)
    for name, tensor in shell.state_dict().items():
        assert tensor.equal(base[name])


def test_steps_are_those_of_adam_on_the_mean_entropy(
    shell: Classifier,
    base: dict[str, torch.Tensor],
    vectors: dict[str, dict[str, torch.Tensor]],
    batches: list[list[torch.Tensor]],
) -> None:
    def loss(values: np.ndarray) -> float:
        tensors = {
            name: (tensor + values[0] * vectors["math"][name] + values[1] * vectors["code"][name])
            for name, tensor in base.items()
        }
        shell.load_state_dict(tensors)
        logits = [shell(own[0]).double().numpy() for own in batches]
        return float(np.mean([reference.mean_entropy(each) for each in logits]))

    found = learn_coefficients(
        base, vectors, batches, forward_of(shell), start=0.3, steps=1, learning_rate=0.01,
        granularity="model",
    )  # fmt: skip
    assert found.entropy[0] == pytest.approx(loss(np.array([0.3, 0.3])), rel=1e-5)
    for index, reference_name in enumerate(("math", "code")):
        step = np.zeros(2)
        step[index] = 1e-2
        slope = loss(0.3 + step) - loss(0.3 - step)
        moved = found.coefficients.factor(reference_name, "head.bias") - 0.3
        assert moved == pytest.approx(-0.01 * np.sign(slope), rel=1e-3)  # Adam's first step


def test_tensors_that_did_not_change_have_no_coefficient(
    shell: Classifier, base: dict[str, torch.Tensor], batches: list[list[torch.Tensor]]
) -> None:
    vectors = {"math": {"layers.1.weight": torch.ones(6, 6)}}
    found = learn_coefficients(base, vectors, batches, forward_of(shell), steps=1)
    assert list(found.coefficients.models["math"]) == ["layers.1."]


def test_what_cannot_be_learned_is_refused(
    shell: Classifier,
    base: dict[str, torch.Tensor],
    vectors: dict[str, dict[str, torch.Tensor]],
    batches: list[list[torch.Tensor]],
) -> None:
    forward = forward_of(shell)
    for wrong in ({}, vectors), (vectors, []), (vectors, [[]]):
        given = (wrong[0], batches) if wrong[1] is vectors else wrong
        with pytest.raises(MiscibleError, match="a model and an unlabelled batch"):
            learn_coefficients(base, given[0], given[1], forward)  # type: ignore[arg-type]
    with pytest.raises(MiscibleError, match="no model differs"):
        learn_coefficients(base, {"math": {}}, batches, forward)
    with pytest.raises(MiscibleError, match="not finite"):
        learn_coefficients(base, vectors, [[torch.full((1, 4), float("nan"))]], forward)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("the cat sees a dog .\ncats sleep .\nthe dogs see the cats\n")
    return path


def test_language_models_learn_from_text(
    tiny_base: Path, tiny_children: list[Path], texts: Path
) -> None:
    one, two = (str(path) for path in tiny_children)
    found = learn_for_models(
        str(tiny_base), [one, two], [texts, texts], steps=20, learning_rate=0.05
    )
    assert np.mean(found.entropy[-4:-1]) < np.mean(found.entropy[:3])
    factors = found.coefficients.models[one]
    assert "model.layers.0." in factors
    assert "model.norm.weight" in factors
    assert found.coefficients.models.keys() == {one, two}
    # A recipe with the map gives the weights whose entropy was reported.
    recipe = Recipe(
        merge_method="task_arithmetic", base_model=str(tiny_base),
        models=[Source(model=each, parameters={"weight": 1.0}) for each in (one, two)],
    )  # fmt: skip
    models = {each: FolderCheckpoint(Path(each)) for each in recipe.references()}
    plan = plan_merge(recipe, models, coefficients=found.coefficients)
    merged = {}
    for name, output in plan.outputs.items():
        base = models[str(tiny_base)].read(name)
        deltas = Deltas([models[each].read(name) - base for each in (one, two)])
        merged[name] = base + output.method(deltas, output.values, Context(output.site)).tensor
    live = LiveModel.load(models[str(tiny_base)])
    last = tokenise(read_texts(texts), live.tokenizer, length=512)[19 % 3]
    again = float(entropy(forward_of(live.model)(merged, last)))
    assert again == pytest.approx(found.entropy[-1], rel=1e-5)


def test_a_language_model_under_its_own_tensors_is_itself(tiny_base: Path) -> None:
    checkpoint = FolderCheckpoint(tiny_base)
    live = LiveModel.load(checkpoint)
    batch = {"input_ids": torch.tensor([[3, 4, 5]]), "labels": torch.tensor([[3, 4, 5]])}
    tensors = {name: 2 * checkpoint.read(name) for name in checkpoint.tensors}
    logits = forward_of(live.model)(tensors, batch)
    with torch.no_grad():
        for parameter in live.model.parameters():
            parameter.mul_(2)  # the tied head with the embedding
    assert logits.equal(live.model(input_ids=batch["input_ids"]).logits)


def test_models_of_another_shape_are_refused(tiny_base: Path, texts: Path, tmp_path: Path) -> None:
    tensors = tiny_tensors(1)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    other = write_model(tmp_path / "other", tensors)
    with pytest.raises(IncompatibleModelsError, match="'model.layers.1.mlp.up_proj.weight'"):
        learn_for_models(str(tiny_base), [str(other)], [texts], steps=1)
