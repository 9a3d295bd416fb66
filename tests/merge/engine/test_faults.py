"""Disks that fill up, files that change under a merge, tensors that are no numbers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from merge.engine.recipes import PARAMETERS, case_id, recipe_of, write_folder
from miscible.errors import MiscibleError, RecipeError
from miscible.merge.engine.write import write_streamed
from miscible.merge.export import write_merge
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models import FolderCheckpoint, shard
from tiny import tiny_tensors, write_model


@pytest.fixture
def children(tmp_path: Path) -> list[Path]:
    """Two models with a tensor of many chunks."""
    folder = tmp_path / "models"
    found = []
    for seed in (1, 2):
        generator = torch.Generator().manual_seed(seed)
        large = {"model.layers.0.large": torch.randn(900_000, generator=generator)}
        found.append(write_model(folder / f"child{seed}", {**tiny_tensors(seed), **large}))
    return found


def recipe_text(*models: Path, **keys: Any) -> str:
    sources = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    return yaml.safe_dump({"merge_method": "linear", "models": sources, **keys})


def opened(*models: Path, **keys: Any) -> VirtualCheckpoint:
    return VirtualCheckpoint.open(parse_recipe(recipe_text(*models, **keys)))


def replace_file(path: Path) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(path.read_bytes())
    fresh.replace(path)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"x")


def overwrite(path: Path) -> None:
    time.sleep(0.01)  # file systems tell times apart only so well
    with path.open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(bytes(8))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("change", [replace_file, append, overwrite, truncate, Path.unlink])
def test_inputs_that_change_meanwhile(
    children: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path], None],
    threads: int,
) -> None:
    merge = opened(*children)
    path, real, done = children[1] / "model.safetensors", shard.ShardWriter.check_complete, []

    def changing(self: shard.ShardWriter, name: str) -> None:
        if not done:
            done.append(name)
            change(path)
        real(self, name)

    monkeypatch.setattr(shard.ShardWriter, "check_complete", changing)
    with pytest.raises(MiscibleError) as caught:
        write_merge(merge, tmp_path / "out", threads=threads)
    assert done
    assert str(path) in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["models"]


@pytest.mark.parametrize("change", [replace_file, append, overwrite, truncate, Path.unlink])
def test_inputs_that_changed_before_it_began(
    children: list[Path], tmp_path: Path, change: Callable[[Path], None]
) -> None:
    merge = opened(*children)
    change(children[0] / "model.safetensors")
    with pytest.raises(MiscibleError):
        write_merge(merge, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("left", [0, 1, 5])
@pytest.mark.parametrize("function", ["posix_fallocate", "pwrite", "fsync"])
def test_a_disk_that_is_full(
    children: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    left: int,
    threads: int,
) -> None:
    real, calls = getattr(os, function), [left]

    def full(*arguments: Any) -> Any:
        calls[0] -= 1
        if calls[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    merge = opened(*children)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        with pytest.raises(MiscibleError, match="the disk is full"):
            write_merge(merge, tmp_path / "out", threads=threads, shard_bytes=2000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def command(recipe: Path, out: Path, *options: str, before: str = "") -> list[str]:
    script = f"{before}\nfrom miscible.cli import main\nmain()"
    return [sys.executable, "-c", script, "merge", str(recipe), str(out), *options]


def test_a_small_disk(children: list[Path], tmp_path: Path, small_disk: Path) -> None:
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(recipe_text(*children))
    # Once as it is found out beforehand, once as others take the room meanwhile.
    unaware = "from miscible.models import partial\npartial.PartialFolder.check_space = print"
    for before, message in (("", "GB free"), (unaware, "the disk is full")):
        outcome = subprocess.run(
            command(recipe, small_disk / "out", "--shard-size", "40KB", before=before),
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert outcome.returncode == 2, outcome.stderr
        assert message in " ".join(outcome.stderr.split())
        assert "Traceback" not in outcome.stderr
        assert list(small_disk.iterdir()) == []


def test_two_processes(children: list[Path], tmp_path: Path) -> None:
    recipe, mark = tmp_path / "recipe.yml", tmp_path / "mark"
    recipe.write_text(recipe_text(*children))
    waiting = (
        "import time\nfrom pathlib import Path\nfrom miscible.models.shard import ShardWriter\n"
        "real = ShardWriter.close\n"
        f"def close(self):\n    Path({str(mark)!r}).touch()\n"
        f"    while Path({str(mark)!r}).exists(): time.sleep(0.01)\n    return real(self)\n"
        "ShardWriter.close = close\n"
    )
    first = subprocess.Popen(
        command(recipe, tmp_path / "out", before=waiting), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not mark.exists():
        time.sleep(0.01)
    second = subprocess.run(
        command(recipe, tmp_path / "out"), capture_output=True, text=True, timeout=60, check=False
    )
    mark.unlink()
    _, err = first.communicate(timeout=60)
    assert second.returncode == 2
    assert "another process is writing this model" in " ".join(second.stderr.split())
    assert first.returncode == 0, err
    assert FolderCheckpoint(tmp_path / "out").tensors
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize("keys", [{}, {"out_dtype": "float64"}, {"out_dtype": "bfloat16"}])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_floating_dtype_is_written(
    tmp_path: Path, dtype: torch.dtype, keys: dict[str, str]
) -> None:
    models = [
        write_folder(tmp_path / name, {"a.weight": torch.full((40, 30), value, dtype=dtype)})
        for name, value in (("one", 0.5), ("two", 1.5))
    ]
    write_merge(opened(*models, **keys), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")["a.weight"]
    assert found.dtype == getattr(torch, keys.get("out_dtype", str(dtype)[6:]))
    assert found.eq(1.0).all()


STORED = [torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("dtype", STORED)
@pytest.mark.parametrize("method", ["linear", "ties", "pcb"])
def test_tensors_that_take_no_part_are_copied_if_equal(
    tmp_path: Path, method: str, dtype: torch.dtype
) -> None:
    plain = {"a.weight": torch.ones(8, 8), "b.stored": torch.arange(2).to(dtype).repeat(50)}
    models = [write_folder(tmp_path / name, plain) for name in ("base", "one", "two")]
    keys: dict[str, Any] = {"merge_method": method, "parameters": {"density": 0.5}}
    if method == "linear":
        keys = {}
    else:
        keys["base_model"] = str(models[0])
    for out_dtype in ({}, {"out_dtype": "bfloat16"}):
        out = tmp_path / f"out{len(out_dtype)}"
        write_merge(opened(*models[1:], **keys, **out_dtype), out)
        found = load_file(out / "model.safetensors")["b.stored"]
        assert found.dtype == dtype
        assert found.view(torch.uint8).equal(plain["b.stored"].view(torch.uint8))
    changed = {**plain, "b.stored": torch.ones(100).to(dtype)}
    write_folder(tmp_path / "two", changed)
    with pytest.raises(MiscibleError, match=r"'b\.stored'.*differs between"):
        write_merge(opened(*models[1:], **keys), tmp_path / "never")
    assert not list(tmp_path.glob("*never*"))


def test_a_tensor_that_is_floating_in_one_model_only(tmp_path: Path) -> None:
    one = write_folder(tmp_path / "one", {"a": torch.ones(3)})
    two = write_folder(tmp_path / "two", {"a": torch.ones(3, dtype=torch.int32)})
    with pytest.raises(MiscibleError, match="'a' is floating in some models and not in others"):
        write_merge(opened(one, two), tmp_path / "out")


def test_layers_of_other_shapes_under_the_same_number(tmp_path: Path) -> None:
    """Doses are measured from the first model, whose layer of that number may be another."""
    name = "model.layers.{}.mlp.up_proj.weight"
    shapes = {"one": [(4, 4), (2, 4)], "two": [(4, 400), (4, 4)]}
    models = {
        model: write_folder(
            tmp_path / model, {name.format(i): torch.ones(s) for i, s in enumerate(held)}
        )
        for model, held in shapes.items()
    }
    cuts = [{"sources": [{"model": str(model), "layer_range": [0, 1]}]}
            for model in models.values()]  # fmt: skip
    recipe = yaml.safe_dump({"merge_method": "passthrough", "slices": cuts})
    write_merge(VirtualCheckpoint.open(parse_recipe(recipe)), tmp_path / "out")
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert [found[name.format(i)].shape for i in (0, 1)] == [(4, 4), (4, 400)]


@pytest.mark.parametrize("case", PARAMETERS, ids=map(case_id, PARAMETERS))
def test_models_without_tensors_or_with_empty_ones_only(
    tmp_path: Path, case: tuple[str, dict[str, Any], dict[str, Any]]
) -> None:
    for number, state in enumerate([{}, {"a": torch.zeros(0), "b.weight": torch.zeros(0, 5)}]):
        models = {
            name: write_folder(tmp_path / str(number) / name, state)
            for name in ("base", "m0", "m1", "m2")
        }
        merge = VirtualCheckpoint.open(recipe_of(case, models))
        out = tmp_path / f"out{number}"
        write_streamed(merge, out, texts=lambda shards, doses: {}, threads=2)
        found = load_file(out / "model.safetensors")
        assert found.keys() == state.keys()
        assert all(found[name].shape == tensor.shape for name, tensor in state.items())


@pytest.mark.parametrize("case", PARAMETERS, ids=map(case_id, PARAMETERS))
@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (2,), (1, 3), (3, 1)])
def test_tiny_tensors(
    tmp_path: Path, case: tuple[str, dict[str, Any], dict[str, Any]], shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(3)
    models = {
        name: write_folder(tmp_path / name, {"a.weight": torch.rand(shape, generator=generator)})
        for name in ("base", "m0", "m1", "m2")
    }
    merge = VirtualCheckpoint.open(recipe_of(case, models))
    found = merge.read("a.weight")
    assert found.shape == shape
    assert found.isfinite().all()
    assert found.abs().max() < 10


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("linear", {"weight": 0.0}, "sum to 0"),
        ("linear", {"weight": "x"}, "must be a finite number"),
        ("linear", {"weight": float("nan")}, "must be a finite number"),
        ("multislerp", {"weight": 0.0}, "sum to 0"),
        ("ties", {"weight": 1, "density": 1.5}, r"density.*range \[0, 1\]"),
        ("ties", {"weight": 1, "density": -0.1}, r"density.*range \[0, 1\]"),
        ("della", {"weight": 1, "density": 0.1, "epsilon": 0.3}, "Lower 'epsilon'"),
        ("breadcrumbs", {"weight": 1, "gamma": 2}, r"gamma.*range \[0, 1\]"),
        ("ties", {"weight": 1, "normalize": "yes please"}, "true or false"),
    ],
)
def test_values_that_are_not_allowed(
    tmp_path: Path, method: str, parameters: dict[str, Any], message: str
) -> None:
    models = [write_folder(tmp_path / n, {"a": torch.ones(3)}) for n in ("base", "one", "two")]
    base = {} if method == "linear" else {"base_model": str(models[0])}
    document = {
        "merge_method": method, "models": [{"model": str(m)} for m in models[1:]],
        "parameters": parameters, **base,
    }  # fmt: skip
    with pytest.raises(RecipeError, match=message):
        VirtualCheckpoint.open(parse_recipe(yaml.safe_dump(document)))


def test_weights_that_cancel_in_one_layer_only(tmp_path: Path) -> None:
    models = [write_folder(tmp_path / n, {"a": torch.ones(3), "b": torch.ones(3)}) for n in "xy"]
    filtered = [{"filter": "b", "value": -1.0}, {"value": 1.0}]
    document = {
        "merge_method": "linear",
        "models": [
            {"model": str(models[0]), "parameters": {"weight": 1.0}},
            {"model": str(models[1]), "parameters": {"weight": filtered}},
        ],
    }
    with pytest.raises(RecipeError, match="tensor 'b'.*sum to 0"):
        VirtualCheckpoint.open(parse_recipe(yaml.safe_dump(document)))
