"""The programs: each a loop over one chunk of one tensor of every model. Imports the compiler.

Common arguments: *inputs* points to the raw bytes of all models, *stride* bytes apart, which
*files* says how to read from files (see `reading`); *codes* gives each model's dtype (see
`blocks`); with *origin* the first model is the base, and all others enter as differences from it
unless their code carries `DELTA` (they are differences already). Every program returns 0, or
1 + the number of the first model that holds NaN or infinity, or -1 if a result overflows its dtype,
or -2 - the number of the model whose file could not be read.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import (
    MAGNITUDE,
    bytes_at,
    lane_products,
    lane_sizes,
    load,
    pair_products,
    store,
)
from miscible.merge.kernels.constants import (
    BF16,
    BINS,
    BLOCK,
    DELTA,
    EXACT,
    F32,
    LANES,
    SETTINGS,
    SIGNS,
)
from miscible.merge.kernels.reading import fetch
from miscible.merge.kernels.rows import (
    add,
    add_agreeing,
    add_scaled,
    add_weighted,
    add_words,
    add_words_from,
    collect,
    copy,
    divide,
    keep,
    load_all,
    magnitudes,
    multiply,
    rows_of,
    scale_onto,
    subtract,
)


def weighted_sum(
    inputs, stride, files, codes_at, models, origin, weights_at, scale, count, rounding, scratch,
    out_at, out_code,
):  # fmt: skip
    """out = sum w_m x_m, or base + scale * sum w_m d_m.

    What is not finite in a bfloat16 input is not finite in the sum, so that -1 may mean it too.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    weights = carray(weights_at, (models,), np.float64)
    rows, values = rows_of(scratch, models)
    out = bytes_at(out_at, 4 * count)
    total, base = values[models * BLOCK : (models + 1) * BLOCK], values[:BLOCK]
    first = 1 if origin else 0
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status:
            return status
        for m in range(models):
            weight = np.float32(weights[m])
            if codes[m] == BF16 and m >= first and (rounding == 0 or rounding == BF16):
                place = m * stride + 2 * at
                words = raw[place : place + 2 * size].view(np.uint16)
                if origin:
                    add_words_from(total, words, base, size, weight, m == first)
                else:
                    add_words(total, words, size, weight, m == first)
                continue
            value = values[m * BLOCK : (m + 1) * BLOCK]
            code, narrowed = codes[m] & 7, 0 if codes[m] & (DELTA | EXACT) else rounding
            place = m * stride + at * (4 if code == F32 else 2)
            if load(raw, place, code, size, narrowed, rows[m * BLOCK :], value):
                return m + 1
            if m >= first:
                if origin and not codes[m] & DELTA:
                    subtract(value, base, size)
                add_weighted(total, value, size, weight, m == first)
        if origin:
            scale_onto(total, base, size, np.float32(scale))
        if store(rows[models * BLOCK : (models + 1) * BLOCK], size, out_code, out, start):
            return -1
    return 0


def values_of(inputs, stride, files, codes_at, models, origin, count, rounding, scratch, out_at):
    """out[m] = x_m, or the base and all differences from it, in float32, *count* elements each."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    out = carray(out_at, (models * count,), np.float32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, origin, size, rounding, rows, values)
        if status:
            return status
        for m in range(models):
            copy(out[m * count + start :], values[m * BLOCK :], size)
    return 0


def gram(inputs, stride, files, codes_at, models, origin, count, rounding, scratch, gram_at):
    """gram[i, j] += <x_i, x_j> in float64, of the differences with *origin* (row 0 is left out)."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    held = carray(gram_at, (models * models,), np.float64)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, origin, size, rounding, rows, values)
        if status:
            return status
        for m in range(models):
            for i in range(size, (size + LANES - 1) // LANES * LANES):
                values[m * BLOCK + i] = np.float32(0.0)
        first = 1 if origin else 0
        if models - first == 2:
            x, y = values[first * BLOCK :], values[(first + 1) * BLOCK :]
            xx, xy, yy = pair_products(x, y, size)
            a, b = first, first + 1
            held[a * models + a] += xx
            held[a * models + b] += xy
            held[b * models + a] += xy
            held[b * models + b] += yy
            continue
        for a in range(first, models):
            x = values[a * BLOCK : (a + 1) * BLOCK]
            for b in range(first, a + 1):
                y = values[b * BLOCK : (b + 1) * BLOCK]
                total = lane_products(x, y, size)
                held[a * models + b] += total
                if a != b:
                    held[b * models + a] += total
    return 0


def norms(
    inputs,
    stride,
    files,
    codes_at,
    models,
    count,
    rounding,
    scratch,
    kinds_at,
    settings_at,
    index,
    sums_at,
):
    """sums[m] += sum |d_m|, sums[models + m] += sum |d_m| over the elements that are kept."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    kinds = carray(kinds_at, (models,), np.int64)
    settings = carray(settings_at, (models * SETTINGS,), np.int64)
    sums = carray(sums_at, (2 * models,), np.float64)
    rows, values = rows_of(scratch, models)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, 1, size, rounding, rows, values)
        if status:
            return status
        for m in range(1, models):
            row = rows[m * BLOCK : (m + 1) * BLOCK]
            for i in range(size, (size + LANES - 1) // LANES * LANES):
                row[i] = np.uint32(0)
            value = values[m * BLOCK : (m + 1) * BLOCK]
            sums[m] += lane_sizes(value, size)
            keep(kinds[m], settings, m * SETTINGS, index + start, size, row)
            sums[models + m] += lane_sizes(value, size)
    return 0


def histogram(
    inputs, stride, files, codes_at, models, count, rounding, scratch, low_at, shift, bins_at
):
    """bins[m, (|d_m| bits - low[m]) >> shift] += 1 over all differences within the bins."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    low = carray(low_at, (models,), np.int64)
    bins = carray(bins_at, (models * BINS,), np.int64)
    rows, values = rows_of(scratch, models)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, 1, size, rounding, rows, values)
        if status:
            return status
        for m in range(1, models):
            row = rows[m * BLOCK : m * BLOCK + size]
            for i in range(size):
                place = (np.int64(row[i] & MAGNITUDE) - low[m]) >> shift
                if 0 <= place < BINS:
                    bins[m * BINS + place] += 1
    return 0


