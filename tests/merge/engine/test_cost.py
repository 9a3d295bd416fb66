from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from miscible.errors import CheckpointError
from miscible.merge.engine import rates
from miscible.merge.engine.cost import Cost, estimate
from miscible.merge.engine.rehearsal import rehearse
from miscible.merge.kernels import native
from miscible.merge.recipe import Recipe, parse_recipe
from miscible.merge.virtual import VirtualCheckpoint
from miscible.models.checkpoint import FolderCheckpoint
from miscible.models.preflight.subject import HeaderCheckpoint


@pytest.fixture(autouse=True)
def _compiled() -> None:
    for name in native.ARGUMENTS:
        native.program(name)
    rates.rates.cache_clear()


SHAPES = {
    "model.embed_tokens.weight": (1 << 15, 640),  # 42 MB in bfloat16: all threads share it
    "model.layers.0.mlp.up_proj.weight": (1024, 640),
    "model.layers.0.mlp.down_proj.weight": (640, 1024),
    "model.norm.weight": (640,),
}


def write_hollow(folder: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "BF16") -> Path:
    """Write a model whose tensors are holes: a header, and a length."""
    width, place, header = {"BF16": 2, "F32": 4, "F64": 8}[dtype], 0, {}
    for name, shape in shapes.items():
        size = width
        for extent in shape:
            size *= extent
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    folder.mkdir(parents=True)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + place)
    (folder / "config.json").write_text(json.dumps({"model_type": "x", "num_hidden_layers": 1}))
    return folder


def recipe_of(folder: Path, method: str, models: int, values: Mapping[str, Any]) -> Recipe:
    document: dict[str, Any] = {
        "merge_method": method,
        "base_model": str(folder / "0"),
        "models": [{"model": str(folder / str(n))} for n in range(1, models + 1)],
        "parameters": dict(values),
    }
    if method in ("linear", "karcher"):
        del document["base_model"]
    return parse_recipe(yaml.safe_dump(document))


def told(
    folder: Path,
    method: str,
    *,
    models: int = 2,
    shapes: Mapping[str, tuple[int, ...]] = SHAPES,
    dtype: str = "BF16",
    threads: int = 1,
    **values: Any,
) -> Cost:
    if not folder.exists():
        for number in range(models + 1):
            write_hollow(folder / str(number), shapes, dtype)
    recipe = recipe_of(folder, method, models, values)
    held = {r: HeaderCheckpoint(Path(r), name=r) for r in recipe.references()}
    return estimate(VirtualCheckpoint(recipe, held), threads=threads)


def bytes_of(shapes: Mapping[str, tuple[int, ...]]) -> int:
    total = 0
    for shape in shapes.values():
        size = 2
        for extent in shape:
            size *= extent
        total += size
    return total


def test_bytes_are_those_of_the_passes(tmp_path: Path) -> None:
    whole = bytes_of(SHAPES)
    once = told(tmp_path / "two", "linear", weight=0.5)
    assert once.write_bytes == whole
    assert once.read_bytes == 2 * whole
    # Inner products are a pass of their own, but for small tensors, which stay in memory.
    embedding = bytes_of({"": SHAPES["model.embed_tokens.weight"]})
    assert told(tmp_path / "two", "karcher").read_bytes == 2 * (whole + embedding)
    base = told(tmp_path / "two", "task_arithmetic", weight=0.5)
    assert base.read_bytes == 3 * whole


def test_streamed_merges_take_no_more_memory_for_larger_tensors(tmp_path: Path) -> None:
    larger = {name: (4 * shape[0], *shape[1:]) for name, shape in SHAPES.items()}
    small = told(tmp_path / "small", "task_arithmetic", weight=0.5)
    large = told(tmp_path / "large", "task_arithmetic", weight=0.5, shapes=larger)
    assert large.ram_bytes < small.ram_bytes + 20e6
    dense = told(tmp_path / "small", "sce").ram_bytes, told(tmp_path / "large", "sce").ram_bytes
    most = 4 * SHAPES["model.embed_tokens.weight"][0] * 640
    assert dense[1] - dense[0] > 3 * 10 * most


def test_more_models_and_threads_take_more_memory_and_more_threads_less_time(
    tmp_path: Path,
) -> None:
    few = told(tmp_path / "few", "ties", models=2, weight=0.5, density=0.5)
    many = told(tmp_path / "many", "ties", models=6, weight=0.5, density=0.5)
    assert many.ram_bytes > few.ram_bytes
    assert many.seconds > few.seconds
    threads = told(tmp_path / "few", "ties", weight=0.5, density=0.5, threads=2)
    assert threads.ram_bytes > few.ram_bytes
    assert threads.seconds < few.seconds


def test_a_wide_dtype_takes_more_bytes_and_float64_a_whole_tensor(tmp_path: Path) -> None:
    narrow = told(tmp_path / "16", "linear", weight=0.5)
    single = told(tmp_path / "32", "linear", weight=0.5, dtype="F32")
    double = told(tmp_path / "64", "linear", weight=0.5, dtype="F64")
    assert single.read_bytes == 2 * narrow.read_bytes
    assert double.ram_bytes > single.ram_bytes + 200e6


