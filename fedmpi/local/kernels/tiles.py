"""The inner loops of products with a narrow matrix, in explicit vectors (`fedmpi.local.jit.simd`).

The matrix of d features and few classes is held class-major, by_class[c, k], so that a vector holds consecutive
features: the lanes are full whatever the number of classes, and one load serves several multiply-adds.  Classes are
taken `CLASSES` at a time; class-major arrays and those of scores have `padded` sizes, and what stands in the padding is
never read as a result.

x[n, d], by_class and sums[padded classes, padded d], scores and slopes[padded classes, padded rows]: C-contiguous, one
dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import CLASSES, ROWS, SPANS, VECTOR, Value, Vectors, emitter
from fedmpi.local.numba_parts.lowering import cgutils

INDEX = types.intp


@jit
def padded(size: int, unit: int) -> int:
    """The least multiple of `unit` that is not less than `size`."""
    return (size + unit - 1) // unit * unit


@jit
def aligned(rows: int, columns: int, like: Any) -> Any:
    """A new array of `like`'s dtype, not initialised, that begins where vectors begin."""
    room = np.empty(rows * columns + VECTOR // like.itemsize, like.dtype)
    start = -room.ctypes.data % VECTOR // like.itemsize
    return room[start : start + rows * columns].reshape(rows, columns)


@intrinsic
def score_tile(typing: Any, x: Any, row: Any, end: Any, by_class: Any, first: Any, scores: Any, at: Any) -> Any:
    """scores[first + j, at + i] = sum over k of x[row + i, k] * by_class[first + j, k], i < ROWS, j < CLASSES.

    Rows at `end` and beyond are not read: the last one before stands for them.  A sum's order of additions depends on
    d alone.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        x, row, end, by_class, first, scores, at = values
        last = builder.sub(end, v.index(1))
        rows = [builder.add(row, v.index(i)) for i in range(ROWS)]
        rows = [builder.select(builder.icmp_signed("<", r, end), r, last) for r in rows]
        lines = [v.pointer(kinds[0], x, r, v.index(0)) for r in rows]
        classes = [builder.add(first, v.index(j)) for j in range(CLASSES)]
        matrix = [v.pointer(kinds[3], by_class, c, v.index(0)) for c in classes]
        sums = [[cgutils.alloca_once_value(builder, v.zero) for _ in rows] for _ in classes]

        def step(k: Value, count: Value | None) -> None:
            factors = [v.load(v.at(line, k), count) for line in lines]
            for c in range(CLASSES):
                w = v.load(v.at(matrix[c], k), count)
                for factor, place in zip(factors, sums[c], strict=True):
                    builder.store(v.fma(factor, w, builder.load(place)), place)

        _for_each_vector(v, kinds[0], x, step)
        for c, places in zip(classes, sums, strict=True):
            folded = v.fold([builder.load(place) for place in places])
            v.store(folded, v.pointer(kinds[5], scores, c, at))

    return emitter(x.dtype, (x, INDEX, INDEX, by_class, INDEX, scores, INDEX), types.void, emit)


def _for_each_vector(v: Vectors, kind: Any, x: Value, step: Any) -> None:
    """`step(k, None)` for each whole vector of features, then `step(k, count)` for the rest."""
    builder = v.builder
    features = v.shape(kind, x)[1]
    rest = builder.and_(features, v.index(v.lanes - 1))
    whole = builder.sub(features, rest)
    with cgutils.for_range_slice(builder, v.index(0), whole, v.index(v.lanes), ir.IntType(64)) as (k, _):
        step(k, None)
    with builder.if_then(builder.icmp_signed(">", rest, v.index(0))):
        step(whole, rest)


@intrinsic
def add_outer(typing: Any, x: Any, slopes: Any, rows: Any, first: Any, sums: Any, begin: Any) -> Any:
    """sums[first + j, k] += sum over r < rows of slopes[first + j, r] * x[r, k], for j < CLASSES and all k.

    With `begin` the sums are set instead, so that nobody need clear them before.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        x, slopes, rows, first, sums, begin = values
        classes = [builder.add(first, v.index(j)) for j in range(CLASSES)]
        targets = [v.pointer(kinds[4], sums, c, v.index(0)) for c in classes]
        factors = [v.pointer(kinds[1], slopes, c, v.index(0)) for c in classes]

        def columns(k: Value, spans: int, count: Value | None) -> None:
            """`spans` vectors of features from `k` on."""
            places = [[cgutils.alloca_once(builder, v.type) for _ in range(spans)] for _ in classes]
            for row_of in places:
                for place in row_of:
                    builder.store(v.zero, place)
            with cgutils.for_range(builder, rows) as loop:
                line = v.pointer(kinds[0], x, loop.index, k)
                parts = [v.load(v.at(line, v.index(s * v.lanes)), count) for s in range(spans)]
                for row_of, factor in zip(places, factors, strict=True):
                    slope = v.splat(builder.load(v.at(factor, loop.index)))
                    for part, place in zip(parts, row_of, strict=True):
                        builder.store(v.fma(part, slope, builder.load(place)), place)
            for target, row_of in zip(targets, places, strict=True):
                for s, place in enumerate(row_of):
                    pointer = v.at(target, builder.add(k, v.index(s * v.lanes)))
                    before = builder.select(begin, v.zero, v.load(pointer))
                    v.store(builder.fadd(before, builder.load(place)), pointer)

        features = v.shape(kinds[0], x)[1]
        wide = v.lanes * SPANS
        whole = builder.sub(features, builder.and_(features, v.index(wide - 1)))
        with cgutils.for_range_slice(builder, v.index(0), whole, v.index(wide), ir.IntType(64)) as (k, _):
            columns(k, SPANS, None)
        with cgutils.for_range_slice(builder, whole, features, v.index(v.lanes), ir.IntType(64)) as (k, _):
            columns(k, 1, builder.sub(features, k))

    return emitter(x.dtype, (x, slopes, INDEX, INDEX, sums, types.boolean), types.void, emit)


@intrinsic
def turn_tile(typing: Any, matrix: Any, k: Any, c: Any, by_class: Any) -> Any:
    """by_class[c + j, k + i] = matrix[k + i, c + j] for i < lanes(matrix), j < piece(matrix).

    Of each row of `matrix` a whole piece is read, also beyond the row's end.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        matrix, k, c, by_class = values
        rows = [v.pointer(kinds[0], matrix, builder.add(k, v.index(i)), c) for i in range(v.lanes)]
        gathered = [v.joined([v.load_piece(row) for row in rows[i :: v.piece]]) for i in range(v.piece)]
        for j, vector in enumerate(v.turned_pieces(gathered)):
            v.store(vector, v.pointer(kinds[3], by_class, builder.add(c, v.index(j)), k))

    return emitter(matrix.dtype, (matrix, INDEX, INDEX, by_class), types.void, emit)


@intrinsic
def turn_tile_back(typing: Any, by_class: Any, c: Any, k: Any, matrix: Any, row: Any) -> Any:
    """matrix[row + i, c + j] = by_class[c + j, k + i] for i < lanes(matrix), j < piece(matrix).

    Of each row of `matrix` a whole piece is written, also beyond the row's end.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        by_class, c, k, matrix, row = values
        classes = [builder.add(c, v.index(j)) for j in range(v.piece)]
        turned = v.turned_pieces([v.load(v.pointer(kinds[0], by_class, at, k)) for at in classes])
        for i in range(v.lanes):
            first = i // v.piece * v.piece
            part = v.shuffle(turned[i % v.piece], turned[0], list(range(first, first + v.piece)))
            v.store(part, v.pointer(kinds[3], matrix, builder.add(row, v.index(i)), c))

    return emitter(matrix.dtype, (by_class, INDEX, INDEX, matrix, INDEX), types.void, emit)


@intrinsic
def row_sum(typing: Any, array: Any, row: Any, count: Any) -> Any:
    """The sum of array[row, :count]: lane by lane, then halves added to halves."""

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        array, row, count = values
        line = v.pointer(kinds[0], array, row, v.index(0))
        total = cgutils.alloca_once_value(builder, v.zero)
        with cgutils.for_range_slice(builder, v.index(0), count, v.index(v.lanes), ir.IntType(64)) as (k, _):
            part = v.load(v.at(line, k), builder.sub(count, k))
            builder.store(builder.fadd(builder.load(total), part), total)
        return builder.extract_element(v.fold([builder.load(total)]), ir.IntType(32)(0))

    return emitter(array.dtype, (array, INDEX, INDEX), array.dtype, emit)
