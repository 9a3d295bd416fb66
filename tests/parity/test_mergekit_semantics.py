"""Semantics that random recipes, merged by mergekit 0.1.5 too, told apart.

Expected values are computed here, in float64, from what a recipe says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.memory import MemoryCheckpoint

LAYERS = 4
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
GRADIENT = "model.layers.{}.mlp.up_proj.weight"


def drawn(seed: int, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(dtype)


def model(
    name: str,
    seed: int,
    *,
    tied: bool = False,
    shape: Sequence[int] = (3, 5),
    dtype: torch.dtype = torch.float32,
) -> MemoryCheckpoint:
    names = [GRADIENT.format(i) for i in range(LAYERS)]
    names += [name.replace("mlp.up_proj", "self_attn.q_proj") for name in names]
    state = {n: drawn(100 * seed + i, shape, dtype) for i, n in enumerate(names)}
    state[EMBEDDING] = drawn(100 * seed + 50, (6, 5), dtype)
    state[NORM] = drawn(100 * seed + 51, (5,), dtype)
    if not tied:
        state[HEAD] = drawn(100 * seed + 52, (6, 5), dtype)
    config = {"num_hidden_layers": LAYERS, "tie_word_embeddings": tied}
    return MemoryCheckpoint(name, state, config=config)


MODELS = {name: model(name, seed) for seed, name in enumerate(("base", "a", "b", "c"))}
TIED = {f"{name}_tied": model(f"{name}_tied", seed, tied=True)
        for seed, name in enumerate(("base", "a"), 10)}  # fmt: skip


def merged(text: str, models: Mapping[str, MemoryCheckpoint] | None = None) -> VirtualCheckpoint:
    recipe = parse_recipe(text)
    held = {**MODELS, **TIED, **(models or {})}
    return VirtualCheckpoint(recipe, {name: held[name] for name in recipe.references()})


def stored(name: str, tensor: str) -> torch.Tensor:
    return {**MODELS, **TIED}[name].read(tensor).double()


def assert_near(found: torch.Tensor, expected: torch.Tensor) -> None:
    slack = 4 * 2.0**-23 * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=slack)


def sliced(method: str, *slices: Sequence[tuple[str, int, str]], top: str = "") -> str:
    """A recipe of slices of one layer each, of (model, layer, parameters as YAML)."""
    lines = [f"merge_method: {method}", top, "slices:"]
    for sources in slices:
        lines.append("- sources:")
        for name, layer, parameters in sources:
            where = f"layer_range: [{layer}, {layer + 1}]"
            lines.append(f"  - {{model: {name}, {where}, parameters: {{{parameters}}}}}")
    return "\n".join(lines)


BY_LAYER = ", ".join(
    f"{{filter: layers.{layer}., value: {value}}}" for layer, value in enumerate((2, 3, 5, 7))
)


def test_filters_for_a_models_own_values_see_its_own_layers() -> None:
    weights = f"weight: [{BY_LAYER}, {{value: 11}}]"
    found = merged(
        sliced(
            "linear",
            [("a", 3, "weight: 1"), ("b", 3, "weight: 1")],
            [("a", 0, weights), ("b", 2, weights)],
            top="parameters: {normalize: false}",
        )
    )
    expected = 2 * stored("a", GRADIENT.format(0)) + 5 * stored("b", GRADIENT.format(2))
    assert_near(found.read(GRADIENT.format(1)), expected)
    assert_near(found.read(HEAD), 11 * (stored("a", HEAD) + stored("b", HEAD)))


def test_filters_for_shared_values_see_the_output() -> None:
    found = merged(
        sliced(
            "task_arithmetic",
            [("base", 3, ""), ("b", 3, "")],
            [("base", 0, ""), ("b", 2, "")],
            top=f"base_model: base\nparameters: {{weight: 1, lambda: [{BY_LAYER}, {{value: 11}}]}}",
        )
    )
    origin = stored("base", GRADIENT.format(0))
    expected = origin + 3 * (stored("b", GRADIENT.format(2)) - origin)
    assert_near(found.read(GRADIENT.format(1)), expected)


@pytest.mark.parametrize("listed", [False, True])
def test_the_base_of_an_average_is_an_input_of_slices_that_list_it(listed: bool) -> None:
    sources = [("a", 1, "weight: 1"), ("b", 1, "weight: 2")]
    sources += [("base", 1, "weight: 4")] * listed
    found = merged(sliced("linear", sources, top="base_model: base"))
    total = stored("a", GRADIENT.format(1)) + 2 * stored("b", GRADIENT.format(1))
    total += 4 * listed * stored("base", GRADIENT.format(1))
    assert_near(found.read(GRADIENT.format(0)), total / (7 if listed else 3))


def test_the_base_of_an_average_of_whole_models_is_an_input() -> None:
    text = "merge_method: linear\nbase_model: base\nmodels: [{model: a}]\nparameters: {weight: 1}"
    expected = (stored("base", NORM) + stored("a", NORM)) / 2
    assert_near(merged(text).read(NORM), expected)


def test_all_sources_of_the_last_slice_make_the_head() -> None:
    # mergekit leaves out those that the first slice has no counterpart of.
    found = merged(
        sliced("linear", [("a", 0, "weight: 1")], [("b", 1, "weight: 1"), ("c", 1, "weight: 3")])
    )
    assert_near(found.read(HEAD), (stored("b", HEAD) + 3 * stored("c", HEAD)) / 4)
    assert_near(found.read(EMBEDDING), stored("a", EMBEDDING))


def test_slices_without_layers() -> None:
    source = "{sources: [{model: a, layer_range: [2, 2]}]}"
    found = merged(f"merge_method: passthrough\nslices: [{source}, {source}]")
    assert set(found.tensors) == {EMBEDDING, NORM, HEAD}
    assert found.config["num_hidden_layers"] == 0


@pytest.mark.parametrize("method", ["ties", "dare_linear", "della", "breadcrumbs", "sce", "ram"])
def test_the_base_alone_is_merged_to_itself(method: str) -> None:
    found = merged(f"merge_method: {method}\nbase_model: base\nmodels: [{{model: base}}]")
    assert all(torch.equal(found.read(n), MODELS["base"].read(n)) for n in found.tensors)
    assert any("the merge is the base itself" in warning for warning in found.warnings)
    assert not any("only some of the models" in warning for warning in found.warnings)


def test_a_slice_of_the_base_alone() -> None:
    found = merged(
        sliced(
            "task_arithmetic",
            [("base", 1, "")],
            [("base", 2, ""), ("a", 2, "weight: 0.5")],
            top="base_model: base",
        )
    )
    assert_near(found.read(GRADIENT.format(0)), stored("base", GRADIENT.format(1)))
    both = stored("base", GRADIENT.format(2)) + stored("a", GRADIENT.format(2))
    assert_near(found.read(GRADIENT.format(1)), both / 2)


UNTYING = {
    "models without ties on a tied base": (
        "merge_method: task_arithmetic\nbase_model: base_tied\nparameters: {weight: 1}\n"
        "models: [{model: a}]"
    ),
    "a last slice without ties": sliced("passthrough", [("a_tied", 0, "")], [("b", 1, "")]),
    "a first slice without ties": sliced("passthrough", [("b", 0, "")], [("a_tied", 1, "")]),
    "one of two inputs": (
        "merge_method: linear\nmodels: [{model: a_tied}, {model: b}]\nparameters: {weight: 1}"
    ),
}


@pytest.mark.parametrize("text", UNTYING.values(), ids=UNTYING.keys())
def test_a_head_that_is_written_is_not_tied(text: str) -> None:
    found = merged(text)
    assert HEAD in found.tensors
    assert found.config["tie_word_embeddings"] is False


def test_a_tied_base_gives_its_embedding_for_the_head() -> None:
    found = merged(UNTYING["models without ties on a tied base"])
    origin = stored("base_tied", EMBEDDING)
    assert_near(found.read(HEAD), origin + (stored("a", HEAD) - origin))


def test_the_head_of_a_tied_last_slice_is_its_embedding() -> None:
    # mergekit writes none, which leaves the first slice's embedding for it.
    found = merged(UNTYING["a first slice without ties"])
    assert_near(found.read(HEAD), stored("a_tied", EMBEDDING))
    assert_near(found.read(EMBEDDING), stored("b", EMBEDDING))


def test_ties_that_all_share_stay() -> None:
    text = "merge_method: linear\nmodels: [{model: a_tied}, {model: base_tied}]\n"
    found = merged(text + "parameters: {weight: 1}")
    assert HEAD not in found.tensors
    assert found.config["tie_word_embeddings"] is True


def test_an_interpolated_share_of_variances_is_rounded() -> None:
    """Two thirds of 0.1 and a third of 1 are 0.4 less a rounding; 0.4 of 5 elements are 2."""
    models = {name: model(name, seed, shape=(5,)) for seed, name in enumerate(("base", "a", "b"))}
    found = merged(
        "merge_method: sce\nbase_model: base\nmodels: [{model: a}, {model: b}]\n"
        "parameters: {select_topk: [0.87, 0.1, 1.0]}",
        models,
    )
    tensor = GRADIENT.format(2)
    base, *others = (models[name].read(tensor).double() for name in ("base", "a", "b"))
    changed = (found.read(tensor).double() - base).abs() > 1e-7
    variance = torch.stack([other - base for other in others]).var(dim=0, correction=0)
    assert changed.nonzero().flatten().tolist() == sorted(variance.topk(2).indices.tolist())


def test_one_model_of_weight_zero_on_the_sphere() -> None:
    found = merged("merge_method: multislerp\nmodels: [{model: a, parameters: {weight: 0}}]")
    assert all(torch.equal(found.read(n), MODELS["a"].read(n)) for n in found.tensors)


def test_the_first_of_slerp_is_the_base_wherever_it_stands() -> None:
    text = "merge_method: slerp\nbase_model: b\nmodels: [{model: a}, {model: b}]\nparameters: {t: "
    assert_near(merged(text + "0}").read(NORM), stored("b", NORM))
    assert_near(merged(text + "1}").read(NORM), stored("a", NORM))


@pytest.mark.parametrize("method", ["arcee_fusion", "ramplus_tl", "linear"])
def test_the_dtype_of_the_recipe_is_that_of_the_output(method: str) -> None:
    # mergekit writes float32 where a method computes in it.
    weight = "\nparameters: {weight: 1}" if method == "linear" else ""
    found = merged(
        f"merge_method: {method}\nbase_model: base\nmodels: [{{model: a}}]\ndtype: bfloat16{weight}"
    )
    assert {found.read(name).dtype for name in found.tensors} == {torch.bfloat16}
    assert found.config["dtype"] == "bfloat16"


def test_gradients_within_filters_and_precedence() -> None:
    points = [0.2, 1.0, 0.4, 0.8, 0.1]
    text = f"""
