"""Gradients of softmax regression for a few rows: vectors whose lanes are the classes, on weights[d, c] as they are.

`softmax_dense` turns the weights class-major so that its vectors are full; for a few rows the turning would take longer
than the multiply-adds.  Here a vector holds the weights of one feature, lanes beyond the classes stay idle, and each
number of a row is one operand, repeated in all lanes by its load.  A sum's order of additions depends on d and on the
number of rows alone.

x[n, d], weights and target[d, c], lines[padded n, lanes]: C-contiguous, one dtype.  lines[r] is a vector with a lane
for each class; what stands beyond the classes is never read as a result.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import VECTOR, Value, Vectors, emitter, lanes
from fedmpi.local.kernels.softmax_rows import scores_for, slopes
from fedmpi.local.kernels.tiles import aligned, padded, row_sum
from fedmpi.local.numba_parts.lowering import cgutils

FEW = 5  # rows whose scores are summed together
PARTIAL = 2  # sums for each score, of even and of odd features: FEW * PARTIAL additions wait for none of the others
STEP = 8  # features whose weights are changed together
MOST_ROWS = 12  # with more of them full vectors are worth turning the weights (measured for 784 x 10)
WORD = ir.IntType(64)


@jit
def is_small(rows: int, weights: Any) -> bool:
    """Whether so few rows are faster here: the classes must fit one vector and fill more than a quarter of it.

    Vectors of less than 64 bytes come with too few registers, or without masks.
    """
    n, classes = lanes(weights), weights.shape[1]
    return VECTOR == 64 and rows <= MOST_ROWS and classes <= n < 4 * classes


@jit
def add_gradient_of_few(x: Any, y: Any, weights: Any, bias: Any, scale: Any, new_weights: Any, new_bias: Any) -> None:
    """Add `scale` times the gradient at (weights, bias) to `new_weights`, C-contiguous as `weights`, and `new_bias`."""
    rows, classes = x.shape[0], weights.shape[1]
    lines, scores = aligned(padded(rows, FEW), lanes(weights), weights), scores_for(rows, classes, weights)
    for r in range(0, rows, FEW):
        score_few(x, r, weights, lines)
    for r in range(rows):
        for c in range(classes):
            scores[c, r] = lines[r, c]
    slopes(scores, bias, y, rows)
    factor = weights.dtype.type(scale)
    for r in range(rows):
        for c in range(classes):
            lines[r, c] = factor * scores[c, r]
    add_products(x, lines, new_weights)
    for c in range(classes):
        new_bias[c] += bias.dtype.type(scale) * row_sum(scores, c, rows)


@intrinsic
def score_few(typing: Any, x: Any, first: Any, weights: Any, lines: Any) -> Any:
    """lines[r, c] = sum over k of x[r, k] * weights[k, c], for FEW rows r from `first` on.

    Rows that `x` does not have are not read: its last one stands for them.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        x, first, weights, lines = values
        (n, features), classes = v.shape(kinds[0], x), v.shape(kinds[2], weights)[1]
        last = builder.sub(n, v.index(1))
        rows = [builder.add(first, v.index(i)) for i in range(FEW)]
        read = [builder.select(builder.icmp_signed("<", r, n), r, last) for r in rows]
        numbers = [v.pointer(kinds[0], x, r, v.index(0)) for r in read]
        sums = [[cgutils.alloca_once_value(builder, v.zero) for _ in rows] for _ in range(PARTIAL)]

        def add(k: Value, places: list[Value]) -> None:
            w = v.load(v.pointer(kinds[2], weights, k, v.index(0)), classes)
            for line, place in zip(numbers, places, strict=True):
                number = v.splat(builder.load(v.at(line, k)))
                builder.store(v.fma(number, w, builder.load(place)), place)

        whole = builder.and_(features, v.index(-PARTIAL))
        with cgutils.for_range_slice(builder, v.index(0), whole, v.index(PARTIAL), WORD) as (k, _):
            for i, places in enumerate(sums):
                add(builder.add(k, v.index(i)), places)
        with cgutils.for_range_slice(builder, whole, features, v.index(1), WORD) as (k, _):
            add(k, sums[0])
        for r, even, odd in zip(rows, *sums, strict=True):
            v.store(builder.fadd(builder.load(even), builder.load(odd)), v.pointer(kinds[3], lines, r, v.index(0)))

    return emitter(x.dtype, (x, types.intp, weights, lines), types.void, emit)


@intrinsic
def add_products(typing: Any, x: Any, lines: Any, target: Any) -> Any:
    """target[k, c] += x[r, k] * lines[r, c] for all k and c, row r after row.

    A vector that is read just after its neighbour, which it overlaps beyond the classes, was written makes the
    processor wait.  So the next weights are read before these are written.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        x, lines, target = values
        (rows, features), classes = v.shape(kinds[0], x), v.shape(kinds[2], target)[1]

        def places(k: Value, count: int) -> list[Value]:
            found = [v.pointer(kinds[2], target, k, v.index(0))]
            while len(found) < count:
                found.append(v.at(found[-1], classes))
            return found

        def change(k: Value, sums: list[Value]) -> None:
            """Add to `sums`, the variables with the weights from `k` on, and write them."""
            with cgutils.for_range(builder, rows) as loop:
                slope = v.load(v.pointer(kinds[1], lines, loop.index, v.index(0)))
                line = v.pointer(kinds[0], x, loop.index, k)
                for i, place in enumerate(sums):
                    number = v.splat(builder.load(v.at(line, v.index(i))))
                    builder.store(v.fma(number, slope, builder.load(place)), place)
            for place, pointer in zip(sums, places(k, len(sums)), strict=True):
                v.store(builder.load(place), pointer, classes)

        whole = builder.and_(features, v.index(-STEP))
        final = builder.sub(whole, v.index(STEP))
        ahead, sums = ([cgutils.alloca_once(builder, v.type) for _ in range(STEP)] for _ in range(2))

        def read(k: Value, variables: list[Value]) -> None:
            for place, pointer in zip(variables, places(k, len(variables)), strict=True):
                builder.store(v.load(pointer, classes), place)

        with builder.if_then(builder.icmp_signed(">", whole, v.index(0))):
            read(v.index(0), ahead)
        with cgutils.for_range_slice(builder, v.index(0), whole, v.index(STEP), WORD) as (k, _):
            for place, vector in zip(sums, ahead, strict=True):
                builder.store(builder.load(vector), place)
            following = builder.add(k, v.index(STEP))
            read(builder.select(builder.icmp_signed("<", following, final), following, final), ahead)
            change(k, sums)
        with cgutils.for_range_slice(builder, whole, features, v.index(1), WORD) as (k, _):
            read(k, sums[:1])
            change(k, sums[:1])

    return emitter(x.dtype, (x, lines, target), types.void, emit)
