"""The program that draws by rank (DELLA): a bit an element. Imports the compiler.

The rank of an element in its row decides its probability, and only a draw between the lowest and
the highest probability needs the rank at all. Magnitudes are counted in bins, which bounds an
element's rank; where the draw falls between the bounds' probabilities, the bin is looked through.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from miscible.merge.kernels.blocks import (
    MAGNITUDE,
    bytes_at,
    inlined,
    load,
    pointer_to,
    rowwise,
)
from miscible.merge.kernels.constants import BLOCK, DELTA, EXACT, F32, HIGH, RANK_BINS
from miscible.merge.kernels.rows import rows_of, subtract, word_of

OCTAVES = np.uint32(12 << 23)
"""Bits that twelve powers of two span; what is smaller than the largest by more shares a bin."""
UNDECIDED = np.uint64(0x0202020202020202)
"""In eight flags: the bits of those whose rank must be counted."""


def ranks(
    inputs, stride, files, codes_at, models, count, rounding, scratch, width, densities_at,
    epsilons_at, keys_at, index, masks_at, work_at,
):  # fmt: skip
    """Set the bits of the elements that are kept, of every model that has a mask.

    A chunk holds whole rows of *width* elements and is in memory: *files* is not used.
    *work* has room for 3 width + RANK_BINS + 8 words.
    """
    raw = bytes_at(inputs, models * stride)
    codes = carray(codes_at, (models,), np.int64)
    densities = carray(densities_at, (models,), np.float64)
    epsilons = carray(epsilons_at, (models,), np.float64)
    keys, masks = carray(keys_at, (2 * models,), np.int64), carray(masks_at, (models,), np.int64)
    rows, values = rows_of(scratch, models)
    work = carray(work_at, (3 * width + RANK_BINS + 8,), np.uint32)
    row, draws, starts = work[:width], work[width : 2 * width], work[2 * width :]
    flags = work[(2 * width + RANK_BINS + 2) // 2 * 2 :].view(np.uint8)
    for start in range(0, count, width):
        for m in range(1, models):
            if masks[m] == 0:
                continue
            for piece in range(0, width, BLOCK):
                size = min(BLOCK, width - piece)
                for k in (0, m):
                    code = codes[k] & 7
                    offset = k * stride + (start + piece) * (4 if code == F32 else 2)
                    target = 0 if k == 0 else BLOCK
                    narrowed = 0 if codes[k] & (DELTA | EXACT) else rounding
                    bits, numbers = rows[target:], values[target:]
                    if load(raw, offset, code, size, narrowed, bits, numbers):
                        return k + 1
                if not codes[m] & DELTA:
                    subtract(values[BLOCK:], values, size)
                copy_magnitudes(row[piece:], rows[BLOCK:], size)
            place = index + start
            draw_words(draws, width, np.uint32(keys[2 * m]), np.uint32(keys[2 * m + 1]), place)
            floor = count_bins(row, width, starts)
            choose(row, draws, flags, width, floor, starts, densities[m], epsilons[m])
            pack(bytes_at(pointer_to(masks[m]), (place + width + 7) // 8), flags, width, place)
    return 0


@rowwise
def copy_magnitudes(row, bits, size):
    """Copy bits without their signs."""
    for i in range(size):
        row[i] = np.uint32(bits[i] & MAGNITUDE)


@rowwise
def draw_words(draws, width, key, other, place):
    """Fill in the words of a row that begins at element *place*."""
    filled = 0
    while filled < width:  # once, but where the lower half of the index begins again
        low = (place + filled) & 0xFFFFFFFF
        size = min(width - filled, 4294967296 - low)
        high = np.uint32(np.uint32((place + filled) >> 32) * np.uint32(HIGH))
        fill_words(draws[filled:], size, np.uint32(key ^ high), other, np.uint32(low))
        filled += size


@rowwise
def fill_words(draws, size, key, other, low):
    """Fill in words whose indices share their upper half."""
    for i in range(size):
        draws[i] = word_of(np.uint32(low + np.uint32(i)), key, other)


@rowwise
def largest_of(row, width):
    """Return the largest bits of a row."""
    largest = np.uint32(0)
    for i in range(width):
        largest = max(largest, row[i])
    return np.uint32(largest)


@inlined
def bin_of(bits, floor):
    """Return the bin of a magnitude; what lies below the floor is in the first."""
    return np.uint32(np.uint32(max(bits, floor) - floor) >> np.uint32(16))


@rowwise
def count_bins(row, width, starts):
    """Fill in the rank of the first element of every bin, and of what follows it.

    Returns the floor of the bins.
    """
    largest = largest_of(row, width)
    floor = np.uint32(largest - OCTAVES) if largest > OCTAVES else np.uint32(0)
    for b in range(RANK_BINS + 1):
        starts[b] = np.uint32(0)
    following = starts[1:]
    for i in range(width):
        following[bin_of(row[i], floor)] += np.uint32(1)
    rank = np.uint32(0)
    for b in range(RANK_BINS + 1):
        rank = np.uint32(rank + starts[b])
        starts[b] = rank
    return floor


@inlined
def limit_of(rank, width, density, epsilon):
    """Return the probability of a rank, times 2**32; a word below it is kept."""
    chance = density
    if width > 1:
        chance = density - epsilon + 2 * epsilon * rank / (width - 1)
    return chance * 4294967296.0


@rowwise
def rank_of(row, width, i):
    """Return the rank of element i: what is smaller, and what is equal before it."""
    bits = row[i]
    smaller = np.uint32(0)
    for j in range(width):
        smaller = np.uint32(smaller + np.uint32(row[j] < bits))
    for j in range(i):
        smaller = np.uint32(smaller + np.uint32(row[j] == bits))
    return np.int64(smaller)


@rowwise
def choose(row, draws, flags, width, floor, starts, density, epsilon):
    """Set the flag of every element whose draw is below the limit of its rank.

    The ranks of a bin bound it from both sides; where the draw falls between, the rank is counted.
    """
    lowest = limit_of(0, width, density, epsilon)
    step = (limit_of(width - 1, width, density, epsilon) - lowest) / max(width - 1, 1)
    following = starts[1:]
    # Without branches, which would be guessed wrong half of the time. A word of one is far more
    # than the rounding of this shorter formula.
    for i in range(width):
        b = bin_of(row[i], floor)
        draw = np.float64(draws[i])
        kept = np.uint8(draw < lowest + step * np.float64(starts[b]) - 1.0)
        possible = np.uint8(draw < lowest + step * np.float64(following[b]) + 1.0)
        flags[i] = kept | np.uint8((kept ^ possible) << np.uint8(1))
    for i in range(width, (width + 7) // 8 * 8):
        flags[i] = np.uint8(0)
    eights = flags[: (width + 7) // 8 * 8].view(np.uint64)
    for k in range((width + 7) // 8):
        if eights[k] & UNDECIDED:
            for i in range(8 * k, min(8 * k + 8, width)):
                if flags[i] == 2:
                    limit = limit_of(rank_of(row, width, i), width, density, epsilon)
                    flags[i] = np.uint8(np.float64(draws[i]) < limit)


@rowwise
def pack(mask, flags, width, place):
    """Join flags to the bits of a mask from bit *place* on, which are 0 so far."""
    done = min(-place % 8, width)
    for i in range(done):
        mask[(place + i) >> 3] |= np.uint8(flags[i] << np.uint8((place + i) & 7))
    whole = (width - done) // 8
    target, source = mask[(place + done) >> 3 :], flags[done:]
    for k in range(whole):
        byte = np.uint32(0)
        for j in range(8):
            byte |= np.uint32(source[8 * k + j]) << np.uint32(j)
        target[k] = np.uint8(byte)
    for i in range(done + 8 * whole, width):
        mask[(place + i) >> 3] |= np.uint8(flags[i] << np.uint8((place + i) & 7))
