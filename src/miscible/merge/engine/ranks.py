"""Masks of the elements that are kept by rank, a bit an element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from miscible.merge.engine.passes import ChunkInputs, Passes, scratch
from miscible.merge.kernels.constants import RANK_BINS
from miscible.merge.kernels.native import program
from miscible.merge.ops.sparsify import KeepByRank

Array = np.ndarray[Any, Any]


def rank_masks(
    passes: Passes, sparsifiers: Mapping[int, KeepByRank], keys: Mapping[int, tuple[int, int]]
) -> dict[int, Array]:
    """Return the mask of each model in *sparsifiers*, in a pass over whole rows.

    Masks take a sixteenth of the memory of a 16-bit tensor.
    """
    passes.by_rows()
    models, row = passes.models, max(passes.row, 1)
    masks = {m: np.zeros(-(-passes.count // 32) * 4, np.uint8) for m in sparsifiers}
    densities, epsilons = np.zeros(models), np.zeros(models)
    addresses, held_keys = np.zeros(models, np.int64), np.zeros((models, 2), np.int64)
    for m, sparsifier in sparsifiers.items():
        densities[m] = sparsifier.density
        # Density 0 keeps nothing, whatever epsilon is.
        epsilons[m] = sparsifier.epsilon if sparsifier.density > 0 else 0.0
        addresses[m], held_keys[m] = masks[m].ctypes.data, keys[m]

    def run(number: int, start: int, size: int, inputs: ChunkInputs) -> None:
        work = np.empty(3 * row + RANK_BINS + 8, np.uint32)
        passes.check(
            program("ranks")(
                *passes.arguments(inputs), size, passes.rounding, scratch(models).ctypes.data,
                row, densities.ctypes.data, epsilons.ctypes.data, held_keys.ctypes.data, start,
                addresses.ctypes.data, work.ctypes.data,
            )
        )  # fmt: skip

    passes.over_chunks(run, whole=True)
    return masks
