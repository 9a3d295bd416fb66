"""The verb from the outside: what it prints and how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file


@pytest.fixture
def folder(miscible: Callable[..., Any], tiny_base: Path, tiny_children: list[Path]) -> Path:
    """A merge, written by the command line."""
    recipe = {
        "merge_method": "ties", "base_model": str(tiny_base),
        "models": [{"model": str(child), "parameters": {"weight": 0.5, "density": 0.5}}
                   for child in tiny_children],
    }  # fmt: skip
    path = tiny_base.parent / "recipe.yml"
    path.write_text(yaml.safe_dump(recipe))
    out = tiny_base.parent / "merged"
    assert miscible("merge", path, out, "--format", "quiet").code == 0
    return out


def test_a_merge_that_is_what_it_says(miscible: Callable[..., Any], folder: Path) -> None:
    outcome = miscible("verify", folder)
    assert outcome.code == 0, outcome.err
    assert "Files: 1 read, 1 as written." in outcome.out
    assert "20 of 20 computed again (100% of the weights), 20 the same bit for bit." in outcome.out
    assert f"Verified: {folder}" in outcome.out
    sampled = miscible("verify", folder, "--tensors", 2, "--seed", 5, "--quick")
    assert "2 of 20 computed again" in sampled.out
    assert "Files:" not in sampled.out
    assert miscible("verify", folder, "--tensors", "all", "--threads", 2).code == 0
    assert miscible("verify", folder, "--format", "quiet").out == ""
    held = json.loads(miscible("verify", folder, "--format", "json").out)
    assert held["verified"] is True
    assert held["differences"] == []
    assert held["tensors"] == {
        "all": 20, "computed": 20, "identical": 20, "within_rounding": 0, "share": 1.0,
        "unequal": [],
    }  # fmt: skip


def test_differences_are_a_table_and_exit_code_1(
    miscible: Callable[..., Any], folder: Path
) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    outcome = miscible("verify", folder)
    assert outcome.code == 1
    assert "Not verified" in outcome.out
    assert "Files: 1 read, 0 as written." in outcome.out
    assert "1 of 16 elements differ" in " ".join(outcome.out.split())
    quiet = miscible("verify", folder, "--format", "quiet")
    assert (quiet.code, quiet.out) == (1, "")
    held = json.loads(miscible("verify", folder, "--format", "json").out)
    assert [d["part"] for d in held["differences"]] == ["shard", "tensor"]
    (unequal,) = held["tensors"]["unequal"]
    assert unequal["name"] == "model.norm.weight"
    assert unequal["largest"] == pytest.approx(0.5)


def test_a_long_list_is_cut(miscible: Callable[..., Any], folder: Path) -> None:
    tensors = {
        f"evil\x1b[2J{n}": t for n, t in enumerate(load_file(folder / "model.safetensors").values())
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    outcome = miscible("verify", folder, "--quick")
    assert outcome.code == 1
    assert "and 20 more" in outcome.out
    assert "\x1b" not in outcome.out


def test_what_cannot_be_verified_is_exit_code_2(
    miscible: Callable[..., Any], folder: Path, tiny_children: list[Path]
) -> None:
    def refused(message: str, *arguments: object) -> None:
        outcome = miscible("verify", *arguments)
        assert outcome.code == 2, outcome.out
        assert message in outcome.err
        assert "Traceback" not in outcome.err

    refused("nothing to verify against", tiny_children[0])
    refused("NAME=PATH", folder, "--model", "child1")
    refused("given twice", folder, "--model", "a=b", "--model", "a=c")
    for wrong in ("0", "-1", "many", "9" * 30):
        refused("takes a number from 1", folder, "--tensors", wrong)
    refused("no device", folder, "--device", "abacus")
    tiny_children[0].rename(tiny_children[0].with_name("moved"))
    refused("--model child1=PATH", folder)
    found = miscible("verify", folder, "--model", f"child1={tiny_children[0].with_name('moved')}")
    assert found.code == 0
    (folder / "miscible.json").write_text('{"engine": 1, "miscible": "0.0.1"}')
    refused("version 1 of the engine, of miscible 0.0.1", folder)
