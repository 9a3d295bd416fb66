"""Tensors in memory as the engine's sources, and what comes out of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from merge.kernels.calling import encoded
from miscible.merge.engine import passes as passes_module
from miscible.merge.engine.execute import write_formula
from miscible.merge.engine.passes import Passes, Pool
from miscible.merge.engine.sources import ArraySource
from miscible.merge.engine.streamed import Formula
from miscible.merge.kernels.constants import F32

Array = np.ndarray[Any, Any]


def passes_of(
    values: Sequence[Array],
    *,
    codes: Sequence[int] | None = None,
    shape: Sequence[int] | None = None,
    origin: bool = True,
    pool: Pool | None = None,
) -> Passes:
    """Return passes over arrays, the base's first, stored in the dtypes *codes*."""
    codes = codes or [F32] * len(values)
    sources = [
        ArraySource(f"m{number}", "w", code, encoded(value.reshape(-1), code))
        for number, (value, code) in enumerate(zip(values, codes, strict=True))
    ]
    return Passes("w", sources, shape or values[0].shape, origin=origin, pool=pool)


def merged(passes: Passes, formula: Formula, code: int = F32) -> Array:
    """Return what a formula writes, as it is stored."""
    width = 4 if code == F32 else 2
    out = np.zeros(passes.count * width, np.uint8)

    def write(start: int, data: memoryview) -> None:
        out[start * width : start * width + len(data)] = np.frombuffer(data, np.uint8)

    write_formula(passes, formula, code, write)
    return out.view({4: np.float32, 2: np.uint16}[width])


@contextmanager
def grid(monkeypatch: pytest.MonkeyPatch, chunk: int, *, held: bool = True) -> Iterator[None]:
    """Let chunks be of at most *chunk* elements, and tensors not stay in memory if not *held*."""
    with monkeypatch.context() as patch:
        patch.setattr(passes_module, "CHUNK", chunk)
        if not held:
            patch.setattr(passes_module, "HELD_BYTES", 0)
        yield
