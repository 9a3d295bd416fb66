"""Inlined parts of the programs: raw bytes to float32 rows, and back. Imports the compiler."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import carray

from miscible.merge.kernels.constants import BF16, F16, LANES

inlined: Any = numba.njit(inline="always", error_model="numpy")
rowwise: Any = numba.njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""A loop over one row that LLVM sees alone, which is what it needs to vectorise it."""
EXPONENT = np.uint32(0x7F800000)
MAGNITUDE = np.uint32(0x7FFFFFFF)
BF16_INFINITY, F16_INFINITY = np.uint16(0x7F80), np.uint16(0x7C00)


# Numba computes with whole numbers in 64 bits, which halves what a vector holds: every step is
# narrowed by hand.


@rowwise
def load(raw, offset, code, size, rounding, row, values):
    """Read *size* elements at byte *offset* into a row (*values* is its float32 view).

    Returns 1 if one is NaN or infinite. *rounding* first rounds to a narrower dtype.
    """
    bad = False
    if code == BF16:
        words = raw[offset : offset + 2 * size].view(np.uint16)
        for i in range(size):
            row[i] = widened(words[i])
        bad = largest_word(words, size) >= BF16_INFINITY
    elif code == F16:
        words = raw[offset : offset + 2 * size].view(np.uint16)
        unpack_f16(words, size, row, values)
        bad = largest_word(words, size) >= F16_INFINITY
    else:
        words32 = raw[offset : offset + 4 * size].view(np.uint32)
        for i in range(size):
            row[i] = words32[i]
        bad = largest_size(row, size) >= EXPONENT
    if rounding == BF16:
        for i in range(size):
            row[i] = widened(bf16_bits(row[i]))
    elif rounding == F16:
        for i in range(size):
            row[i] = f16_bits(row[i])
        bad |= largest_word(row, size) >= F16_INFINITY
        unpack_f16(row, size, row, values)
    return np.uint32(bad)


@rowwise
def store(row, size, code, out, offset):
    """Round a row to *code* at element *offset* of *out*; return 1 if a result is not finite."""
    if code == BF16:
        words = out[2 * offset : 2 * (offset + size)].view(np.uint16)
        for i in range(size):
            words[i] = np.uint16(bf16_bits(row[i]))
        return np.uint32(largest_word(words, size) >= BF16_INFINITY)
    if code == F16:
        words = out[2 * offset : 2 * (offset + size)].view(np.uint16)
        for i in range(size):
            words[i] = np.uint16(f16_bits(row[i]))
        return np.uint32(largest_word(words, size) >= F16_INFINITY)
    words32 = out[4 * offset : 4 * (offset + size)].view(np.uint32)
    for i in range(size):
        words32[i] = row[i]
    return np.uint32(largest_size(row, size) >= EXPONENT)


@inlined
def widened(word):
    """Return the float32 bits of a bfloat16 word."""
    return np.uint32(np.uint32(word) << np.uint32(16))


@inlined
def unpack_f16(words, size, row, values):
    """Turn float16 words into float32 rows; *words* may be the row itself."""
    for i in range(size):
        bits = np.uint32(words[i])
        sign = np.uint32(np.uint32(bits & np.uint32(0x8000)) << np.uint32(16))
        exponent_and_fraction = np.uint32(np.uint32(bits & np.uint32(0x7FFF)) << np.uint32(13))
        # 2**112 moves the exponent, exactly; infinity and NaN become 65536 and more.
        moved = float_of(exponent_and_fraction) * np.float32(5.192296858534828e33)
        values[i] = -moved if sign else moved


@inlined
def largest_word(words, size):
    """Return the largest of words of 16 bits without their signs."""
    largest = np.uint16(0)
    for i in range(size):
        word = np.uint16(words[i] & np.uint16(0x7FFF))
        largest = word if word > largest else largest
    return largest


@inlined
def largest_size(row, size):
    """Return the largest of float32 bits without their signs."""
    largest = np.uint32(0)
    for i in range(size):
        bits = np.uint32(row[i] & MAGNITUDE)
        largest = bits if bits > largest else largest
    return largest


@inlined
def bf16_bits(bits):
    """Round float32 bits to bfloat16 bits, to nearest, ties to even."""
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@inlined
def f16_bits(bits):
    """Round float32 bits to float16 bits, to nearest, ties to even; too large gives infinity."""
    sign = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
    size = np.uint32(bits & MAGNITUDE)
    odd = np.uint32(np.uint32(size >> np.uint32(13)) & np.uint32(1))
    normal = np.uint32(np.uint32(size + np.uint32(0xC8000FFF) + odd) >> np.uint32(13))
    # Below 2**-14 the spacing is constant: count units of 2**-24, rounded half to even.
    units = float_of(size) * np.float32(16777216.0)
    small = np.uint32(np.rint(units)) if size < np.uint32(0x38800000) else np.uint32(0)
    finite = small if size < np.uint32(0x38800000) else normal
    return np.uint32(sign | (np.uint32(0x7C00) if size >= np.uint32(0x477FF000) else finite))


