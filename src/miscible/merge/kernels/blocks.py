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


@rowwise
def load(raw, offset, code, size, rounding, row, values):
    """Read *size* elements at byte *offset* into a row (*values* is its float32 view).

    Returns 1 if one is NaN or infinite. *rounding* first rounds to a narrower dtype.
    """
    bad = np.uint32(0)
    if code == BF16:
        words = raw[offset : offset + 2 * size].view(np.uint16)
        for i in range(size):
            bits = np.uint32(words[i]) << np.uint32(16)
            bad |= np.uint32((bits & EXPONENT) == EXPONENT)
            row[i] = bits
    elif code == F16:
        words = raw[offset : offset + 2 * size].view(np.uint16)
        for i in range(size):
            bits = np.uint32(words[i])
            bad |= np.uint32((bits & np.uint32(0x7C00)) == np.uint32(0x7C00))
            row[i] = (bits & np.uint32(0x7FFF)) << np.uint32(13)
        for i in range(size):
            values[i] *= np.float32(5.192296858534828e33)  # 2**112 moves the exponent, exactly
        for i in range(size):
            row[i] |= (np.uint32(words[i]) & np.uint32(0x8000)) << np.uint32(16)
    else:
        words32 = raw[offset : offset + 4 * size].view(np.uint32)
        for i in range(size):
            bad |= np.uint32((words32[i] & EXPONENT) == EXPONENT)
            row[i] = words32[i]
    if rounding == BF16:
        for i in range(size):
            row[i] = bf16_bits(row[i]) << np.uint32(16)
    elif rounding == F16:
        for i in range(size):
            bits = f16_bits(row[i])
            row[i] = (bits & np.uint32(0x7FFF)) << np.uint32(13)
            bad |= np.uint32((bits & np.uint32(0x7C00)) == np.uint32(0x7C00))
            values[i] *= np.float32(5.192296858534828e33)
            row[i] |= (bits & np.uint32(0x8000)) << np.uint32(16)
    return bad


@rowwise
def store(row, size, code, out, offset):
    """Round a row to *code* at element *offset* of *out*; return 1 if a result is not finite."""
    bad = np.uint32(0)
    if code == BF16:
        words = out[2 * offset : 2 * (offset + size)].view(np.uint16)
        for i in range(size):
            bits = bf16_bits(row[i])
            bad |= np.uint32((bits & np.uint32(0x7F80)) == np.uint32(0x7F80))
            words[i] = np.uint16(bits)
    elif code == F16:
        words = out[2 * offset : 2 * (offset + size)].view(np.uint16)
        for i in range(size):
            bits = f16_bits(row[i])
            bad |= np.uint32((bits & np.uint32(0x7C00)) == np.uint32(0x7C00))
            words[i] = np.uint16(bits)
    else:
        words32 = out[4 * offset : 4 * (offset + size)].view(np.uint32)
        for i in range(size):
            bad |= np.uint32((row[i] & EXPONENT) == EXPONENT)
            words32[i] = row[i]
    return bad


@inlined
def bf16_bits(bits):
    """Round float32 bits to bfloat16 bits, to nearest, ties to even."""
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint32(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@inlined
def f16_bits(bits):
    """Round float32 bits to float16 bits, to nearest, ties to even; too large gives infinity."""
    sign = (bits >> np.uint32(16)) & np.uint32(0x8000)
    size = bits & MAGNITUDE
    odd = (size >> np.uint32(13)) & np.uint32(1)
    normal = (size + np.uint32(0xC8000FFF) + odd) >> np.uint32(13)
    # Below 2**-14 the spacing is constant: count units of 2**-24, rounded half to even.
    units = float_of(size) * np.float32(16777216.0)
    small = np.uint32(np.rint(units)) if size < np.uint32(0x38800000) else np.uint32(0)
    finite = small if size < np.uint32(0x38800000) else normal
    return sign | (np.uint32(0x7C00) if size >= np.uint32(0x477FF000) else finite)


def _lane_sum(sizes: bool) -> Any:
    # Written in LLVM's own terms: a loop of Python's would be reordered or not be vectorised.
    @numba.extending.intrinsic
    def lane_sum(typing_context, x, y, size):
        from llvmlite import ir
        from numba.core import cgutils

        def generate(context, builder, signature, arguments):
            vector = ir.VectorType(ir.FloatType(), LANES)
            # Products of float32 numbers are exact in float64: angles are told from their sums.
            wide = ir.FloatType() if sizes else ir.DoubleType()
            sums = ir.VectorType(wide, LANES)
            pointers = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
            ]
            total = cgutils.alloca_once_value(builder, ir.Constant(sums, [0.0] * LANES))
            steps = builder.sdiv(arguments[2], ir.Constant(arguments[2].type, LANES))
            with cgutils.for_range(builder, steps) as loop:
                place = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
                a, b = (
                    builder.load(
                        builder.bitcast(builder.gep(p, [place]), vector.as_pointer()), align=4
                    )
                    for p in pointers
                )
                if sizes:  # without the signs
                    whole = ir.VectorType(ir.IntType(32), LANES)
                    mask = ir.Constant(whole, [0x7FFFFFFF] * LANES)
                    term = builder.bitcast(builder.and_(builder.bitcast(a, whole), mask), vector)
                else:
                    term = builder.fmul(builder.fpext(a, sums), builder.fpext(b, sums))
                builder.store(builder.fadd(builder.load(total), term), total)
            lanes = builder.load(total)
            result = ir.Constant(ir.DoubleType(), 0.0)
            for k in range(LANES):
                lane = builder.extract_element(lanes, ir.Constant(ir.IntType(32), k))
                term = builder.fpext(lane, ir.DoubleType()) if sizes else lane
                result = builder.fadd(result, term)
            return result

        return numba.float64(x, y, numba.int64), generate

    return lane_sum


_products, _sizes = _lane_sum(False), _lane_sum(True)


@inlined
def lane_products(x, y, size):
    """Return sum x y over a row that is filled up with zeros to a multiple of `LANES`."""
    return _products(x, y, np.int64((size + LANES - 1) // LANES * LANES))


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


@inlined
def bytes_at(pointer, size):
    """Return the bytes at a pointer as an array."""
    return carray(pointer, (size,), np.uint8)
