"""The program that draws by rank (DELLA): a bit an element. Imports the compiler.

The rank of an element in its row decides its probability, and only a draw between the lowest and
the highest probability needs the rank at all. Magnitudes are counted in bins, which bounds an
element's rank; where the draw falls between the bounds' probabilities, the bin is looked through.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import MAGNITUDE, bytes_at, load, pointer_to, rowwise
from miscible.merge.kernels.constants import BLOCK, DELTA, F32, RANK_BINS
from miscible.merge.kernels.programs import rows_of, word_of

OCTAVES = np.uint32(12 << 23)
"""Bits that twelve powers of two span; what is smaller than the largest by more shares a bin."""


def ranks(
    inputs, stride, codes_at, models, count, rounding, scratch, width, densities_at, epsilons_at,
    keys_at, index, masks_at, work_at,
):  # fmt: skip
    """Set the bits of the elements that are kept, of every model that has a mask.

    A chunk holds whole rows of *width* elements. *work* has room for 2 width + 2 RANK_BINS words.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    densities = carray(densities_at, (models,), np.float64)
    epsilons = carray(epsilons_at, (models,), np.float64)
    keys, masks = carray(keys_at, (2 * models,), np.int64), carray(masks_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    work = carray(work_at, (2 * width + 2 * RANK_BINS,), np.uint32)
    row, draws = work[:width], work[width : 2 * width]
    starts, sizes = work[2 * width : 2 * width + RANK_BINS], work[2 * width + RANK_BINS :]
    for start in range(0, count, width):
        for m in range(1, models):
            if masks[m] == 0:
                continue
            for piece in range(0, width, BLOCK):
                size = min(BLOCK, width - piece)
                for k in (0, m):
                    code = codes[k] & 7
                    exact = codes[k] >= DELTA
                    offset = k * stride + (start + piece) * (4 if code == F32 else 2)
                    target = 0 if k == 0 else BLOCK
                    narrowed = 0 if exact else rounding
                    bits, numbers = rows[target:], values[target:]
                    if load(raw, offset, code, size, narrowed, bits, numbers):
                        return k + 1
                if codes[m] < DELTA:
                    subtract(values[BLOCK:], values, size)
                copy_magnitudes(row[piece:], rows[BLOCK:], size)
            place = index + start
            key = np.uint32(np.uint32(keys[2 * m]) ^ np.uint32((place >> 32) * 0x85EBCA6B))
            draw_words(draws, width, key, np.uint32(keys[2 * m + 1]), np.uint32(place))
            floor = count_bins(row, width, starts, sizes)
            mask = bytes_at(pointer_to(masks[m]), (place + width + 7) // 8)
            choose(row, draws, width, starts, sizes, floor, densities[m], epsilons[m], mask, place)
    return 0


@rowwise
def subtract(value, base, size):
    """value -= base."""
    for i in range(size):
        value[i] -= base[i]


@rowwise
def copy_magnitudes(row, bits, size):
    """Copy bits without their signs."""
    for i in range(size):
        row[i] = np.uint32(bits[i] & MAGNITUDE)


@rowwise
def draw_words(draws, width, key, other, low):
    """Fill in the words of a row."""
    for i in range(width):
        draws[i] = word_of(np.uint32(low + np.uint32(i)), key, other)


@rowwise
def largest_of(row, width):
    """Return the largest bits of a row."""
    largest = np.uint32(0)
    for i in range(width):
        largest = max(largest, row[i])
    return np.uint32(largest)


@rowwise
def bin_of(bits, floor):
    """Return the bin of a magnitude; what lies below the floor is in the first."""
    return np.int64(bits - floor) >> np.int64(16) if bits > floor else np.int64(0)


@rowwise
def count_bins(row, width, starts, sizes):
    """Count the elements in and below every bin; return the floor of the bins."""
    largest = largest_of(row, width)
    floor = np.uint32(largest - OCTAVES) if largest > OCTAVES else np.uint32(0)
    for b in range(RANK_BINS):
        sizes[b] = np.uint32(0)
    for i in range(width):
        sizes[bin_of(row[i], floor)] += np.uint32(1)
    below = np.uint32(0)
    for b in range(RANK_BINS):
        starts[b] = below
        below = np.uint32(below + sizes[b])
    return floor


@rowwise
def rank_within(row, width, i, floor, start):
    """Return the rank of element i: what is smaller, and what is equal before it."""
    wanted, bits = bin_of(row[i], floor), row[i]
    rank = np.int64(start)
    for j in range(width):
        if bin_of(row[j], floor) == wanted and (row[j] < bits or (row[j] == bits and j < i)):
            rank += 1
    return rank


@rowwise
def choose(row, draws, width, starts, sizes, floor, density, epsilon, mask, place):
    """Set the bit of every element whose draw is below the probability of its rank."""
    whole = 4294967296.0
    for i in range(width):
        draw = np.float64(draws[i])
        if width == 1:
            kept = draw < density * whole
        else:
            b = bin_of(row[i], floor)
            first = np.int64(starts[b])
            last = first + np.int64(sizes[b]) - 1
            step = width - 1
            if draw < (density - epsilon + 2 * epsilon * first / step) * whole:
                kept = True
            elif not draw < (density - epsilon + 2 * epsilon * last / step) * whole:
                kept = False
            else:
                rank = rank_within(row, width, i, floor, first)
                kept = draw < (density - epsilon + 2 * epsilon * rank / step) * whole
        if kept:
            at = place + i
            mask[at >> 3] |= np.uint8(1 << (at & 7))
