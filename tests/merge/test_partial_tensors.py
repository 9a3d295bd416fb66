"""The rule for tensors that only some models have: merged over those that have them, never lost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from miscible.errors import RecipeError
from miscible.merge.recipe import Recipe, Source
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.memory import MemoryCheckpoint

SHARED, EXTRA = "layers.0.mlp.weight", "layers.0.adapter.weight"


def model(name: str, shared: float, extra: float | None = None) -> MemoryCheckpoint:
    tensors = {SHARED: torch.full((2, 2), shared)}
    if extra is not None:
        tensors[EXTRA] = torch.full((2, 2), extra)
    return MemoryCheckpoint(name, tensors)


def merge(
    method: str,
    models: Mapping[str, MemoryCheckpoint],
    base: str | None = None,
    weight: float | None = 1.0,
    **parameters: object,
) -> VirtualCheckpoint:
    own = {} if weight is None else {"weight": weight}
    sources = [Source(model=name, parameters=own) for name in models if name != base]
    recipe = Recipe(merge_method=method, models=sources, base_model=base, parameters=parameters)
    return VirtualCheckpoint(recipe, models)


def value(found: VirtualCheckpoint, tensor: str = EXTRA) -> float:
    return float(found.read(tensor)[0, 0])


def test_one_that_has_it_gives_it() -> None:
    found = merge("linear", {"a": model("a", 1.0, 5.0), "b": model("b", 3.0)})
    assert value(found) == 5.0
    assert value(found, SHARED) == 2.0
    assert found.plan.partial == (EXTRA,)
    assert any("in only some of the models" in warning for warning in found.warnings)


def test_weights_that_are_not_normalised_do_not_scale_a_copy() -> None:
    models = {"a": model("a", 1.0, 5.0), "b": model("b", 3.0)}
    assert value(merge("linear", models, weight=0.5, normalize=False)) == 5.0


def test_a_base_that_has_it_is_the_origin() -> None:
    models = {"base": model("base", 0.0, 1.0), "a": model("a", 1.0, 5.0), "b": model("b", 3.0)}
    found = merge("task_arithmetic", models, base="base", weight=0.5)
    assert value(found) == 1.0 + 0.5 * 4.0
    assert value(found, SHARED) == 0.5 * (1.0 + 3.0)


def test_a_base_that_lacks_it_leaves_a_mean() -> None:
    models = {
        "base": model("base", 0.0), "a": model("a", 1.0, 5.0), "b": model("b", 3.0, 7.0),
        "c": model("c", 3.0),
    }  # fmt: skip
    assert value(merge("ties", models, base="base", density=0.5)) == 6.0


def test_only_the_base_has_it() -> None:
    models = {"base": model("base", 0.0, 9.0), "a": model("a", 1.0), "b": model("b", 3.0)}
    assert value(merge("ties", models, base="base")) == 9.0


def test_too_few_for_the_method() -> None:
    models = {"a": model("a", 1.0, 5.0), "b": model("b", 3.0)}
    assert value(merge("slerp", models, base="b", weight=None, t=0.5)) == 5.0


def test_an_expert_cannot_be_told_where_some_are_missing() -> None:
    models = {
        "base": model("base", 0.0, 1.0), "a": model("a", 1.0), "b": model("b", 3.0, 5.0),
        "c": model("c", 2.0, 4.0),
    }  # fmt: skip
    with pytest.raises(RecipeError, match="'expert' names a model by its number"):
        merge("emr", models, base="base", expert=1)