def candidates(
    inputs, stride, files, codes_at, models, count, rounding, scratch, low_at, high_at, index,
    bits_at, places_at, room, filled_at, above_at,
):  # fmt: skip
    """Collect the elements with low <= |d| bits < high, count those with |d| bits >= high.

    Model m appends to its *room* places; *filled* counts on where there is no room left.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    low, high = carray(low_at, (models,), np.int64), carray(high_at, (models,), np.int64)
    filled, above = carray(filled_at, (models,), np.int64), carray(above_at, (models,), np.int64)
    bits = carray(bits_at, (models * room,), np.uint32)
    places = carray(places_at, (models * room,), np.int64)
    rows, values = rows_of(scratch, models)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, 1, size, rounding, rows, values)
        if status:
            return status
        for m in range(1, models):
            row = rows[m * BLOCK : (m + 1) * BLOCK]
            above[m] += magnitudes(row, size, np.uint32(high[m]))
            filled[m] = collect(
                row, size, np.uint32(low[m]), np.uint32(high[m] - low[m]), index + start, bits,
                places, m * room, room, filled[m],
            )  # fmt: skip
    return 0


def consensus(
    inputs, stride, files, codes_at, models, count, rounding, scratch, kinds_at, settings_at, index,
    ratios_at, weights_at, rule, normalize, scale, out_at, out_code,
):  # fmt: skip
    """out = base + scale * (sum, or sum of those that agree with the elected sign) of w r keep(d).

    See `miscible.merge.ops.consensus.elect_signs`; *ratios* rescale each model's kept elements.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    kinds = carray(kinds_at, (models,), np.int64)
    settings = carray(settings_at, (models * SETTINGS,), np.int64)
    ratios, weights = (
        carray(ratios_at, (models,), np.float64),
        carray(weights_at, (models,), np.float64),
    )
    rows, values = rows_of(scratch, models)
    out = bytes_at(out_at, 4 * count)
    total = values[models * BLOCK : (models + 1) * BLOCK]
    merged = values[(models + 1) * BLOCK : (models + 2) * BLOCK]
    divisor = values[(models + 2) * BLOCK : (models + 3) * BLOCK]
    factor, base = np.float32(scale), values[:BLOCK]
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        at, status = fetch(inputs, stride, files, codes, models, start, count)
        if status == 0:
            status = load_all(raw, stride, at, codes, models, 1, size, rounding, rows, values)
        if status:
            return status
        total[:] = np.float32(0.0)
        for m in range(1, models):
            row, value = rows[m * BLOCK : (m + 1) * BLOCK], values[m * BLOCK : (m + 1) * BLOCK]
            keep(kinds[m], settings, m * SETTINGS, index + start, size, row)
            multiply(value, size, np.float32(ratios[m]), np.float32(weights[m]))
            add(total, value, size)
        if rule == SIGNS:
            merged[:] = np.float32(0.0)
            divisor[:] = np.float32(0.0)
            for m in range(1, models):
                value = values[m * BLOCK : (m + 1) * BLOCK]
                add_agreeing(merged, divisor, total, value, size, np.float32(weights[m]))
            if normalize:
                divide(merged, divisor, size)
            add_scaled(total, base, merged, size, factor)
        else:
            scale_onto(total, base, size, factor)
        if store(rows[models * BLOCK : (models + 1) * BLOCK], size, out_code, out, start):
            return -1
    return 0
