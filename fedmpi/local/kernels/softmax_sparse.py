"""Scores and gradients of softmax regression where the rows are sparse (`fedmpi.local.columns.sparse.Csr`).

A vector holds the weights of one feature, a lane for each class: for each number that is stored one such vector is
read, or read and written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import Value, Vectors, emitter, lanes
from fedmpi.local.kernels.softmax_rows import scores_for, slopes
from fedmpi.local.kernels.tiles import aligned, padded, row_sum
from fedmpi.local.numba_parts.lowering import cgutils

PARTIAL = 4  # sums that are added to in turn: an addition need not wait for the one before


@jit
def score_sparse_rows(x: Any, start: int, count: int, weights: Any, scores: Any) -> None:
    """scores[c, i] = the score of row start + i of `x`, without bias, for i < count; `weights` is C-contiguous."""
    values, n, classes = as_dtype(x.values, weights), lanes(weights), weights.shape[1]
    line = aligned(1, n, weights)[0]
    for i in range(count):
        begin, end = x.offsets[start + i], x.offsets[start + i + 1]
        for c in range(0, classes, n):
            dot_row(values, x.columns, begin, end, weights, c, line)
            for j in range(min(n, classes - c)):
                scores[c + j, i] = line[j]


@jit
def add_gradient_of_sparse_rows(
    x: Any, y: Any, weights: Any, bias: Any, scale: Any, new_weights: Any, new_bias: Any
) -> None:
    """Add `scale` times the gradient at (weights, bias) to `new_weights`, C-contiguous as `weights`, and `new_bias`."""
    rows, n, classes = y.shape[0], lanes(weights), bias.shape[0]
    factor, values = weights.dtype.type(scale), as_dtype(x.values, weights)
    scores = scores_for(rows, classes, weights)
    score_sparse_rows(x, 0, rows, weights, scores)
    slopes(scores, bias, y, rows)
    line = aligned(1, n, weights)[0]
    # Writing a row of weights and reading the next, which a vector overlaps, makes the processor wait: where numbers
    # are many their products are collected in rows as wide as vectors.
    collects = x.offsets[rows] - x.offsets[0] >= x.width
    target = new_weights
    if collects:
        target = aligned(x.width, padded(classes, n), weights)
        target[:] = 0
    for i in range(rows):
        for c in range(0, classes, n):
            for j in range(min(n, classes - c)):
                line[j] = factor * scores[c + j, i]
            add_row(values, x.columns, x.offsets[i], x.offsets[i + 1], line, target, c)
    if collects:
        for k in range(x.width):
            for c in range(classes):
                new_weights[k, c] += target[k, c]
    for c in range(classes):
        new_bias[c] += bias.dtype.type(scale) * row_sum(scores, c, rows)


@intrinsic
def dot_row(typing: Any, values: Any, columns: Any, begin: Any, end: Any, weights: Any, c: Any, line: Any) -> Any:
    """line[j] = sum over begin <= e < end of values[e] * weights[columns[e], c + j], for a vector of classes j."""

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        numbers, columns, begin, end, weights, c, line = values
        count = _classes_from(v, kinds[4], weights, c)
        sums = [cgutils.alloca_once_value(builder, v.zero) for _ in range(PARTIAL)]

        def add(e: Value, place: Value) -> None:
            value = v.splat(builder.load(v.pointer(kinds[0], numbers, e)))
            row = v.load(v.pointer(kinds[4], weights, _column(v, kinds[1], columns, e), c), count)
            builder.store(v.fma(value, row, builder.load(place)), place)

        rest = builder.and_(builder.sub(end, begin), v.index(PARTIAL - 1))
        whole = builder.sub(end, rest)
        with cgutils.for_range_slice(builder, begin, whole, v.index(PARTIAL), ir.IntType(64)) as (e, _):
            for i, place in enumerate(sums):
                add(builder.add(e, v.index(i)), place)
        with cgutils.for_range_slice(builder, whole, end, v.index(1), ir.IntType(64)) as (e, _):
            add(e, sums[0])
        a, b, c, d = (builder.load(place) for place in sums)
        v.store(builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), v.pointer(kinds[6], line, v.index(0)))

    parameters = (values, columns, types.intp, types.intp, weights, types.intp, line)
    return emitter(weights.dtype, parameters, types.void, emit)


@intrinsic
def add_row(typing: Any, values: Any, columns: Any, begin: Any, end: Any, line: Any, weights: Any, c: Any) -> Any:
    """weights[columns[e], c + j] += values[e] * line[j] for begin <= e < end and a vector of classes j."""

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        numbers, columns, begin, end, line, weights, c = values
        count = _classes_from(v, kinds[5], weights, c)
        slopes = v.load(v.pointer(kinds[4], line, v.index(0)))
        with cgutils.for_range_slice(builder, begin, end, v.index(1), ir.IntType(64)) as (e, _):
            value = v.splat(builder.load(v.pointer(kinds[0], numbers, e)))
            place = v.pointer(kinds[5], weights, _column(v, kinds[1], columns, e), c)
            v.store(v.fma(value, slopes, v.load(place, count)), place, count)

    parameters = (values, columns, types.intp, types.intp, line, weights, types.intp)
    return emitter(weights.dtype, parameters, types.void, emit)


def _column(v: Vectors, kind: Any, columns: Value, e: Value) -> Value:
    return v.builder.sext(v.builder.load(v.pointer(kind, columns, e)), ir.IntType(64))


def _classes_from(v: Vectors, kind: Any, weights: Value, c: Value) -> Value:
    """The number of classes from `c` on."""
    return v.builder.sub(v.shape(kind, weights)[1], c)


def as_dtype(values: Any, like: Any) -> Any:
    """`values` in the dtype of `like`."""
    raise NotImplementedError


@overload(as_dtype, strict=False, jit_options=OPTIONS)
def _as_dtype(values: Any, like: Any) -> Any:
    if values.dtype == like.dtype:
        return lambda values, like: values
    return lambda values, like: values.astype(like.dtype)
