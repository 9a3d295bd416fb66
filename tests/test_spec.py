from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miscible.errors import RecipeError, SpecError
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.spec import parse_yaml, read_yaml

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB, "more than 100000 nodes"),
        ("a: &a [*a]", "nested more than|nodes"),
        ("[" * 5000 + "]" * 5000, "nested more than"),
        ("a: !!python/object/apply:os.system ['true']", "not allowed"),
        ("!!set {a, b}", "not allowed"),
        ("a: 1\na: 2", "stands twice"),
        ("a: [1", "not valid YAML"),
        ("? [1]\n: 2", "a key must be text"),
        ("a: !!int x", "cannot be read"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_hostile_yaml(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_yaml(text)


def test_aliases_within_bounds_are_fine() -> None:
    assert parse_yaml("a: &x {b: 1}\nc: *x").value == {"a": {"b": 1}, "c": {"b": 1}}


@given(st.text(max_size=200))
def test_any_text_gives_a_document_or_one_clear_error(text: str) -> None:
    try:
        parse_yaml(text)
    except SpecError:
        return


def test_files(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="cannot be read"):
        read_yaml(tmp_path / "none.yml")
    (tmp_path / "latin.yml").write_bytes("a: é".encode("latin-1"))
    with pytest.raises(SpecError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yml")
    (tmp_path / "big.yml").write_text("a" * 1_100_000)
    with pytest.raises(SpecError, match="larger than"):
        read_yaml(tmp_path / "big.yml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_method: linear\nbase_modle: a", "line 2.*Did you mean 'base_model'?"),
        ("merge_method: linear", "exactly one of"),
        ("- 1", "a recipe is a mapping"),
        ("merge_method: linear\nmodels:\n- model: a\n  wieght: 1", "line 4.*unknown key 'wieght'"),
        ("merge_method: linear\nmodels: []\ndtype: int8", "line 3: dtype"),
    ],
)
def test_wrong_recipes_name_the_line(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text)


def test_recipe_round_trip() -> None:
    text = "merge_method: slerp\nbase_model: a\nslices:\n- sources:\n  - {model: a, layer_range: [0, 2]}\n  - {model: b, layer_range: [0, 2]}\nparameters: {t: [{filter: mlp, value: [0, 1]}, {value: 0.5}]}\n"  # noqa: E501
    recipe = parse_recipe(text)
    assert parse_recipe(recipe.to_yaml()) == recipe
    assert isinstance(recipe, Recipe)
    assert recipe.references() == ["a", "b"]