@pytest.mark.parametrize(
    ("method", "values", "kinds"),
    [
        ("linear", {"weight": 0.5}, ("sum",)),
        ("task_arithmetic", {"weight": 0.5}, ("sum",)),
        ("karcher", {}, ("gram", "sum")),
        ("model_stock", {}, ("gram", "sum")),
        ("ties", {"weight": 0.5, "density": 0.5}, ("largest", "consensus")),
        ("ties", {"weight": 0.5, "density": 1.0}, ("consensus",)),
        ("dare_ties", {"weight": 0.5, "density": 0.5}, ("norms", "random")),
        ("dare_linear", {"weight": 0.5, "density": 0.5, "rescale": False}, ("random",)),
        ("della", {"weight": 0.5, "density": 0.5}, ("ranks", "norms", "consensus")),
        ("breadcrumbs", {"weight": 0.5, "density": 0.5, "gamma": 0.1},
         ("largest", "largest", "consensus")),
        ("magmax", {}, ("elements",)),
    ],
)  # fmt: skip
def test_a_rehearsal_finds_the_passes(
    tmp_path: Path, method: str, values: dict[str, Any], kinds: tuple[str, ...]
) -> None:
    for number in range(3):
        write_hollow(tmp_path / str(number), SHAPES)
    recipe = recipe_of(tmp_path, method, 2, values)
    held = {r: HeaderCheckpoint(Path(r), name=r) for r in recipe.references()}
    merge = VirtualCheckpoint(recipe, held)
    output = merge.plan.outputs["model.embed_tokens.weight"]
    assert rehearse(merge, output, None).kinds == kinds


def test_no_weight_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise CheckpointError("a weight was read.")

    rates.rates()
    for method in ("ties", "karcher", "della", "iso_c", "magmax"):
        values = {"weight": 0.5} if method in ("ties", "della") else {}
        with monkeypatch.context() as patched:
            patched.setattr(FolderCheckpoint, "read", refuse)
            patched.setattr("os.pread", refuse)
            told(tmp_path / "models", method, **values)


def test_the_cost_of_equal_layers_is_found_once(tmp_path: Path) -> None:
    shapes = {f"model.layers.{n}.mlp.up_proj.weight": (64, 64) for n in range(2000)}
    one = told(tmp_path / "one", "karcher", shapes=dict(list(shapes.items())[:1]))
    all_of_them = told(tmp_path / "all", "karcher", shapes=shapes)
    assert all_of_them.read_bytes == 2000 * one.read_bytes


def test_rates_are_measured_once_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "cache_root", lambda: tmp_path)
    try:
        first = rates.rates()
        (kept,) = (tmp_path / "rates").iterdir()
        rates.rates.cache_clear()
        monkeypatch.setattr(rates, "measure", lambda: pytest.fail("measured again"))
        assert rates.rates() == first
        kept.write_text("{")
        rates.rates.cache_clear()
        monkeypatch.setattr(rates, "measure", lambda: rates.REFERENCE)
        assert rates.rates() == rates.REFERENCE
    finally:
        rates.rates.cache_clear()
    assert all(few > 0 and many > 0 for few, many in first.passes.values())
    assert min(first.read, first.write, first.product) > 0


def test_a_machine_without_compiled_programs_is_not_made_to_compile_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = told(tmp_path / "models", "linear", weight=0.5)
    monkeypatch.setattr(rates, "cache_root", lambda: tmp_path)
    monkeypatch.setattr(native, "cache_root", lambda: tmp_path)
    rates.rates.cache_clear()
    try:
        assert rates.rates() is rates.REFERENCE
        first = told(tmp_path / "models", "linear", weight=0.5)
    finally:
        rates.rates.cache_clear()
    assert list(tmp_path.glob("kernels/*/*")) == []
    assert first.ram_bytes > ready.ram_bytes + 50e6
    assert first.seconds > ready.seconds + 1


# A process's peak begins at what its parent held, and this one holds torch: one between them
# that holds nothing starts it.
LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss * 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def peak_of(recipe: Recipe, folder: Path, threads: int) -> int:
    path = folder / "recipe.yml"
    path.write_text(recipe.to_yaml())
    command = [sys.executable, "-m", "miscible", "merge", str(path), str(folder / "out"),
               "--threads", str(threads), "--format", "quiet"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", LAUNCHER, *command], capture_output=True, check=True
    )
    return int(done.stdout)


@pytest.mark.parametrize(
    ("method", "values", "threads"),
    [
        ("task_arithmetic", {"weight": 0.5}, 1),
        ("ties", {"weight": 0.5, "density": 0.5}, 2),
        ("della", {"weight": 0.5, "density": 0.5}, 2),
        ("consensus_ta", {}, 1),
        ("sce", {}, 2),
        ("iso_c", {}, 1),
    ],
)
def test_the_memory_is_what_a_process_takes(
    tmp_path: Path, method: str, values: dict[str, Any], threads: int
) -> None:
    import torch
    from safetensors.torch import save_file

    draw = torch.Generator().manual_seed(0)
    for number in range(3):
        tensors = {
            name: (torch.randn(shape, generator=draw) * 0.02).bfloat16()
            for name, shape in SHAPES.items()
        }
        folder = write_hollow(tmp_path / str(number), SHAPES)
        save_file(tensors, folder / "model.safetensors")
    recipe = recipe_of(tmp_path, method, 2, values)
    cost = estimate(VirtualCheckpoint.open(recipe), threads=threads)
    peak = peak_of(recipe, tmp_path, threads)
    assert peak / 1.25 < cost.ram_bytes < peak * 1.25
