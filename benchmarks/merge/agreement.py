"""How far two model folders' weights lie apart, read piece by piece.

python benchmarks/merge/agreement.py FOLDER FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from miscible.models.checkpoint import FolderCheckpoint

PIECE = 1 << 21
_BITS = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}


class Agreement(NamedTuple):
    """How two merges compare.

    Attributes:
        elements: in tensors that both have.
        differing: share of them that are not equal (0 and -0 are).
        largest: the largest difference between two elements.
        mean: of the absolute differences.
        not_in_both: tensors that only one has, or that are of unequal shape or dtype.
    """

    elements: int
    differing: float
    largest: float
    mean: float
    not_in_both: list[str]


def compare(one: Path, other: Path) -> Agreement:
    """Compare two model folders."""
    first, second = FolderCheckpoint(one), FolderCheckpoint(other)
    names = [name for name, info in first.tensors.items() if second.tensors.get(name) == info]
    left = sorted({*first.tensors, *second.tensors} - set(names))
    elements, differing, largest, total = 0, 0, 0.0, 0.0
    for name in names:
        info = first.tensors[name]
        for start in range(0, info.size, PIECE):
            count = min(PIECE, info.size - start)
            a, b = (_values(model, name, start, count) for model in (first, second))
            apart = np.flatnonzero(a != b)
            elements += count
            differing += len(apart)
            if len(apart):
                distance = np.abs(a[apart].astype(np.float64) - b[apart])
                largest = max(largest, float(distance.max()))
                total += float(distance.sum())
    return Agreement(elements, differing / elements, largest, total / elements, left)


def _values(model: FolderCheckpoint, name: str, start: int, count: int) -> np.ndarray[Any, Any]:
    place = model.extent(name)
    assert place is not None
    path, extent = place
    kind = np.dtype(_BITS[extent.info.dtype])
    with path.open("rb") as file:
        width = kind.itemsize
        held = os.pread(file.fileno(), count * width, extent.offset + start * width)
    values = np.frombuffer(held, kind)
    if extent.info.dtype == "BF16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), Path(sys.argv[2]))._asdict(), indent=1))
