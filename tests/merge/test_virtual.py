from __future__ import annotations

from typing import Any

import pytest
import torch

from miscible.errors import (
    IncompatibleModelsError,
    MiscibleError,
    RecipeError,
    UnknownNameError,
)
from miscible.merge.ops.random import ElementRandom
from miscible.merge.ops.sparsify import KeepLargest
from miscible.merge.recipe import Recipe, Source
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import Checkpoint
from miscible.models.memory import MemoryCheckpoint

LAYERS = 3


def model(name: str, value: float, *, layers: int = LAYERS, **extra: Any) -> MemoryCheckpoint:
    state = {f"model.layers.{i}.mlp.weight": torch.full((2, 2), value) for i in range(layers)}
    state["model.embed_tokens.weight"] = torch.full((4, 2), value)
    state["model.norm.weight"] = torch.full((2,), value)
    return MemoryCheckpoint(name, {**state, **extra}, config={"num_hidden_layers": layers})


def merge(models: dict[str, Checkpoint], **recipe: Any) -> VirtualCheckpoint:
    sources = recipe.pop("sources", [Source(model=reference) for reference in models])
    if "slices" not in recipe:
        recipe["models"] = sources
    return VirtualCheckpoint(Recipe.model_validate({"merge_method": "linear", **recipe}), models)


def layer(found: VirtualCheckpoint, i: int) -> float:
    return float(found.read(f"model.layers.{i}.mlp.weight")[0, 0])


def test_gradients_run_over_the_layers() -> None:
    models = {"a": model("a", 1.0), "b": model("b", 0.0)}
    sources = [
        Source(model="a", parameters={"weight": [0.0, 1.0]}),
        Source(model="b", parameters={"weight": [1.0, 0.0]}),
    ]
    found = merge(models, sources=sources)
    assert [layer(found, i) for i in range(LAYERS)] == [0.0, 0.5, 1.0]
    assert found.read("model.embed_tokens.weight")[0, 0] == 0.0
    assert found.read("model.norm.weight")[0] == 0.0


def test_filters_take_the_first_match_and_fall_through() -> None:
    models = {"a": model("a", 1.0), "b": model("b", 0.0)}
    weight = [{"filter": "layers.1.", "value": 3.0}, {"filter": "norm", "value": 1.0}]
    sources = [
        Source(model="a", parameters={"weight": weight}),
        Source(model="b", parameters={"weight": 1.0}),
    ]
    found = merge(models, sources=sources, parameters={"weight": 0.0})
    assert [layer(found, i) for i in range(LAYERS)] == [0.0, 0.75, 0.0]
    assert found.read("model.norm.weight")[0] == 0.5


def test_slices_stack_layers() -> None:
    models: dict[str, Checkpoint] = {"a": model("a", 1.0), "b": model("b", 2.0)}
    slices = [
        {"sources": [{"model": "a", "layer_range": [0, 2], "parameters": {"weight": 1}}]},
        {"sources": [{"model": "b", "layer_range": [0, 3], "parameters": {"weight": 1}}]},
    ]
    found = merge(models, slices=slices)
    assert [layer(found, i) for i in range(5)] == [1.0, 1.0, 2.0, 2.0, 2.0]
    assert found.config["num_hidden_layers"] == 5
    assert found.read("model.embed_tokens.weight")[0, 0] == 1.0
    assert found.read("model.norm.weight")[0] == 2.0


def test_slices_carry_their_layers_part_of_the_config() -> None:
    a, b = model("a", 1.0), model("b", 2.0)
    for held, kinds in ((a, ["full", "sliding", "full"]), (b, ["b0", "b1", "b2"])):
        held.config = {
            **held.config, "layer_types": kinds, "eos_token_id": [1, 2, 3], "no_rope_layers": [1]
        }  # fmt: skip
    slices = [
        {"sources": [{"model": "a", "layer_range": [0, 2]}]},
        {"sources": [{"model": "b", "layer_range": [1, 3]}, {"model": "a", "layer_range": [0, 2]}]},
    ]
    found = merge({"a": a, "b": b}, slices=slices, parameters={"weight": 1.0})
    assert found.config["layer_types"] == ["full", "sliding", "b1", "b2"]
    assert found.config["num_hidden_layers"] == 4
    assert found.config["eos_token_id"] == [1, 2, 3]
    assert found.config["no_rope_layers"] == [1]
    b.config = {"num_hidden_layers": 3}
    found = merge({"a": a, "b": b}, slices=slices, parameters={"weight": 1.0})
    with pytest.raises(IncompatibleModelsError, match="no 'layer_types' with a value a layer"):
        assert found.config


