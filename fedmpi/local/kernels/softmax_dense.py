"""Scores and gradients of softmax regression where the rows are an array: blocks through `fedmpi.local.kernels.tiles`.

A block of rows is small enough to be read from the first caches when the gradient needs it again.  Rows that are not
C-contiguous, or not of the weights' dtype, are copied block by block into rows that are, and pixels are widened so.
A few rows have their gradient from `fedmpi.local.kernels.softmax_small`.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import overload

from fedmpi.local.jit.array_kinds import read_only
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import CLASSES, ROWS, lanes, piece
from fedmpi.local.kernels.softmax_rows import scores_for, slopes
from fedmpi.local.kernels.softmax_small import add_gradient_of_few, is_small
from fedmpi.local.kernels.tiles import add_outer, aligned, padded, row_sum, score_tile, turn_tile, turn_tile_back
from fedmpi.local.kernels.widen import widen_flat

STRIP = 8  # vectors of features that are turned back at a time


@jit
def block_size(features: int) -> int:
    """How many rows a block has: 16 to 128, in 16s, of together about 100 kB in float32."""
    return min(128, max(16, 25600 // max(features, 1) // 16 * 16))


@jit
def turned(weights: Any) -> Any:
    """`weights`, C-contiguous, as by_class[padded c, padded d]; classes in the padding have the weights 0."""
    features, classes = weights.shape
    n, p = lanes(weights), piece(weights)
    rows = max(padded(classes, CLASSES), padded(classes, p))
    by_class = aligned(rows, padded(features, n), weights)
    k = 0
    while (k + n - 1) * classes + padded(classes, p) <= features * classes:
        for c in range(0, classes, p):
            turn_tile(weights, k, c, by_class)
        k += n
    for i in range(k, features):
        for c in range(classes):
            by_class[c, i] = weights[i, c]
    by_class[classes:] = 0
    return by_class


@jit
def turned_back(by_class: Any, k: int, count: int, strip: Any) -> None:
    """strip[i, c] = by_class[c, k + i] for i < count, whole vectors of features."""
    p = piece(strip)
    for i in range(0, count, lanes(strip)):
        for c in range((strip.shape[1] - 1) // p * p, -1, -p):  # downwards: a row's end spills into the next row
            turn_tile_back(by_class, c, k + i, strip, i)


@jit
def write_scores(rows: Any, by_class: Any, classes: int, scores: Any) -> None:
    """scores[c, r] = the product of row r and class c, without bias."""
    for r in range(0, rows.shape[0], ROWS):
        for c in range(0, classes, CLASSES):
            score_tile(rows, r, rows.shape[0], by_class, c, scores, r)


@jit
def score_rows(x: Any, start: int, count: int, by_class: Any, classes: int, room: Any, scores: Any) -> None:
    """scores[c, i] = the score of row start + i of `x`, without bias, for i < count."""
    write_scores(read_only(block(x, start, count, room)), by_class, classes, scores)


@jit
def add_gradient_of_rows(x: Any, y: Any, weights: Any, bias: Any, scale: Any, new_weights: Any, new_bias: Any) -> None:
    """Add `scale` times the gradient at (weights, bias) to `new_weights`, C-contiguous as `weights`, and `new_bias`."""
    rows, like = y.shape[0], read_only(weights)
    if rows == 0:
        return
    if is_small(rows, weights):
        few = block(x, 0, rows, room_for(x, rows, weights))
        add_gradient_of_few(few, y, weights, bias, scale, new_weights, new_bias)
        return
    by_class = turned(like)
    total = aligned(by_class.shape[0], by_class.shape[1], like)
    by_bias = aligned(1, bias.shape[0], like)[0]
    for c in range(by_bias.shape[0]):
        by_bias[c] = 0
    size = min(block_size(weights.shape[0]), rows)
    scores = scores_for(size, bias.shape[0], like)
    room = room_for(x, size, like)
    for start in range(0, rows, size):
        count = min(size, rows - start)
        part = read_only(block(x, start, count, room))
        add_block_gradient(part, y[start : start + count], rows, by_class, bias, scores, total, by_bias, start == 0)
    add_scaled(total, by_bias, scale, new_weights, new_bias)


@jit
def add_block_gradient(
    part: Any, y: Any, rows: int, by_class: Any, bias: Any, scores: Any, total: Any, by_bias: Any, first: Any
) -> None:
    """Add the gradient of a block of rows to `total`, which it overwrites if it is the `first`, and to `by_bias`."""
    classes = bias.shape[0]
    write_scores(part, by_class, classes, scores)
    slopes(scores, bias, y, rows)
    for c in range(0, classes, CLASSES):
        add_outer(part, scores, part.shape[0], c, total, first)
    for c in range(classes):
        by_bias[c] += row_sum(scores, c, part.shape[0])


@jit
def add_scaled(total: Any, by_bias: Any, scale: Any, new_weights: Any, new_bias: Any) -> None:
    """Add `scale` times a gradient, class-major, to `new_weights`, and to `new_bias`."""
    (features, classes), n = new_weights.shape, lanes(total)
    strip = aligned(STRIP * n + piece(total), classes, read_only(total))  # some more rows: the last one spills
    flat, target = strip.reshape(-1), new_weights.reshape(-1)
    factor = total.dtype.type(scale)
    for k in range(0, features, STRIP * n):
        turned_back(total, k, min(STRIP * n, padded(features - k, n)), strip)
        place = target[k * classes : min(k + STRIP * n, features) * classes]
        for i in range(place.shape[0]):
            place[i] += factor * flat[i]
    for c in range(classes):
        new_bias[c] += new_bias.dtype.type(scale) * by_bias[c]


# --- what depends on how an argument is stored


def room_for(x: Any, rows: int, weights: Any) -> Any:
    """Room for a block of `x`, empty if blocks of `x` can be used as they are."""
    raise NotImplementedError


def block(x: Any, start: int, count: int, room: Any) -> Any:
    """Rows start, start + 1, … of `x` as `tiles` takes them."""
    raise NotImplementedError


@overload(room_for, strict=False, jit_options=OPTIONS)
def _room_for(x: Any, rows: Any, weights: Any) -> Any:
    if isinstance(x, types.Array) and x.layout == "C" and x.dtype == weights.dtype:
        return lambda x, rows, weights: None
    return lambda x, rows, weights: aligned(rows, weights.shape[0], weights)


@overload(block, strict=False, jit_options=OPTIONS)
def _block(x: Any, start: Any, count: Any, room: Any) -> Any:
    if isinstance(room, types.NoneType):
        return lambda x, start, count, room: x[start : start + count]
    if not isinstance(x, types.Array):
        return lambda x, start, count, room: _widened(x.data[start : start + count], room)
    return lambda x, start, count, room: _copied(x, start, count, room)


@jit
def _widened(data: Any, room: Any) -> Any:
    rows = room[: data.shape[0]]
    widen_flat(data.reshape(-1), rows.reshape(-1))
    return rows


@jit
def _copied(x: Any, start: int, count: int, room: Any) -> Any:
    for i in range(count):
        for k in range(x.shape[1]):
            room[i, k] = x[start + i, k]
    return room[:count]
