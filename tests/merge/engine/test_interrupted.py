"""Merges that are killed, and what the same command makes of what they left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from miscible.merge.export import write_merge
from miscible.merge.recipe import read_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.fingerprint import quick_digest
from tiny import tiny_tensors, write_model

KILLED = """
import os, signal, sys
from miscible.models import partial, shard
place, left = {place}, [{count}]
def patched(real):
    def run(self, *arguments):
        left[0] -= 1
        if left[0] < 0 and place.startswith("before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(self, *arguments)
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return run
if place.endswith("journal"):
    partial.PartialFolder.finish = patched(partial.PartialFolder.finish)
elif place.endswith("tensor"):
    shard.ShardWriter.check_complete = patched(shard.ShardWriter.check_complete)
else:
    partial.PartialFolder.appear = patched(partial.PartialFolder.appear)
from miscible.cli import main
main()
"""
SIZE = 400_000
"""Bytes of a shard: the large tensors have one each."""


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """A base and two fine-tunes with three tensors of 200,000 numbers."""
    folders = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        large = {f"model.layers.0.large.{i}": torch.randn(200_000, generator=generator).bfloat16()
                 for i in range(3)}  # fmt: skip
        folders.append(write_model(tmp_path / f"m{seed}", {**tiny_tensors(seed), **large}))
    return folders


def written_recipe(tmp_path: Path, models: list[Path], density: float = 0.4) -> Path:
    path = tmp_path / "recipe.yml"
    sources = [{"model": str(model)} for model in models[1:]]
    parameters = {"weight": 0.6, "density": density}
    path.write_text(
        yaml.safe_dump({"merge_method": "dare_ties", "base_model": str(models[0]),
                        "models": sources, "parameters": parameters})
    )  # fmt: skip
    return path


def kill(recipe: Path, out: Path, place: str, count: int) -> None:
    script = KILLED.format(place=repr(place), count=count)
    outcome = subprocess.run(
        [sys.executable, "-c", script, "merge", recipe, out, "--shard-size", "400KB",
         "--threads", "2"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert outcome.returncode == -signal.SIGKILL, outcome.stderr
    assert not out.exists()


def again(recipe: Path, out: Path) -> set[str]:
    """Run the merge to its end; return the shards that were not computed again."""
    before = files(out.parent / f".{out.name}.partial")
    write_merge(VirtualCheckpoint.open(read_recipe(recipe)), out, shard_bytes=SIZE)
    assert not list(out.parent.glob(f".{out.name}*"))
    after = files(out)
    return {name for name in after if after[name] == before.get(name)}


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of the last write of every shard."""
    return {
        path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in folder.glob("*.safetensors")
    }


def assert_as_if_never_stopped(recipe: Path, out: Path) -> None:
    whole = out.parent / "whole" / out.name
    write_merge(VirtualCheckpoint.open(read_recipe(recipe)), whole, shard_bytes=SIZE)
    assert sorted(path.name for path in whole.iterdir()) == sorted(p.name for p in out.iterdir())
    for path in whole.iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("place", "count", "kept"),
    [
        ("before tensor", 3, 0), ("after tensor", 20, 1), ("before journal", 0, 0),
        ("after journal", 0, 1), ("before journal", 2, 2), ("after journal", 2, 3),
        ("before appearing", 0, 4),
    ],
)  # fmt: skip
def test_a_killed_merge_goes_on(
    models: list[Path], tmp_path: Path, place: str, count: int, kept: int
) -> None:
    recipe, out = written_recipe(tmp_path, models), tmp_path / "out"
    kill(recipe, out, place, count)
    found = again(recipe, out)
    assert len(list(out.glob("*.safetensors"))) == 4
    assert len(found) == kept
    assert_as_if_never_stopped(recipe, out)


def test_a_merge_that_is_killed_again_and_again(models: list[Path], tmp_path: Path) -> None:
    recipe, out = written_recipe(tmp_path, models), tmp_path / "out"
    for _ in range(3):
        kill(recipe, out, "after journal", 0)
    assert len(again(recipe, out)) == 3
    assert_as_if_never_stopped(recipe, out)


def test_another_recipe_starts_over(models: list[Path], tmp_path: Path) -> None:
    recipe, out = written_recipe(tmp_path, models), tmp_path / "out"
    kill(recipe, out, "after journal", 2)
    recipe = written_recipe(tmp_path, models, density=0.5)
    assert again(recipe, out) == set()
    assert_as_if_never_stopped(recipe, out)


@pytest.mark.parametrize("touched", ["written", "replaced"])
def test_changed_inputs_start_over(models: list[Path], tmp_path: Path, touched: str) -> None:
    """Also where the change is in none of the samples by which models are told apart."""
    recipe, out = written_recipe(tmp_path, models), tmp_path / "out"
    kill(recipe, out, "after journal", 2)
    path = models[1] / "model.safetensors"
    whole, known = path.read_bytes(), quick_digest(path)
    place = len(whole) - len(whole) // 64 // 2  # between the last two samples
    if touched == "replaced":
        path.unlink()
    path.write_bytes(whole[:place] + bytes(64) + whole[place + 64 :])
    assert quick_digest(path) == known
    assert path.read_bytes() != whole
    assert again(recipe, out) == set()
    assert_as_if_never_stopped(recipe, out)


def test_an_untouched_copy_of_the_inputs_may_go_on_or_start_over(
    models: list[Path], tmp_path: Path
) -> None:
    recipe, out = written_recipe(tmp_path, models), tmp_path / "out"
    kill(recipe, out, "after journal", 1)
    os.utime(models[1] / "model.safetensors")
    again(recipe, out)
    assert_as_if_never_stopped(recipe, out)