merge_method: linear
parameters:
  normalize: false
  weight: 7.0
slices:
- sources:
  - {{model: a, layer_range: [0, 4], parameters: {{weight: [{{filter: mlp, value: {points}}}]}}}}
  - {{model: b, layer_range: [0, 4]}}
  parameters:
    weight: [{{filter: self_attn, value: 3.0}}, {{filter: embed, value: [5.0, 6.0]}}]
"""
    found = merged(text)
    for layer, tensor in enumerate(map(GRADIENT.format, range(LAYERS))):
        place = layer / (LAYERS - 1) * (len(points) - 1)
        left = min(int(place), len(points) - 2)
        weight = points[left] + (place - left) * (points[left + 1] - points[left])
        assert_near(found.read(tensor), weight * stored("a", tensor) + 7 * stored("b", tensor))
        other = tensor.replace("mlp.up_proj", "self_attn.q_proj")
        assert_near(found.read(other), 3 * (stored("a", other) + stored("b", other)))
    assert_near(found.read(EMBEDDING), 5 * (stored("a", EMBEDDING) + stored("b", EMBEDDING)))
    assert_near(found.read(NORM), 7 * (stored("a", NORM) + stored("b", NORM)))


@pytest.mark.parametrize(
    ("spelled", "reference"),
    [
        ("{model: {path: org/a}}", "org/a"),
        ("{model: {path: org/a, revision: null}, lora: null}", "org/a"),
        ("{model: {path: org/a, revision: v1}, lora: {path: org/l}}", "org/a@v1+org/l"),
        ("{lora: {path: l, revision: v2}, model: a}", "a+l@v2"),
    ],
)
def test_references_that_a_program_spelled_out(spelled: str, reference: str) -> None:
    text = f"merge_method: linear\nbase_model: {spelled}\nmodels: [{{model: {spelled}}}]"
    assert parse_recipe(text).references() == [reference]


@pytest.mark.parametrize(
    "spelled", ["{path: a}", "{model: null}", "{model: {path: 3}}", "{model: a, lora: [b]}"]
)
def test_what_is_no_reference(spelled: str) -> None:
    with pytest.raises(Exception, match="models.0.model: Input should be a valid string"):
        parse_recipe(f"merge_method: linear\nmodels: [{{model: {spelled}}}]")


def test_empty_parameters() -> None:
    text = """
merge_method: passthrough
parameters:
slices:
- sources:
  - model: a
    layer_range: [0, 4]
    parameters:
  parameters:
"""
    found = merged(text)
    empty: Any = [found.recipe.parameters, *(s.parameters for s in found.recipe.slices or [])]
    assert empty == [{}, {}]
    assert torch.equal(found.read(NORM), MODELS["a"].read(NORM))