def _lane_sums(terms: tuple[str, ...]) -> Any:
    # Written in LLVM's own terms: a loop of Python's would be reordered or not be vectorised.
    # A term is two letters of x and y for their product, or "|x|".
    @numba.extending.intrinsic
    def lane_sums(typing_context, x, y, size):
        from llvmlite import ir
        from numba.core import cgutils

        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(ir.FloatType(), LANES)
            # Products of float32 numbers are exact in float64: angles are told from their sums,
            # and a product may be fused with its sum, which alone is rounded.
            wide = ir.FloatType() if terms == ("|x|",) else ir.DoubleType()
            sums, fused = ir.VectorType(wide, LANES), ("contract",)
            pointers = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
            ]
            zeros = ir.Constant(sums, [0.0] * LANES)
            totals = [cgutils.alloca_once_value(builder, zeros) for _ in terms]
            steps = builder.sdiv(arguments[2], ir.Constant(arguments[2].type, LANES))
            with cgutils.for_range(builder, steps) as loop:
                place = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
                rows = {
                    name: builder.load(
                        builder.bitcast(builder.gep(p, [place]), vector.as_pointer()), align=4
                    )
                    for name, p in zip("xy", pointers, strict=True)
                }
                if terms == ("|x|",):  # without the signs
                    whole = ir.VectorType(ir.IntType(32), LANES)
                    mask = ir.Constant(whole, [0x7FFFFFFF] * LANES)
                    size = builder.and_(builder.bitcast(rows["x"], whole), mask)
                    found = [builder.bitcast(size, vector)]
                else:
                    held = {name: builder.fpext(row, sums) for name, row in rows.items()}
                    found = [builder.fmul(held[t[0]], held[t[1]], flags=fused) for t in terms]
                for total, term in zip(totals, found, strict=True):
                    builder.store(builder.fadd(builder.load(total), term, flags=fused), total)
            results = [_sum_of_lanes(builder, builder.load(total)) for total in totals]
            if len(results) == 1:
                return results[0]
            return context.make_tuple(builder, signature.return_type, results)

        doubles = [numba.float64] * len(terms)
        returned = doubles[0] if len(terms) == 1 else numba.types.UniTuple(doubles[0], len(terms))
        return returned(x, y, numba.int64), generate

    return lane_sums


def _sum_of_lanes(builder: Any, lanes: Any) -> Any:
    from llvmlite import ir

    result = ir.Constant(ir.DoubleType(), 0.0)
    for k in range(LANES):
        lane = builder.extract_element(lanes, ir.Constant(ir.IntType(32), k))
        if lane.type != result.type:
            lane = builder.fpext(lane, result.type)
        result = builder.fadd(result, lane)
    return result


_products, _sizes = _lane_sums(("xy",)), _lane_sums(("|x|",))
_pair_products = _lane_sums(("xx", "xy", "yy"))


@inlined
def lane_products(x, y, size):
    """Return sum x y over a row that is filled up with zeros to a multiple of `LANES`."""
    return _products(x, y, np.int64((size + LANES - 1) // LANES * LANES))


@inlined
def pair_products(x, y, size):
    """Return sum x x, x y, y y, each equal to what `lane_products` gives."""
    return _pair_products(x, y, np.int64((size + LANES - 1) // LANES * LANES))


@inlined
def lane_sizes(x, size):
    """Return sum |x| over a row that is filled up with zeros to a multiple of `LANES`."""
    return _sizes(x, x, np.int64((size + LANES - 1) // LANES * LANES))


@numba.extending.intrinsic
def float_of(typing_context, bits):
    """Return the float32 with these bits."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return numba.float32(numba.uint32), generate


@numba.extending.intrinsic
def lanes_in_range(typing_context, row, place, low, width):
    """Return a bit for each of `LANES` elements from *place* on: low <= element < low + width."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        whole, mask = ir.VectorType(ir.IntType(32), LANES), ir.IntType(LANES)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        start = builder.bitcast(builder.gep(data, [arguments[1]]), whole.as_pointer())
        elements = builder.load(start, align=4)

        def everywhere(scalar):
            held = builder.insert_element(
                ir.Constant(whole, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
            return builder.shuffle_vector(held, ir.Constant(whole, ir.Undefined), zeros)

        above = builder.sub(elements, everywhere(arguments[2]))
        inside = builder.icmp_unsigned("<", above, everywhere(arguments[3]))
        return builder.bitcast(inside, mask)

    return numba.uint32(row, numba.int64, numba.uint32, numba.uint32), generate


@numba.extending.intrinsic
def keep_lanes(typing_context, row, place, bits):
    """Set to 0 those of `LANES` elements from *place* on whose bit is 0."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        whole, mask = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(1), LANES)
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        start = builder.bitcast(builder.gep(data, [arguments[1]]), whole.as_pointer())
        zeros = ir.Constant(whole, [0] * LANES)
        kept = builder.select(
            builder.bitcast(arguments[2], mask), builder.load(start, align=4), zeros
        )
        builder.store(kept, start, align=4)
        return context.get_dummy_value()

    return numba.none(row, numba.int64, numba.uint32), generate


@numba.extending.intrinsic
def trailing_zeros(typing_context, bits):
    """Return the number of the lowest bit that is set."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        count = builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
        return builder.zext(count, ir.IntType(64))

    return numba.int64(numba.uint32), generate


@numba.extending.intrinsic
def pointer_to(typing_context, address):
    """Return an integer as a pointer."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return numba.types.voidptr(numba.int64), generate


@numba.extending.intrinsic
def address_of(typing_context, pointer):
    """Return a pointer as an integer."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return numba.int64(numba.types.voidptr), generate


@inlined
def bytes_at(pointer, size):
    """Return the bytes at a pointer as an array."""
    return carray(pointer, (size,), np.uint8)
