"""What is written down of an element-wise method is what torch makes of the same function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from merge.engine.recipes import F16, F32, SAME, drawn_tensors, write_folder
from merge.engine.tensors import passes_of
from miscible.errors import MiscibleError
from miscible.merge.contract import METHODS, Base, Delta, Deltas, Weight, Weights, merge_method
from miscible.merge.engine.elements import written_down
from miscible.merge.engine.execute import write_elements
from miscible.merge.kernels import constants
from miscible.merge.recipe import parse_recipe
from miscible.merge.virtual import VirtualCheckpoint

Array = np.ndarray[Any, Any]
Tensors = list[Any]
FUNCTIONS: list[Callable[[Tensors], Any]] = [
    lambda t: t[0] + t[1] * 0.3 - t[2] / 7,
    lambda t: 1 - t[0] + (2.5 * t[1]),
    lambda t: t[0] / (t[1].abs() + 1.0),
    lambda t: (0.7 / (t[1].abs() + 0.1)) * t[2],
    lambda t: -t[0].maximum(t[1]).minimum(t[2]),
    lambda t: t[0].clamp(min=-0.5) + t[1].clamp(-0.1, 0.2) + t[2].clamp(max=0.0),
    lambda t: t[0].where(t[1] > 0, t[2]),
    lambda t: t[0].where((t[1] >= t[2]) & (t[0] < 0.3) | ~(t[0] <= -1), 0.0),
    lambda t: t[0] * (t[1] != 0) + (t[2] == t[2]) * t[1],
    lambda t: ((t[0] > 0).float() + (t[1] > 0).float()) / 3,
    lambda t: sum(t),
    lambda t: t[1],
]
OPERATIONS: list[Callable[[Any, Any], Any]] = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a.maximum(b),
    lambda a, b: a.minimum(b),
    lambda a, b: a.where(a > b, b * 0.5),
    lambda a, b: a.abs() - 0.25,
]


@pytest.fixture
def registry() -> Iterator[None]:
    METHODS.names()
    before = dict(METHODS._objects)
    yield
    METHODS._objects.clear()
    METHODS._objects.update(before)


def carried_out(function: Callable[[Tensors], Any], inputs: list[Array]) -> Array:
    steps = written_down(function, len(inputs))
    assert steps is not None
    passes = passes_of(inputs, origin=False)
    out = np.zeros(passes.count, np.float32)

    def write(start: int, data: memoryview) -> None:
        part = np.frombuffer(data, np.float32)
        out[start : start + len(part)] = part

    write_elements(passes, steps, constants.F32, write)
    return out


@pytest.mark.parametrize("size", [1, 1023, 1024, 5000])
@pytest.mark.parametrize("number", range(len(FUNCTIONS)))
def test_steps_are_what_torch_does(number: int, size: int) -> None:
    generator = np.random.default_rng(size)
    # Some values coincide. Of zeros of either sign torch takes now one, now the other.
    inputs = [generator.normal(size=size).astype("f4").round(1) for _ in range(3)]
    with torch.no_grad():
        wanted = FUNCTIONS[number]([torch.from_numpy(held) for held in inputs])
    found = carried_out(FUNCTIONS[number], inputs)
    assert np.array_equal(found, wanted.numpy())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_compositions_are_what_torch_does(data: st.DataObject) -> None:
    # Formulas drawn at random: rows are given up and used again.
    plan = data.draw(
        st.lists(
            st.tuples(st.integers(0, len(OPERATIONS) - 1), st.integers(0, 40), st.integers(0, 40)),
            min_size=1, max_size=25,
        )
    )  # fmt: skip

    def function(tensors: Tensors) -> Any:
        values = list(tensors)
        for kind, first, second in plan:
            a, b = values[first % len(values)], values[second % len(values)]
            values.append(OPERATIONS[kind](a, b).clamp(-9.0, 9.0))
        return values[-1]

    generator = np.random.default_rng(0)
    inputs = [generator.normal(size=70).astype("f4") for _ in range(3)]
    wanted = function([torch.from_numpy(held) for held in inputs])
    assert carried_out(function, inputs).tobytes() == wanted.numpy().tobytes()


def test_only_what_the_result_depends_on_is_done() -> None:
    def function(tensors: Tensors) -> Any:
        unused = tensors[0] * 2.0 + tensors[1]
        chain = tensors[0]
        for _ in range(30):
            chain = chain + tensors[1]
        return chain if unused is not None else unused

    steps = written_down(function, 2)
    assert steps is not None
    assert len(steps.numbers) == 30
    assert steps.rows <= 2 + 1 + 2  # inputs, the constant, and rows that take turns


@pytest.mark.parametrize(
    "function",
    [
        lambda t: torch.where(t[0] > 0, t[0], t[1]),
        lambda t: torch.stack(t).mean(dim=0),
        lambda t: torch.ones(3) * t[0],
        lambda t: np.float32(2) * t[0],
        lambda t: t[0].mul_(2.0),
        lambda t: t[0].double(),
        lambda t: t[0] if t[0].sum() > 0 else t[1],
        lambda t: t[0] if t[0] > 0 else t[1],
        lambda t: t[0] * float(t[1]),
        lambda t: t[0] * ((t[0] > 0) == (t[1] > 0)),
        lambda t: t[0] * ((t[0] > 0) + (t[1] > 0)),
        lambda t: t[0] * ((t[0] > 0) & t[1]),
        lambda t: t[0].where(t[1], t[0]),
        lambda t: t[0] > t[1],
        lambda t: max(t),
        lambda t: t[0][0],
    ],
)
def test_what_takes_more_of_torch_is_not_written_down(function: Callable[[Tensors], Any]) -> None:
    assert written_down(function, 3) is None


def test_what_happens_in_place_is_not_written_down() -> None:
    def function(tensors: Tensors) -> Any:
        total = tensors[0]
        total += tensors[1]  # also changes the first tensor
        return total * tensors[0]

    assert written_down(function, 2) is None


def test_what_is_not_a_number_stays_so_and_is_an_error() -> None:
    inputs = [np.full(10, 3e38, "f4"), np.ones(10, "f4")]

    def function(tensors: Tensors) -> Any:
        infinite = tensors[0] * 10
        return (infinite - infinite).maximum(tensors[1]).clamp(0.0, 1.0)

    with pytest.raises(MiscibleError, match="'w' does not fit into float32"):
        carried_out(function, inputs)


def merged_by(name: str, folder: Path, **keys: Any) -> VirtualCheckpoint:
    models = [{"model": str(folder / f"m{i}")} for i in (1, 2)]
    document = {"merge_method": name, "models": models, "base_model": str(folder / "m0"), **keys}
    return VirtualCheckpoint.open(parse_recipe(yaml.safe_dump(document)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        write_folder(tmp_path / f"m{number}", drawn_tensors(number, F32))
    return tmp_path


def test_a_method_written_in_torch_runs_in_torch(folder: Path, registry: None) -> None:
    seen = []

    @merge_method("largest_in_torch", paper="none", elementwise=True)
    def largest_in_torch(deltas: Deltas) -> Delta:
        """Take the largest change, with what only torch has."""
        stacked = torch.stack(list(deltas))
        seen.append(stacked.numel())
        return Delta(stacked.gather(0, stacked.abs().argmax(dim=0, keepdim=True))[0])

    found, wanted = merged_by("largest_in_torch", folder), merged_by("magmax", folder)
    for name in found.tensors:
        assert found.streams(name)
        assert found.read(name).equal(wanted.read(name))
    assert seen


def test_a_method_on_weights_is_written_down(folder: Path, registry: None) -> None:
    kinds = set()

    @merge_method("largest_weight", paper="none", base=Base.INPUT, elementwise=True)
    def largest_weight(weights: Weights) -> Weight:
        """Take the largest weight."""
        first, second = weights
        kinds.add(type(first).__name__)
        return Weight(first.maximum(second))

    models = [{"model": str(folder / f"m{i}")} for i in (0, 1)]
    document = {"merge_method": "largest_weight", "models": models}
    merge = VirtualCheckpoint.open(parse_recipe(yaml.safe_dump(document)))
    first, second = merge.models.values()
    for name in merge.tensors:
        assert merge.read(name).equal(torch.maximum(first.read(name), second.read(name)))
    assert kinds == {"Elements"}


def test_zeros_keep_their_sign_where_no_model_changed(tmp_path: Path) -> None:
    for number in range(3):
        tensors = drawn_tensors(number, F16)
        tensors[SAME] = torch.full_like(tensors[SAME], -0.0)
        write_folder(tmp_path / f"m{number}", tensors)
    found = merged_by("magmax", tmp_path).read(SAME)
    assert torch.signbit(found).all()


def test_what_does_not_fit_is_an_error(tmp_path: Path) -> None:
    for number in range(3):
        tensors = {"w": torch.full((3000,), 40000.0 + 10000.0 * (number > 0), dtype=F16)}
        write_folder(tmp_path / f"m{number}", tensors)
    merge = merged_by("magmax", tmp_path, parameters={"lambda": 3.0})
    with pytest.raises(MiscibleError, match="'w' does not fit into float16"):
        merge.read("w")


def test_ours_merge_without_torch(tmp_path: Path) -> None:
    for number in range(3):
        write_folder(tmp_path / f"m{number}", drawn_tensors(number, F16))
    methods = ("magmax", "ram", "consensus_ta", "tall_mask", "nearswap")
    commands = []
    for name in methods:
        models = [{"model": str(tmp_path / f"m{i}")} for i in (1, 2)]
        document = {
            "merge_method": name, "base_model": str(tmp_path / "m0"),
            "models": models[: METHODS.get(name).most],
            "parameters": {"t": 0.1} if name == "nearswap" else {},
        }  # fmt: skip
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(document))
        out = str(tmp_path / f"{name}-out")
        commands.append(["merge", str(tmp_path / f"{name}.yml"), out, "--format", "quiet"])
    run = """
import json, sys
from miscible.cli import main

for command in json.loads(sys.argv.pop()):
    try:
        sys.argv[1:] = command
        main()
    except SystemExit as finished:
        assert not finished.code, command
    assert "torch" not in sys.modules, command
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", run, json.dumps(commands)], env=environment, check=True)
    assert all((tmp_path / f"{name}-out" / "model.safetensors").is_file() for name in methods)
