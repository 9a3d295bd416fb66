"""How programs read their inputs from files, a stretch at a time. Imports the compiler.

What is read lands in the second-level cache and is used before anything drives it out, and no
Python runs in between.
"""

from __future__ import annotations

import os

import numba
import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import address_of, inlined, pointer_to
from miscible.merge.kernels.constants import F32, FETCH

_pread = numba.types.ExternalFunction(
    "pread",
    numba.int64(numba.int32, numba.types.voidptr, numba.uint64, numba.int64),
)


@inlined
def fetch(inputs, stride, files_at, codes, models, start, count):
    """Read what begins at element *start*; return where it lies among the inputs, and the status.

    *files*: the elements after which the room of a model is used again, a multiple of `FETCH` or
    at least *count*; then for every model a file's descriptor, -1 if all is in memory, and the
    place of the first element in the file, in bytes.
    """
    files = carray(files_at, (1 + 2 * models,), np.int64)
    at, status = start % files[0], 0
    if start % FETCH == 0:
        for m in range(models):
            if files[1 + 2 * m] >= 0 and status == 0:
                width = 4 if codes[m] & 7 == F32 else 2
                target = address_of(inputs) + m * stride + at * width
                size = min(FETCH, count - start) * width
                if not read_at(files[1 + 2 * m], target, size, files[2 + 2 * m] + start * width):
                    status = -2 - m
    return at, status


def _read_at(descriptor, target, size, place):
    """Read *size* bytes from *place* of a file to an address; return whether all were there."""
    done = 0
    while done < size:
        count = _pread(
            np.int32(descriptor), pointer_to(target + done), np.uint64(size - done), place + done
        )
        if count <= 0:
            return False
        done += count
    return True


def _nothing_at(descriptor, target, size, place):
    """Where there are no positioned reads, no file is given to programs."""
    return False


read_at = inlined(_read_at if hasattr(os, "pread") else _nothing_at)
