"""Compiled code is loaded from the cache in other processes, and damage to it costs time only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from miscible.merge.kernels.native import ARGUMENTS, program
from miscible.models.cache import cache_root

RUN_ALL = """
import hashlib, sys
import numpy as np
from merge.engine.tensors import merged, passes_of
from miscible.merge.engine.streamed import Formula
from miscible.merge.kernels.native import ARGUMENTS, program
from miscible.merge.ops.random import ElementRandom
from miscible.merge.ops.sparsify import KeepByRank, KeepLargest

generator = np.random.default_rng(0)
tensors = [generator.normal(size=(50, 70)).astype("f4") for _ in range(3)]
random = tuple(ElementRandom(0, name, "w") for name in "ab")
digest = hashlib.sha256()
for code in (0, 1, 2):
    digest.update(passes_of(tensors, codes=[code] * 3).gram().tobytes())
    for sparsifiers in (None, (KeepLargest(0.3), KeepLargest(0.5)), (KeepByRank(0.5, 0.1),) * 2):
        formula = Formula(
            (0.5, 0.7), sparsifiers=sparsifiers, random=random, rescale=True,
            elected=sparsifiers is not None,
        )
        digest.update(merged(passes_of(tensors, codes=[code] * 3), formula, code).tobytes())
for name in ARGUMENTS:
    program(name)
print(digest.hexdigest(), "numba" in sys.modules)
"""

GRAM = """
import sys
import numpy as np
from miscible.merge.kernels.native import program

values, codes, total = np.arange(64, dtype="f4"), np.zeros(1, "i8"), np.zeros(1)
scratch, places = np.zeros(8192, "f4"), np.array([64, -1, 0])
status = program("gram")(
    values.ctypes.data, 256, places.ctypes.data, codes.ctypes.data, 1, 0, 64, 0,
    scratch.ctypes.data, total.ctypes.data,
)
print(status, total[0], "numba" in sys.modules)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that holds every program."""
    folder = tmp_path_factory.mktemp("compiled")
    patch = pytest.MonkeyPatch()
    if "MISCIBLE_TEST_KEEP_CACHE" not in os.environ:  # as every other test of this session
        patch.setenv("MISCIBLE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    for name in ARGUMENTS:
        program.__wrapped__(name)
    shutil.copytree(cache_root() / "kernels", folder / "kernels")
    patch.undo()
    return folder


def run(script: str, cache: Path) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[2]
    places = [str(tests), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MISCIBLE_CACHE": str(cache), "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_another_process_runs_what_was_compiled(compiled: Path, tmp_path: Path) -> None:
    shutil.copytree(compiled, tmp_path / "cache")
    held = {path.name for path in (tmp_path / "cache").rglob("*.o")}
    assert held == {f"{name}.o" for name in ARGUMENTS}
    first, second = run(RUN_ALL, tmp_path / "cache"), run(RUN_ALL, tmp_path / "cache")
    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout == second.stdout
    assert first.stdout.split()[1] == "False", "it was compiled again"


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    outcome = run(GRAM, tmp_path / "file")
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.split() == ["0", "85344.0", "True"]


def flipped(content: bytes) -> bytes:
    half = len(content) // 2
    return content[:half] + bytes(255 - byte for byte in content[half : half + 64]) + content[
        half + 64 :
    ]  # fmt: skip


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: b"\xee\xff" + content[2:],
        flipped,
    ],
    ids=["empty", "half", "cut", "zeros", "name", "flipped"],
)
def test_a_damaged_cache_is_compiled_again(
    compiled: Path, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    shutil.copytree(compiled, tmp_path / "cache")
    path = next((tmp_path / "cache").rglob("gram.o"))
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    for compiles in ("True", "False"):  # the first run puts it right
        outcome = run(GRAM, tmp_path / "cache")
        assert outcome.returncode == 0, outcome.stderr
        assert outcome.stdout.split() == ["0", "85344.0", compiles]