def test_delta_methods_read_every_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    models = {name: model(name, value) for name, value in (("base", 0.0), ("a", 1.0), ("b", 2.0))}
    found = merge(
        dict(models), merge_method="task_arithmetic", base_model="base",
        parameters={"weight": 1.0}, sources=[Source(model="a"), Source(model="b")],
    )  # fmt: skip
    read: list[str] = []
    real = MemoryCheckpoint.read

    def count(self: MemoryCheckpoint, name: str, dtype: Any = None) -> torch.Tensor:
        read.append(self.name)
        return real(self, name, dtype)

    monkeypatch.setattr(MemoryCheckpoint, "read", count)
    assert layer(found, 0) == 3.0
    assert sorted(read) == ["a", "b", "base"]


def test_contradictions_are_found_at_planning() -> None:
    models: dict[str, Checkpoint] = {"a": model("a", 1.0), "b": model("b", 2.0)}
    zero = [{"filter": "layers.1.", "value": 0.0}, {"value": 1.0}]
    with pytest.raises(RecipeError, match=r"layers\.1\..*sum to 0"):
        merge(models, parameters={"weight": zero})
    assert merge(models, parameters={"weight": zero, "normalize": False})

    def sources(first: bool, second: bool) -> list[Source]:
        return [
            Source(model=name, parameters={"weight": weight, "normalize": value})
            for name, weight, value in (("a", 0.1, first), ("b", 0.2, second))
        ]

    assert layer(merge(models, sources=sources(False, False)), 0) == pytest.approx(0.5)
    with pytest.raises(RecipeError, match=r"one value for all models, but a gives True and b"):
        merge(models, sources=sources(True, False))


def test_a_base_among_the_parents_is_told() -> None:
    models: dict[str, Checkpoint] = {
        "base": model("base", 0.0), "copy": model("copy", 0.0), "a": model("a", 1.0),
        "b": model("b", 2.0),
    }  # fmt: skip

    def warnings(*names: str, method: str = "ties") -> tuple[str, ...]:
        return merge(
            {name: models[name] for name in {"base": 0} | dict.fromkeys(names)},
            merge_method=method, base_model="base", parameters={"weight": 1.0},
            sources=[Source(model=name) for name in names],
        ).warnings  # fmt: skip

    assert warnings("a", "b") == warnings("base", "a", "b") == warnings("a") == ()
    (told,) = warnings("copy", "a")
    assert told.startswith("copy has the weights of the base base: its task vector is zero")
    assert "only scales or trims the task vector of the one other model" in told
    assert "merges the 2 others alone" in warnings("copy", "a", "b")[0]
    assert "the merge is the base itself" in warnings("copy")[0]
    assert "lists its base base among its models" in warnings("base", "a")[0]
    same = {"a": models["a"], "copy": models["base"]}
    assert merge(same, parameters={"weight": 1.0}).warnings == ()


