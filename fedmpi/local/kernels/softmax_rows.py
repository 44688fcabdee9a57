"""From the scores of a block of rows to their probabilities, losses and slopes.

scores[padded c, padded rows], class-major: a vector holds as many rows, so that no row's numbers depend on its
neighbours.  The rows in the padding are computed with the others and never read.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.jit.kernel import jit
from fedmpi.local.jit.simd import CLASSES, Value, Vectors, emitter, lanes
from fedmpi.local.kernels.tiles import aligned, padded
from fedmpi.local.numba_parts.lowering import cgutils

WORD = ir.IntType(32)


@jit
def scores_for(rows: int, classes: int, weights: Any) -> Any:
    """Room for the scores of `rows` rows, in weights' dtype."""
    return aligned(padded(classes, CLASSES), padded(rows, lanes(weights)), weights)


@jit
def slopes(scores: Any, bias: Any, y: Any, rows: int) -> None:
    """Replace each score, without bias, by the slope along it of the mean loss of `rows` rows.

    That is (probability - [class = label]) / rows.  `y` has the labels of the rows in `scores`.
    """
    step = lanes(scores)
    for r in range(0, y.shape[0], step):
        subtract_highest(scores, bias, r, None)
        exponentiate(scores, bias, r, 1 / rows, None)
    one = scores.dtype.type(1 / rows)
    for r in range(y.shape[0]):
        scores[np.int64(y[r]), r] -= one


@jit
def losses(scores: Any, bias: Any, y: Any, best: Any, total: float) -> float:
    """Return `total` and the rows' losses, added one by one in float64; the scores, without bias, are used up.

    The class with the highest score of each row goes into `best`.  Without labels there are no losses.
    """
    step, count = lanes(scores), best.shape[0]
    highest = np.empty(step, np.int32)
    norms, labelled = np.empty(step, np.float64), np.empty(step, np.float64)
    for r in range(0, count, step):
        rows = min(step, count - r)
        subtract_highest(scores, bias, r, highest)
        for i in range(rows):
            best[r + i] = highest[i]
        if y.shape[0] > 0:
            for i in range(rows):
                labelled[i] = scores[np.int64(y[r + i]), r + i]
            exponentiate(scores, bias, r, 0.0, norms)
            for i in range(rows):
                total += np.log(norms[i]) - labelled[i]
    return total


@intrinsic
def subtract_highest(typing: Any, scores: Any, bias: Any, r: Any, best: Any) -> Any:
    """Add the bias to the scores of a vector of rows from `r` on, and subtract each row's highest.

    best[i], unless `best` is None, is the first class whose score nothing exceeds; a nan exceeds everything, as in
    np.argmax.
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        scores, bias, r, best = values
        top = cgutils.alloca_once_value(builder, v.constant(float("-inf")))
        numbers = ir.VectorType(WORD, v.lanes)
        winner = cgutils.alloca_once_value(builder, ir.Constant(numbers, [0] * v.lanes))
        classes = v.shape(kinds[1], bias)[0]
        with cgutils.for_range(builder, classes) as loop:
            place = v.pointer(kinds[0], scores, loop.index, r)
            offset = builder.load(v.pointer(kinds[1], bias, loop.index))
            offset = v.context.cast(builder, offset, kinds[1].dtype, kinds[0].dtype)
            score, highest = builder.fadd(v.load(place), v.splat(offset)), builder.load(top)
            is_nan, was_nan = (
                builder.fcmp_unordered("uno", score, score),
                builder.fcmp_unordered("uno", highest, highest),
            )
            wins = builder.or_(builder.fcmp_ordered(">", score, highest), builder.and_(is_nan, builder.not_(was_nan)))
            v.store(score, place)
            builder.store(builder.select(wins, score, highest), top)
            number = v.splat(builder.trunc(loop.index, WORD))
            builder.store(builder.select(wins, number, builder.load(winner)), winner)
        highest = builder.load(top)
        with cgutils.for_range(builder, classes) as loop:
            place = v.pointer(kinds[0], scores, loop.index, r)
            v.store(builder.fsub(v.load(place), highest), place)
        if kinds[3] != types.none:
            v.store(builder.load(winner), v.pointer(kinds[3], best, v.index(0)))

    return emitter(scores.dtype, (scores, bias, types.intp, best), types.void, emit)


@intrinsic
def exponentiate(typing: Any, scores: Any, bias: Any, r: Any, share: Any, norms: Any) -> Any:
    """Replace the scores of a vector of rows from `r` on by exp(score), or, if `share` is not 0, share * probability.

    No score is above 0.  norms[i], float64, unless `norms` is None, is the sum of a row's exp(score).
    """

    def emit(v: Vectors, builder: Any, kinds: Any, values: Any) -> Value:
        scores, bias, r, share, norms = values
        double = Vectors(v.context, builder, types.float64, v.lanes)
        norm = cgutils.alloca_once_value(builder, double.zero)
        classes = v.shape(kinds[1], bias)[0]
        with cgutils.for_range(builder, classes) as loop:
            place = v.pointer(kinds[0], scores, loop.index, r)
            power = v.exp(v.load(place))
            v.store(power, place)
            builder.store(builder.fadd(builder.load(norm), v.converted(power, double)), norm)
        if kinds[4] != types.none:
            double.store(builder.load(norm), v.pointer(kinds[4], norms, v.index(0)))
        with builder.if_then(builder.fcmp_ordered("!=", share, ir.Constant(share.type, 0.0))):
            factor = double.converted(builder.fdiv(double.splat(share), builder.load(norm)), v)
            with cgutils.for_range(builder, classes) as loop:
                place = v.pointer(kinds[0], scores, loop.index, r)
                v.store(builder.fmul(v.load(place), factor), place)

    return emitter(scores.dtype, (scores, bias, types.intp, types.float64, norms), types.void, emit)
