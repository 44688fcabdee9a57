"""Pixels: images kept as bytes, u, that stand for the numbers u / 255.

The softmax kernels take rows of them as `fedmpi.local.columns.sparse.Pixels`; other compiled code reads them as
float32 or float64 after `widen`.  (`columns.pixels` has the same in NumPy, and tells which numbers can be kept so.)
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import Value, Vectors, emitter
from fedmpi.local.numba_parts.lowering import cgutils


@jit
def widen(data: Any, out: Any) -> None:
    """Write u / 255, divided in float64 and rounded once to the dtype of `out`, for each byte u of `data`.

    `out` is float32 or float64, of the size of `data`.
    """
    if data.size != out.size:
        raise ValueError("widen: data and out must have one size")
    widen_flat(data.reshape(-1), out.reshape(-1))


@intrinsic
def widen_flat(typing: Any, data: Any, out: Any) -> Any:
    """As `widen`, of 1-D arrays.

    With high + low = 1/255 to twice the precision, u * high + u * low, where the second product alone is rounded before
    the sum, is the correctly rounded quotient for all u in 0..255 (tested).
    """
    high = float(np.float32(1 / 255)) if out.dtype is types.float32 else 1 / 255
    low = float(Fraction(1, 255) - Fraction(high))

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        data, out = values
        source, target = v.pointer(kinds[0], data, v.index(0)), v.pointer(kinds[1], out, v.index(0))
        count = v.shape(kinds[1], out)[0]
        whole = builder.and_(count, v.index(-v.lanes))

        def quotient(bytes_: Value, kind: Any) -> Value:
            numbers = builder.uitofp(bytes_, kind)
            factor, rest = (ir.Constant(kind, c) if kind == v.element else v.constant(c) for c in (high, low))
            return v.fma(numbers, factor, builder.fmul(numbers, rest))

        with cgutils.for_range_slice(builder, v.index(0), whole, v.index(v.lanes), ir.IntType(64)) as (i, _):
            kind = ir.VectorType(ir.IntType(8), v.lanes)
            part = builder.load(builder.bitcast(v.at(source, i), kind.as_pointer()), align=1)
            v.store(quotient(part, v.type), v.at(target, i))
        with cgutils.for_range_slice(builder, whole, count, v.index(1), ir.IntType(64)) as (i, _):
            builder.store(quotient(builder.load(v.at(source, i)), v.element), v.at(target, i))

    return emitter(out.dtype, (data, out), types.void, emit)
