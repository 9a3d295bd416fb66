"""Operations on the rows of a block, each a loop that LLVM vectorises. Imports the compiler."""

from __future__ import annotations

import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import (
    MAGNITUDE,
    bytes_at,
    float_of,
    inlined,
    keep_lanes,
    lanes_in_range,
    load,
    pointer_to,
    rowwise,
    trailing_zeros,
)
from miscible.merge.kernels.constants import (
    BLOCK,
    DELTA,
    EXACT,
    F32,
    HIGH,
    KEEP_ALL,
    KEEP_BAND,
    KEEP_MASK,
    KEEP_RANDOM,
    LANES,
)


@inlined
def rows_of(scratch, models):
    """Return the scratch as rows of bits, and as float32."""
    flat = carray(scratch, ((models + 3) * BLOCK,), np.uint32)
    return flat, flat.view(np.float32)


@inlined
def load_all(raw, stride, at, codes, models, origin, size, rounding, rows, values):
    """Fill row m with model m from element *at* on, or with its difference from row 0.

    Returns the status.
    """
    status = 0
    for m in range(models):
        code = codes[m] & 7
        width = 4 if code == F32 else 2
        row, value = rows[m * BLOCK : m * BLOCK + size], values[m * BLOCK : m * BLOCK + size]
        narrowed = 0 if codes[m] & (DELTA | EXACT) else rounding
        bad = load(raw, m * stride + at * width, code, size, narrowed, row, value)
        if bad and status == 0:
            status = m + 1
        if origin and m > 0 and not codes[m] & DELTA:
            base = values[:size]
            for i in range(size):
                value[i] -= base[i]
    return status


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
        key = np.uint32(settings[at + 1]) ^ np.uint32(high * np.uint32(HIGH))
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
def add_words(total, words, size, weight, first):
    """total += weight * x, or = where x is the first, of bfloat16 words."""
    if first:
        for i in range(size):
            total[i] = float_of(np.uint32(np.uint32(words[i]) << np.uint32(16))) * weight
    else:
        for i in range(size):
            total[i] += float_of(np.uint32(np.uint32(words[i]) << np.uint32(16))) * weight


@rowwise
def add_words_from(total, words, base, size, weight, first):
    """total += weight * (x - base), or = where x is the first, of bfloat16 words."""
    if first:
        for i in range(size):
            value = float_of(np.uint32(np.uint32(words[i]) << np.uint32(16)))
            total[i] = (value - base[i]) * weight
    else:
        for i in range(size):
            value = float_of(np.uint32(np.uint32(words[i]) << np.uint32(16)))
            total[i] += (value - base[i]) * weight


@rowwise
def add_weighted(total, value, size, weight, first):
    """total += weight * value, or = where it is the first."""
    if first:
        for i in range(size):
            total[i] = value[i] * weight
    else:
        for i in range(size):
            total[i] += value[i] * weight


@rowwise
def subtract(value, base, size):
    """value -= base."""
    for i in range(size):
        value[i] -= base[i]


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


@rowwise
def scale_onto(total, base, size, factor):
    """total = base + total * factor."""
    for i in range(size):
        total[i] = base[i] + total[i] * factor


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
