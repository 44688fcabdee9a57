"""Explicit vectors for the kernels: what LLVM is told to do, rather than what its vectoriser may find.

Every function here becomes a few LLVM instructions in the function that calls it.  Vectors and fused multiply-adds are
written out and `fastmath` is off, so the order of each sum stands in the text: the bits do not depend on where the code
is inlined, nor on the place of a row in its batch, only on the width of the machine's vectors (64, 32 or 16 bytes).

Arrays are C-contiguous, float32 or float64, all of one dtype; indices are not checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.numba_parts.lowering import cgutils


def _vector_bytes() -> int:
    features = numba.config.CPU_FEATURES or llvmlite.binding.get_host_cpu_features().flatten()
    return 64 if "+avx512f" in features else 32 if "+avx2" in features else 16


VECTOR = _vector_bytes()
# Registers: ROWS * CLASSES sums, and SPANS * CLASSES sums, with their operands fit 32 (64-byte vectors) or 16 of them.
CLASSES = 5
ROWS = SPANS = 4 if VECTOR == 64 else 2

Value = Any  # an LLVM value


class Vectors:
    """Builds operations on vectors of one element type; positions are LLVM integers that count elements."""

    def __init__(self, context: Any, builder: Any, dtype: Any, lanes: int = 0) -> None:
        self.context, self.builder = context, builder
        self.element = context.get_value_type(dtype)
        self.bytes = dtype.bitwidth // 8
        self.lanes = lanes or VECTOR // self.bytes
        self.type = ir.VectorType(self.element, self.lanes)
        self.zero = self.constant(0.0)

    def constant(self, value: float) -> Value:
        return ir.Constant(self.type, [value] * self.lanes)

    def index(self, value: int) -> Value:
        return ir.Constant(ir.IntType(64), value)

    def pointer(self, array_type: Any, array: Value, *indices: Value) -> Value:
        """The address of an element of a 1-D or 2-D array."""
        view = self.context.make_array(array_type)(self.context, self.builder, array)
        position = indices[-1]
        if len(indices) == 2:
            width = self.shape(array_type, array)[1]
            position = self.builder.add(self.builder.mul(indices[0], width), position)
        return self.builder.gep(view.data, [position])

    def shape(self, array_type: Any, array: Value) -> Any:
        view = self.context.make_array(array_type)(self.context, self.builder, array)
        return cgutils.unpack_tuple(self.builder, view.shape)

    def at(self, pointer: Value, position: Value) -> Value:
        return self.builder.gep(pointer, [position])

    def load_piece(self, pointer: Value) -> Value:
        """The 16 bytes at `pointer`."""
        kind = ir.VectorType(self.element, self.piece)
        return self.builder.load(self.builder.bitcast(pointer, kind.as_pointer()), align=self.bytes)

    def load(self, pointer: Value, count: Value | None = None) -> Value:
        """A vector from memory; of its first `count` elements only, and zeros, where `count` is given."""
        source = self.builder.bitcast(pointer, self.type.as_pointer())
        if count is None:
            return self.builder.load(source, align=self.bytes)
        arguments = [source, ir.IntType(32)(self.bytes), self.mask(count), self.zero]
        return self._call("llvm.masked.load.{}.p0", self.type, self.type, arguments)

    def store(self, vector: Value, pointer: Value, count: Value | None = None) -> None:
        target = self.builder.bitcast(pointer, vector.type.as_pointer())
        if count is None:
            self.builder.store(vector, target, align=self.bytes)
        else:
            arguments = [vector, target, ir.IntType(32)(self.bytes), self.mask(count)]
            self._call("llvm.masked.store.{}.p0", self.type, ir.VoidType(), arguments)

    def mask(self, count: Value) -> Value:
        """True in the first `count` lanes, count < 2^31."""
        word = ir.IntType(32)
        numbers = ir.Constant(ir.VectorType(word, self.lanes), list(range(self.lanes)))
        return self.builder.icmp_signed("<", numbers, self.splat(self.builder.trunc(count, word)))

    def splat(self, value: Value) -> Value:
        kind = ir.VectorType(value.type, self.lanes)
        one = self.builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.IntType(32)(0))
        return self.shuffle(one, one, [0] * self.lanes)

    def shuffle(self, a: Value, b: Value, order: list[int]) -> Value:
        """Elements of `a` and `b`, counted through both, in the given order."""
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, rounded once, of vectors or scalars."""
        return self._call("llvm.fma.{}", a.type, a.type, [a, b, c])

    def converted(self, vector: Value, to: Vectors) -> Value:
        """The same numbers as elements of another type."""
        if to.bytes == self.bytes:
            return vector
        return (self.builder.fpext if to.bytes > self.bytes else self.builder.fptrunc)(vector, to.type)

    def exp(self, x: Value) -> Value:
        """exp(x) where x <= 0, to 1 ulp; 0 where that would be subnormal; nan of nan.

        x = n ln 2 + r with |r| <= ln(2)/2: the Taylor polynomial of exp(r), times 2^n put together from its bits.
        """
        builder, single = self.builder, self.bytes == 4
        fraction, degree, smallest = (23, 7, -87.3) if single else (52, 13, -708.3)
        high = float(np.float32(math.log(2))) if single else math.log(2)
        low = math.log(2) - high if single else 2.3190468138462996e-17  # ln 2 is high + low
        shifter = self.constant(1.5 * 2.0**fraction)  # adding it leaves the nearest integer in the last bits
        shifted = self.fma(x, self.constant(1 / math.log(2)), shifter)
        n = builder.fsub(shifted, shifter)
        r = self.fma(n, self.constant(-low), self.fma(n, self.constant(-high), x))
        series = self.constant(1 / math.factorial(degree))
        for k in reversed(range(degree)):
            series = self.fma(series, r, self.constant(1 / math.factorial(k)))
        words = ir.VectorType(ir.IntType(8 * self.bytes), self.lanes)
        one = ((1 << (8 * self.bytes - 2 - fraction)) - 1) << fraction  # the bits of 1.0
        exponent = builder.shl(builder.bitcast(shifted, words), ir.Constant(words, [fraction] * self.lanes))
        power = builder.bitcast(builder.add(exponent, ir.Constant(words, [one] * self.lanes)), self.type)
        tiny = builder.fcmp_ordered("<", x, self.constant(smallest))
        return builder.select(tiny, self.zero, builder.fmul(series, power))

    def fold(self, vectors: list[Value]) -> Value:
        """The sum of each vector, as one vector.  Halves are added to halves: all sums have one order of additions.

        `vectors` are a power of two in number, at most as many as a vector has lanes.
        """
        half, count = self.lanes // 2, len(vectors)
        while half:
            pairs = list(zip(vectors[::2], vectors[1::2], strict=True)) if len(vectors) > 1 else [(vectors[0],) * 2]
            vectors = [self._fold_pair(a, b, half) for a, b in pairs]
            half //= 2
        bits = count.bit_length() - 1
        reverse = [sum(self.lanes >> (bit + 1) for bit in range(bits) if i >> bit & 1) for i in range(count)]
        return self.shuffle(vectors[0], vectors[0], reverse)

    def _fold_pair(self, a: Value, b: Value, half: int) -> Value:
        """In lanes whose bit `half` is 0 the two lanes of `a` that differ in it, added; in the others those of `b`."""
        origin = [lane + self.lanes if lane & half else lane for lane in range(self.lanes)]
        return self.builder.fadd(self.shuffle(a, b, origin), self.shuffle(a, b, [lane ^ half for lane in origin]))

    @property
    def piece(self) -> int:
        """The elements of 16 bytes, within which shuffles are cheapest."""
        return int(16 // self.bytes)

    def turned_pieces(self, rows: list[Value]) -> list[Value]:
        """Transpose, in each 16 bytes, as many vectors as those have elements: by interleaving halves, log2 times."""
        p = self.piece
        for _ in range(p.bit_length() - 1):
            halves = [
                [
                    base + half * p // 2 + i // 2 + self.lanes * (i % 2)
                    for base in range(0, self.lanes, p)
                    for i in range(p)
                ]
                for half in (0, 1)
            ]
            pairs = list(zip(rows[: p // 2], rows[p // 2 :], strict=True))
            rows = [self.shuffle(a, b, half) for a, b in pairs for half in halves]
        return rows

    def joined(self, parts: list[Value]) -> Value:
        """The vectors of `parts`, a power of two in number, one behind the other."""
        while len(parts) > 1:
            order = list(range(2 * parts[0].type.count))
            parts = [self.shuffle(a, b, order) for a, b in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _call(self, operation: str, of: Any, result: Any, arguments: list[Value]) -> Value:
        """Call LLVM's intrinsic `operation`; the braces in its name stand for the type `of`."""
        suffix = f"v{self.lanes}f{8 * self.bytes}" if isinstance(of, ir.VectorType) else f"f{8 * self.bytes}"
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, kind, operation.format(suffix))
        return self.builder.call(function, arguments)


def emitter(dtype: Any, parameters: tuple[Any, ...], result: Any, emit: Callable[..., Value]) -> Any:
    """The signature and the code generator of an intrinsic: `emit(vectors, builder, types, values)`."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Value:
        made = emit(Vectors(context, builder, dtype), builder, signature.args, values)
        return context.get_dummy_value() if made is None else made

    return result(*parameters), generate


@intrinsic
def lanes(typing: Any, array: Any) -> Any:
    """How many elements of this array's dtype a vector has: a constant."""

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        return v.index(v.lanes)

    return emitter(array.dtype, (array,), types.intp, emit)


@intrinsic
def piece(typing: Any, array: Any) -> Any:
    """How many elements of this array's dtype 16 bytes have: a constant."""

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        return v.index(v.piece)

    return emitter(array.dtype, (array,), types.intp, emit)
