"""The programs: each a loop over one chunk of one tensor of every model. Imports the compiler.

Common arguments: *inputs* points to the raw bytes of all models, *stride* bytes apart; *codes*
gives each model's dtype (see `blocks`); with *origin* the first model is the base, and all others
enter as differences from it unless their code carries `DELTA` (they are differences already).
Every program returns 0, or 1 + the number of the first model that holds NaN or infinity, or -1 if
a result overflows its dtype.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import (
    MAGNITUDE,
    bytes_at,
    inlined,
    keep_lanes,
    lane_products,
    lane_sizes,
    lanes_in_range,
    load,
    pointer_to,
    rowwise,
    store,
    trailing_zeros,
)
from miscible.merge.kernels.constants import (
    BINS,
    BLOCK,
    DELTA,
    F32,
    KEEP_ALL,
    KEEP_BAND,
    KEEP_MASK,
    KEEP_RANDOM,
    LANES,
    SETTINGS,
    SIGNS,
)


@inlined
def rows_of(scratch, models):
    """Return the scratch as rows of bits, and as float32."""
    flat = carray(scratch, ((models + 3) * BLOCK,), np.uint32)
    return flat, flat.view(np.float32)


@inlined
def load_all(raw, stride, codes, models, origin, start, size, rounding, rows, values):
    """Fill row m with model m, or with its difference from row 0; return the status."""
    status = 0
    for m in range(models):
        code = codes[m] & 7
        width = 4 if code == F32 else 2
        row, value = rows[m * BLOCK : m * BLOCK + size], values[m * BLOCK : m * BLOCK + size]
        exact = codes[m] >= DELTA
        narrowed = 0 if exact else rounding
        bad = load(raw, m * stride + start * width, code, size, narrowed, row, value)
        if bad and status == 0:
            status = m + 1
        if origin and m > 0 and not exact:
            base = values[:size]
            for i in range(size):
                value[i] -= base[i]
    return status


def weighted_sum(
    inputs, stride, codes_at, models, origin, weights_at, scale, count, rounding, scratch, out_at,
    out_code,
):  # fmt: skip
    """out = sum w_m x_m, or base + scale * sum w_m d_m."""
    raw = bytes_at(inputs, models * stride)
    codes, weights = (
        carray(codes_at, (models,), np.int64),
        carray(weights_at, (models,), np.float64),
    )
    rows, values = rows_of(scratch, models)
    out = bytes_at(out_at, 4 * count)
    total = values[models * BLOCK : (models + 1) * BLOCK]
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        status = load_all(raw, stride, codes, models, origin, start, size, rounding, rows, values)
        if status:
            return status
        first = 1 if origin else 0
        for m in range(first, models):
            weight = np.float32(weights[m])
            value = values[m * BLOCK : m * BLOCK + size]
            if m == first:
                for i in range(size):
                    total[i] = value[i] * weight
            else:
                for i in range(size):
                    total[i] += value[i] * weight
        if origin:
            factor, base = np.float32(scale), values[:size]
            if factor == np.float32(1.0):
                for i in range(size):
                    total[i] = base[i] + total[i]
            else:
                for i in range(size):
                    total[i] = base[i] + total[i] * factor
        if store(rows[models * BLOCK : (models + 1) * BLOCK], size, out_code, out, start):
            return -1
    return 0


def values_of(inputs, stride, codes_at, models, origin, count, rounding, scratch, out_at):
    """out[m] = x_m, or the base and all differences from it, in float32, *count* elements each."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    out = carray(out_at, (models * count,), np.float32)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        status = load_all(raw, stride, codes, models, origin, start, size, rounding, rows, values)
        if status:
            return status
        for m in range(models):
            copy(out[m * count + start :], values[m * BLOCK :], size)
    return 0