def test_an_untied_head_is_written_and_the_config_follows() -> None:
    head = {"lm_head.weight": torch.full((4, 2), 8.0)}
    tied = model("tied", 2.0)
    tied.config = {**tied.config, "tie_word_embeddings": True}
    models: dict[str, Checkpoint] = {"tied": tied, "untied": model("untied", 4.0, **head)}
    found = merge(models, parameters={"weight": 1.0})
    assert found.read("lm_head.weight")[0, 0] == 5.0
    assert found.config["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        ({"merge_method": "liner"}, UnknownNameError, "Did you mean 'linear'"),
        ({"parameters": {"wieght": 1}}, UnknownNameError, "Did you mean 'weight'"),
        ({"parameters": {"weight": "much"}}, RecipeError, "must be a finite number. Got 'much'"),
        ({"parameters": {"weight": [1, "x"]}}, RecipeError, "list of numbers"),
        ({"parameters": {"weight": []}}, RecipeError, "empty list"),
        ({"parameters": {"weight": [{"filter": "x"}]}}, RecipeError, "'filter' and 'value'"),
        ({"parameters": {"weight": 1, "normalize": 3}}, RecipeError, "must be true or false"),
        ({"merge_method": "ties", "parameters": {"weight": 1}}, RecipeError, "a 'base_model'"),
        ({"merge_method": "ties", "base_model": "a", "parameters": {"weight": 1, "density": 1.7}},
         RecipeError, r"a number in the range \[0, 1\]. Got 1.7"),
        ({"merge_method": "slerp", "base_model": "a"}, RecipeError, "needs the parameter 't'"),
        ({"tokenizer": {"source": "base", "tokens": {"x": 1}}, "parameters": {"weight": 1}},
         RecipeError, "a mapping with source"),
    ],
)  # fmt: skip
def test_wrong_recipes(recipe: dict[str, Any], error: type[MiscibleError], message: str) -> None:
    with pytest.raises(error, match=message):
        merge({"a": model("a", 1.0), "b": model("b", 2.0)}, **recipe)


def test_different_architectures_are_refused() -> None:
    weight = {"parameters": {"weight": 1.0}}
    wide = model("b", 1.0, **{"model.norm.weight": torch.ones(5)})
    with pytest.raises(IncompatibleModelsError, match=r"shape \(2,\) in a and \(5,\) in b"):
        merge({"a": model("a", 1.0), "b": wide}, **weight)


def test_integers_are_copied_if_equal() -> None:
    same = {"position_ids": torch.arange(3)}
    weight = {"parameters": {"weight": 1.0}}
    found = merge({"a": model("a", 1.0, **same), "b": model("b", 2.0, **same)}, **weight)
    assert found.read("position_ids").equal(torch.arange(3))
    other = {"position_ids": torch.arange(1, 4)}
    found = merge({"a": model("a", 1.0, **same), "b": model("b", 2.0, **other)}, **weight)
    with pytest.raises(IncompatibleModelsError, match="differs between a and b"):
        found.read("position_ids")


def test_fingerprints_tell_recipes_apart_and_not_paths() -> None:
    a, b = model("a", 1.0), model("b", 2.0)
    first = merge({"a": a, "b": b}, parameters={"weight": 1.0}).fingerprint
    moved = merge({"x/a": a, "x/b": b}, parameters={"weight": 1.0}).fingerprint
    assert moved == first
    assert merge({"a": a, "b": b}, parameters={"weight": 2.0}).fingerprint != first
    assert merge({"a": a, "b": model("b", 3.0)}, parameters={"weight": 1.0}).fingerprint != first


def test_virtual_merges_are_not_rounded_to_their_parents_dtype() -> None:
    small = {"x.weight": torch.tensor([1.0, 1.0], dtype=torch.bfloat16)}
    other = {"x.weight": torch.tensor([1.0078125, 1.0], dtype=torch.bfloat16)}
    models: dict[str, Checkpoint] = {
        "a": MemoryCheckpoint("a", small), "b": MemoryCheckpoint("b", other),
    }  # fmt: skip
    found = merge(models, parameters={"weight": 1.0})
    assert found.read("x.weight", torch.float32)[0] == 1.00390625
    assert found.read("x.weight").dtype == torch.bfloat16


def test_ties_at_the_threshold_keep_the_lowest_index() -> None:
    kept = KeepLargest(0.6)(torch.tensor([1.0, -1.0, 1.0, 2.0, -1.0]))
    assert kept.tolist() == [1.0, -1.0, 0.0, 2.0, 0.0]


@pytest.mark.parametrize("density", [0.1, 0.5, 0.9])
def test_draws_have_their_probability_and_belong_to_the_element(density: float) -> None:
    draw = ElementRandom(0, "model", "tensor")
    kept = draw.bernoulli(density, (100_000,))
    assert abs(kept.float().mean().item() - density) < 4 * (density * (1 - density) / 1e5) ** 0.5
    assert draw.bernoulli(density, (1000,)).equal(kept[:1000])
    assert not ElementRandom(1, "model", "tensor").bernoulli(density, (1000,)).equal(kept[:1000])
    assert not ElementRandom(0, "model", "other").bernoulli(density, (1000,)).equal(kept[:1000])
