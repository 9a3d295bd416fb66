"""The list of methods, for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from miscible.merge.catalogue import FAMILIES, example, family, whether
from miscible.merge.contract import METHODS, WRAPPERS
from miscible.merge.planner import plan_merge
from miscible.merge.recipe import parse_recipe
from miscible.models.ref import open_checkpoint


def test_every_method_is_listed_once_within_the_width(
    miscible: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = miscible("methods").out.splitlines()
    assert max(map(len, lines)) <= 100
    assert "…" not in "".join(lines), "nothing is cut off"
    first = [line.split()[0] for line in lines if line.strip()]
    for name in (*METHODS.names(), *WRAPPERS.names()):
        assert first.count(name) == 1, name
    assert [line.strip() for line in lines if line.strip() in FAMILIES] == list(FAMILIES)


def test_one_method_in_full(miscible: Callable[..., Any]) -> None:
    out = miscible("methods", "ties").out
    assert "https://arxiv.org/abs/2306.01708" in out
    assert "a number in the range [0, 1]" in out
    assert "merge_method: ties" in out
    random = miscible("methods", "dare_ties").out
    assert "Random" in random
    assert (
        "Exempt    from the law that model order is irrelevant"
        in miscible("methods", "tall_mask").out
    )
    regmean = miscible("methods", "regmean").out
    assert "gram statistics of every model" in regmean
    assert "Raises" not in regmean
    assert "arcee.ai/blog" in miscible("methods", "arcee_fusion").out
    wrapper = miscible("methods", "lines").out
    assert "wrap:\n- lines: {alpha: 0.5, beta: 0.5}" in wrapper


def test_an_unknown_name(miscible: Callable[..., Any]) -> None:
    outcome = miscible("methods", "linear_soup")
    assert outcome.code == 2
    assert "Did you mean 'linear'?" in outcome.err
    assert miscible("methods", "ties", "--format", "quiet").out == ""


def test_everything_declared_is_in_the_json(miscible: Callable[..., Any]) -> None:
    held = json.loads(miscible("methods", "--format", "json").out)
    assert [entry["name"] for entry in held] == [*METHODS.names(), *WRAPPERS.names()]
    by_name = {entry["name"]: entry for entry in held}
    assert set(by_name["ties"]) == {
        "kind", "name", "summary", "paper", "family", "base", "base_model", "least", "most",
        "random", "needs", "streams", "elementwise", "exempt", "parameters", "ignored",
    }  # fmt: skip
    assert by_name["ties"]["parameters"]["density"] == {
        "kind": "float", "required": False, "default": 1.0, "per_model": True, "low": 0.0,
        "high": 1.0, "choices": [], "allowed": "a number in the range [0, 1]",
    }  # fmt: skip
    assert by_name["ties"]["parameters"]["weight"]["required"] is True
    assert by_name["composed"]["parameters"]["consensus"]["choices"][0] == "sum"
    assert (by_name["slerp"]["least"], by_name["slerp"]["most"]) == (2, 2)
    assert by_name["fisher"]["needs"] == "fisher"
    assert by_name["lines"]["kind"] == "wrapper"
    for method in METHODS:
        assert by_name[method.name]["streams"] == whether(method.streams)
        assert by_name[method.name]["random"] is ("random" in method.asks)
    alone = json.loads(miscible("methods", "della", "--format", "json").out)
    assert alone == by_name["della"]


@pytest.mark.parametrize("name", [*METHODS.names(), *WRAPPERS.names()])
def test_examples_can_be_carried_out(name: str, tiny_base: Path, tiny_children: list[Path]) -> None:
    entry = METHODS.get(name) if name in METHODS else WRAPPERS.get(name)
    recipe = parse_recipe(example(entry))
    folders = [tiny_base, *tiny_children] if "org/base" in recipe.references() else tiny_children
    models = {
        reference: open_checkpoint(str(folder))
        for reference, folder in zip(recipe.references(), folders, strict=False)
    }
    plan = plan_merge(recipe, models)
    assert len(plan.outputs) == 20
    assert not plan.partial


def test_families_are_told_from_what_a_method_needs() -> None:
    found = {method.name: family(method) for method in METHODS}
    assert found["linear"] == found["slerp"] == "On weights"
    assert found["ties"] == found["magmax"] == "On task vectors"
    assert found["dare_ties"] == "On task vectors, with random numbers"
    assert found["tsv"] == "On task vectors, whole tensors at a time"
    assert found["fisher"] == "From statistics of calibration texts"