def gram(inputs, stride, codes_at, models, origin, count, rounding, scratch, gram_at):
    """gram[i, j] += <x_i, x_j> in float64, of the differences with *origin* (row 0 is left out)."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    held = carray(gram_at, (models * models,), np.float64)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        status = load_all(raw, stride, codes, models, origin, start, size, rounding, rows, values)
        if status:
            return status
        for m in range(models):
            for i in range(size, (size + LANES - 1) // LANES * LANES):
                values[m * BLOCK + i] = np.float32(0.0)
        first = 1 if origin else 0
        for a in range(first, models):
            x = values[a * BLOCK : (a + 1) * BLOCK]
            for b in range(first, a + 1):
                y = values[b * BLOCK : (b + 1) * BLOCK]
                total = lane_products(x, y, size)
                held[a * models + b] += total
                if a != b:
                    held[b * models + a] += total
    return 0


@inlined
def word_of(index, key, other):
    """Return the 32-bit word of an element: an integer hash that takes two keys on its way."""
    # Every step is narrowed: Numba computes in 64 bits otherwise.
    x = np.uint32(index ^ key)
    x = np.uint32(x ^ np.uint32(x >> np.uint32(17)))
    x = np.uint32(x * np.uint32(0xED5AD4BB))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(11)))
    x = np.uint32(x + other)
    x = np.uint32(x * np.uint32(0xAC4C1B51))
    x = np.uint32(x ^ np.uint32(x >> np.uint32(15)))
    x = np.uint32(x * np.uint32(0x31848BAB))
    return np.uint32(x ^ np.uint32(x >> np.uint32(14)))


@inlined
def keep(kind, settings, at, index, size, row):
    """Set to +0 the elements of a row that a sparsifier drops.

    *settings* at *at*: KEEP_LARGEST: threshold bits, last index at which the threshold itself is
    kept; KEEP_BAND: the same for the lower edge, then for the upper (kept where below);
    KEEP_RANDOM: threshold of the words, two keys; KEEP_MASK: address of a bit an element. *index*
    is the row's first element in the tensor.
    """
    if kind == KEEP_RANDOM:
        high = np.uint32(index >> 32)
        key = np.uint32(settings[at + 1]) ^ np.uint32(high * np.uint32(0x85EBCA6B))
        draw(
            row, size, np.uint32(settings[at]), np.uint32(key), np.uint32(settings[at + 2]),
            np.uint32(index & 0xFFFFFFFF),
        )  # fmt: skip
    elif kind == KEEP_MASK:
        unmask(row, size, settings[at], index)
    elif kind != KEEP_ALL:
        trim(row, size, np.uint32(settings[at]), settings[at + 1] - index, False)
        if kind == KEEP_BAND:
            trim(row, size, np.uint32(settings[at + 2]), settings[at + 3] - index, True)


@rowwise
def copy(target, source, size):
    """target = source."""
    for i in range(size):
        target[i] = source[i]


@rowwise
def draw(row, size, limit, key, other, low):
    """Drop what draws a word of at least *limit*."""
    for i in range(size):
        word = word_of(np.uint32(low + np.uint32(i)), key, other)
        row[i] = row[i] if word < limit else np.uint32(0)


@rowwise
def unmask(row, size, address, index):
    """Drop what has a 0 in a mask of one bit an element, lowest bit first.

    Rows begin at a multiple of `LANES` elements, and are a block long.
    """
    words = (size + LANES - 1) // LANES
    mask = bytes_at(pointer_to(address + index // 8), 4 * words).view(np.uint32)
    for k in range(words):
        keep_lanes(row, np.int64(LANES * k), mask[k])


@rowwise
def trim(row, size, threshold, last, above):
    """Drop what is smaller than the threshold (or what is not, *above*).

    Of the elements equal to it those up to place *last* of the row count as larger.
    """
    split = min(max(last + 1, 0), size)
    head, tail = row[:split], row[split:size]
    if above:
        for i in range(split):
            head[i] = head[i] if np.uint32(head[i] & MAGNITUDE) < threshold else np.uint32(0)
        for i in range(size - split):
            tail[i] = tail[i] if np.uint32(tail[i] & MAGNITUDE) <= threshold else np.uint32(0)
    else:
        for i in range(split):
            head[i] = head[i] if np.uint32(head[i] & MAGNITUDE) >= threshold else np.uint32(0)
        for i in range(size - split):
            tail[i] = tail[i] if np.uint32(tail[i] & MAGNITUDE) > threshold else np.uint32(0)


@rowwise
def multiply(value, size, ratio, weight):
    """value *= ratio, then *= weight."""
    if ratio != np.float32(1.0):
        for i in range(size):
            value[i] *= ratio
    for i in range(size):
        value[i] *= weight


@rowwise
def add(total, value, size):
    """total += value."""
    for i in range(size):
        total[i] += value[i]


@rowwise
def add_agreeing(merged, divisor, total, value, size, weight):
    """merged += value, divisor += weight, where value has the sign of total (+ where that is 0)."""
    zero = np.float32(0.0)
    for i in range(size):
        agrees = (value[i] > zero) & (total[i] >= zero) | (value[i] < zero) & (total[i] < zero)
        merged[i] += value[i] if agrees else zero
        divisor[i] += weight if agrees else zero


@rowwise
def divide(merged, divisor, size):
    """merged /= divisor, where that is not 0."""
    for i in range(size):
        merged[i] /= divisor[i] if divisor[i] != np.float32(0.0) else np.float32(1.0)


@rowwise
def add_scaled(total, base, merged, size, factor):
    """total = base + merged * factor."""
    for i in range(size):
        total[i] = base[i] + merged[i] * factor


def norms(
    inputs,
    stride,
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
        status = load_all(raw, stride, codes, models, 1, start, size, rounding, rows, values)
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


def histogram(inputs, stride, codes_at, models, count, rounding, scratch, low_at, shift, bins_at):
    """bins[m, (|d_m| bits - low[m]) >> shift] += 1 over all differences within the bins."""
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    low = carray(low_at, (models,), np.int64)
    bins = carray(bins_at, (models * BINS,), np.int64)
    rows, values = rows_of(scratch, models)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        status = load_all(raw, stride, codes, models, 1, start, size, rounding, rows, values)
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
    inputs, stride, codes_at, models, count, rounding, scratch, low_at, high_at, index,
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
        status = load_all(raw, stride, codes, models, 1, start, size, rounding, rows, values)
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


@rowwise
def magnitudes(row, size, highest):
    """Drop the signs, fill the row up with what is in no range, and count from *highest* on."""
    for i in range(size):
        row[i] = np.uint32(row[i] & MAGNITUDE)
    for i in range(size, (size + LANES - 1) // LANES * LANES):
        row[i] = np.uint32(0x80000000)
    larger = np.uint32(0)
    for i in range(size):
        larger = np.uint32(larger + np.uint32(row[i] >= highest))
    return np.int64(larger)


@rowwise
def collect(row, size, low, width, index, bits, places, at, room, filled):
    """Append the elements in a range and their places; return how many there are now."""
    for i in range(0, size, LANES):
        found = lanes_in_range(row, np.int64(i), low, width)
        while found:
            k = i + trailing_zeros(found)
            if filled < room:
                bits[at + filled] = row[k]
                places[at + filled] = index + k
            filled += 1
            found = np.uint32(found & np.uint32(found - np.uint32(1)))
    return filled


def consensus(
    inputs, stride, codes_at, models, count, rounding, scratch, kinds_at, settings_at, index,
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
        status = load_all(raw, stride, codes, models, 1, start, size, rounding, rows, values)
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
            add_scaled(total, base, total, size, factor)
        if store(rows[models * BLOCK : (models + 1) * BLOCK], size, out_code, out, start):
            return -1
    return 0
