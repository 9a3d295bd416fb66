"""The program of methods that look at each element alone. Imports the compiler.

What a method does to an element is given as steps, each one operation on whole rows. A row of a
block stays in the nearest caches, so a step costs little more than its arithmetic.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import MAGNITUDE, bytes_at, inlined, rowwise, store
from miscible.merge.kernels.constants import BLOCK
from miscible.merge.kernels.operations import (
    ABSOLUTE,
    ADD,
    AT_LEAST,
    CHOOSE,
    DIVIDE,
    EQUAL,
    GREATER,
    MAXIMUM,
    MINIMUM,
    MULTIPLY,
    STEP,
    SUBTRACT,
)
from miscible.merge.kernels.reading import fetch
from miscible.merge.kernels.rows import load_all, rows_of

ONE, ZERO = np.float32(1.0), np.float32(0.0)


def elements(
    inputs, stride, places, codes_at, models, origin, count, rounding, scratch, constants_at,
    constants, rows_used, steps_at, steps, result, out_at, out_code,
):  # fmt: skip
    """out = the row *result* after all steps, or the base where no model of a block differs.

    Rows: the inputs (base and differences with *origin*), the constants, then those of the steps.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    numbers = carray(constants_at, (constants,), np.float64)
    held = carray(steps_at, (steps * STEP,), np.int64)
    rows, values = rows_of(scratch, rows_used)
    out = bytes_at(out_at, 4 * count)
    for k in range(constants):
        values[(models + k) * BLOCK : (models + k + 1) * BLOCK] = np.float32(numbers[k])
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, places, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, origin, size, rounding, rows, values)
        if status:
            return status
        written = 0
        if not origin or any_difference(rows, models, size):
            written = result
            for k in range(0, steps * STEP, STEP):
                step(
                    held[k], row_of(values, held[k + 1]), row_of(values, held[k + 2]),
                    row_of(values, held[k + 3]), row_of(values, held[k + 4]), size,
                )  # fmt: skip
        if store(row_of(rows, written), size, out_code, out, start):
            return -1
    return 0


@inlined
def row_of(rows, number):
    """Return a row by its number."""
    return rows[number * BLOCK : (number + 1) * BLOCK]


@rowwise
def any_difference(rows, models, size):
    """Return whether an element of a difference is not zero; the first one mostly tells."""
    for m in range(1, models):
        for i in range(size):
            if rows[m * BLOCK + i] & MAGNITUDE:
                return True
    return False


@inlined
def step(operation, out, a, b, c, size):
    """Carry out one step on rows; *out* is none of the operands."""
    if operation == ADD:
        add(out, a, b, c, size)
    elif operation == SUBTRACT:
        subtract(out, a, b, c, size)
    elif operation == MULTIPLY:
        multiply(out, a, b, c, size)
    elif operation == DIVIDE:
        divide(out, a, b, c, size)
    elif operation == MAXIMUM:
        maximum(out, a, b, c, size)
    elif operation == MINIMUM:
        minimum(out, a, b, c, size)
    elif operation == ABSOLUTE:
        absolute(out, a, b, c, size)
    elif operation == GREATER:
        greater(out, a, b, c, size)
    elif operation == AT_LEAST:
        at_least(out, a, b, c, size)
    elif operation == EQUAL:
        equal(out, a, b, c, size)
    elif operation == CHOOSE:
        choose(out, a, b, c, size)


def _on_rows(function: Any) -> Any:
    # A loop over rows from what is done to one element of each.
    of_one = numba.njit(function, inline="always", error_model="numpy")

    @rowwise
    def on_rows(out, a, b, c, size):
        for i in range(size):
            out[i] = of_one(a[i], b[i], c[i])

    return on_rows


add = _on_rows(lambda a, b, c: a + b)
subtract = _on_rows(lambda a, b, c: a - b)
multiply = _on_rows(lambda a, b, c: a * b)
divide = _on_rows(lambda a, b, c: a / b)
absolute = _on_rows(lambda a, b, c: abs(a))
maximum = _on_rows(lambda a, b, c: a if (a >= b) | (a != a) else b)  # what is NaN stays NaN
minimum = _on_rows(lambda a, b, c: a if (a <= b) | (a != a) else b)
greater = _on_rows(lambda a, b, c: ONE if a > b else ZERO)
at_least = _on_rows(lambda a, b, c: ONE if a >= b else ZERO)
equal = _on_rows(lambda a, b, c: ONE if a == b else ZERO)
choose = _on_rows(lambda a, b, c: b if a != ZERO else c)
