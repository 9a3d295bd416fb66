"""Coefficient maps: which factor a tensor gets, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from miscible.errors import RecipeError
from miscible.merge.coefficients import (
    MAX_BYTES,
    CoefficientMap,
    read_coefficients,
    write_coefficients,
)

FACTORS = {"*": 0.5, "model.layers.3.": 0.25, "model.layers.3.mlp.up_proj.weight": 2.0}


@pytest.mark.parametrize(
    ("tensor", "factor"),
    [
        ("model.layers.3.mlp.up_proj.weight", 2.0),
        ("model.layers.3.mlp.down_proj.weight", 0.25),
        ("model.layers.30.mlp.down_proj.weight", 0.5),
        ("model.norm.weight", 0.5),
    ],
)
def test_the_closest_key_wins(tensor: str, factor: float) -> None:
    assert CoefficientMap(models={"a": FACTORS}).factor("a", tensor) == factor


def test_what_is_not_named_has_factor_one() -> None:
    held = CoefficientMap(models={"a": {"model.norm.weight": 0.0}})
    assert held.factor("a", "model.embed_tokens.weight") == 1.0
    assert held.factor("b", "model.norm.weight") == 1.0


def test_unused_keys_are_told() -> None:
    held = CoefficientMap(models={"a": FACTORS | {"model.layer.3.": 1.0}})
    names = ["model.layers.3.mlp.up_proj.weight", "model.norm.weight"]
    assert held.unused(names) == ["model.layer.3."]
    assert held.unused(["model.norm.weight"]) == sorted(
        key for key in held.models["a"] if key != "*"
    )


def test_maps_come_back(tmp_path: Path) -> None:
    held = CoefficientMap(models={"a": FACTORS, "b": {"*": 1e-5}}, provenance={"steps": 3})
    write_coefficients(tmp_path / "new" / "map.json", held)
    assert read_coefficients(tmp_path / "new" / "map.json") == held
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["map.json"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        ("[]", "a JSON object"),
        ('{"models": {}}', "models"),
        ('{"models": {"a": {"*": NaN}}}', "NaN is no coefficient"),
        ('{"models": {"a": {"*": 1e999}}}', "finite"),
        ('{"models": {"a": {"*": "much"}}}', "number"),
        ('{"models": {"a": {"*": 1}}, "model": {}}', "unknown key 'model'. Did you mean 'models'"),
        ('{"models": {"a": {"*": 1, "*": 2}}}', "'\\*' stands twice"),
        ('{"kind": "weights", "models": {"a": {"*": 1}}}', "coefficients"),
        ('{"version": 2, "models": {"a": {"*": 1}}}', "version"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(RecipeError, match=message) as caught:
        read_coefficients(path)
    assert str(path) in str(caught.value)


def test_files_without_end_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.json"
    with pytest.raises(RecipeError, match="cannot be read"):
        read_coefficients(path)
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(RecipeError, match="larger than"):
        read_coefficients(path)


def test_a_map_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecipeError, match="cannot be written"):
        write_coefficients(tmp_path / "file" / "map.json", CoefficientMap(models={"a": {"*": 1.0}}))
    assert json.loads(CoefficientMap(models={"a": {"*": 1.0}}).model_dump_json())["version"] == 1
