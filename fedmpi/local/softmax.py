"""Softmax regression: the loss is the mean over the rows of ``-log softmax(x @ weights + bias)[label]``.

In all functions: x float[n, d], y integer[n] with labels in 0..c-1, weights float[d, c], bias float[c]; any n, d, c.
float32 and float64 (the dtype of `weights` is that of the results); y may be of any integer type.  Arguments may be
read-only and strided; only the forms ending in ``_into`` write to them.  The maximum of each row's scores is subtracted
before exp, so any finite scores are safe.  Shapes that do not agree, and a label outside 0..c-1, raise ValueError
before any of it is used.  No rows: the loss, a mean of nothing, is nan; the gradient, a sum of nothing, is zero, and a
step changes nothing.  A scalar that a kernel returns to Python is a Python number; in compiled code it has its dtype.

How the loops are laid out.  Without `fastmath` LLVM vectorises loops whose iterations are independent, not sums.  The
weights are therefore turned class-major once a call, and a score, a sum over features, is built from d/8 independent
partial sums of 8 products each, which are then folded in halves: one fixed order, whatever the vector width.  The
gradient adds 8 rows at a time to independent elements; rows are taken in blocks of 8, so that a block is still in the
first-level cache when the gradient reads it again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local import softmax_twins as twins
from fedmpi.local.kernel import jit, kernel

BLOCK = 8  # rows a block, and products a partial sum; `_add_block` and `_score` spell the eight out


@kernel(twins.loss)
def softmax_loss(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """The mean cross-entropy of the batch, a scalar of weights' dtype, accumulated in float64."""
    _check(x, y, weights, bias)
    by_class, lanes = _class_major(weights), _lanes(weights)
    z = np.empty((1, bias.shape[0]), weights.dtype)
    total = 0.0
    for i in range(x.shape[0]):
        _scores(x, i, by_class, bias, lanes, z, 0)
        label = np.int64(y[i])
        shifted = z[0, label] - _maximum(z, 0)
        total += np.log(_exponentials(z, 0)) - shifted
    return weights.dtype.type(total / x.shape[0])


@kernel(twins.gradient)
def softmax_gradient(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """The gradient of the batch's mean loss: new arrays (by weights [d, c], by bias [c])."""
    _check(x, y, weights, bias)
    by_class, by_bias = _gradient(x, y, weights, bias)
    by_weight = np.empty(weights.shape, weights.dtype)
    for k in range(weights.shape[0]):
        for c in range(weights.shape[1]):
            by_weight[k, c] = by_class[c, k]
    return by_weight, by_bias


@kernel(twins.sgd_step_into, writes=("weights", "bias"))
def softmax_sgd_step_into(x: Any, y: Any, weights: Any, bias: Any, learning_rate: Any) -> None:
    """One step of gradient descent on the batch's mean loss, written into `weights` and `bias`."""
    _check(x, y, weights, bias)
    _descend(x, y, weights, bias, learning_rate)


@kernel(twins.sgd_step, in_place=softmax_sgd_step_into)
def softmax_sgd_step(x: Any, y: Any, weights: Any, bias: Any, learning_rate: Any) -> Any:
    """One step of gradient descent on the batch's mean loss: new arrays (weights, bias)."""
    _check(x, y, weights, bias)
    new_weights, new_bias = weights.copy(), bias.copy()
    _descend(x, y, new_weights, new_bias, learning_rate)
    return new_weights, new_bias


@kernel(twins.evaluate)
def softmax_evaluate(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """(the summed cross-entropy, the number of rows whose label has the highest score), in one pass.

    The sum, not the mean, so that results of batches and of clients add up; it is a scalar of weights' dtype.
    """
    _check(x, y, weights, bias)
    by_class, lanes = _class_major(weights), _lanes(weights)
    z = np.empty((1, bias.shape[0]), weights.dtype)
    total, correct = 0.0, 0
    for i in range(x.shape[0]):
        _scores(x, i, by_class, bias, lanes, z, 0)
        label = np.int64(y[i])
        correct += _highest(z, 0) == label
        shifted = z[0, label] - _maximum(z, 0)
        total += np.log(_exponentials(z, 0)) - shifted
    return weights.dtype.type(total), correct


@kernel(twins.predict)
def softmax_predict(x: Any, weights: Any, bias: Any) -> Any:
    """The class with the highest score of each row, int32[n]; the lowest such class, as np.argmax does it."""
    _check_shapes(x, x.shape[0], weights, bias)
    by_class, lanes = _class_major(weights), _lanes(weights)
    z = np.empty((1, bias.shape[0]), weights.dtype)
    classes = np.empty(x.shape[0], np.int32)
    for i in range(x.shape[0]):
        _scores(x, i, by_class, bias, lanes, z, 0)
        classes[i] = _highest(z, 0)
    return classes


# --- checks


@jit
def _check(x: Any, y: Any, weights: Any, bias: Any) -> None:
    _check_shapes(x, y.shape[0], weights, bias)
    if y.dtype.type(0.5) != 0:  # the dtype's, so the compiler drops the test
        raise ValueError("softmax: labels must be integers")
    for i in range(y.shape[0]):
        label: Any = np.int64(y[i])
        if label < 0 or label >= bias.shape[0]:
            _refuse_label(label, i, bias.shape[0])


@jit
def _check_shapes(x: Any, rows: int, weights: Any, bias: Any) -> None:
    if rows != x.shape[0] or weights.shape[0] != x.shape[1] or weights.shape[1] != bias.shape[0]:
        _refuse_shapes(x.shape[0], x.shape[1], rows, weights.shape[0], weights.shape[1], bias.shape[0])
    if weights.dtype.type(0.5) == 0 or bias.dtype.type(0.5) == 0:
        raise ValueError("softmax: weights and bias must be floating-point arrays")


# Texts with numbers take Numba a second to compile: these two are compiled once, whatever the types of the kernels.
@jit
def _refuse_label(label: int, row: int, classes: int) -> None:
    raise ValueError(f"softmax: label {label} in row {row} is outside 0..{classes - 1}")


@jit
def _refuse_shapes(n: int, d: int, labels: int, rows: int, columns: int, classes: int) -> None:
    raise ValueError(
        f"softmax: shapes do not agree: x[{n}, {d}], y[{labels}], weights[{rows}, {columns}], bias[{classes}]"
    )


# --- scores


@jit
def _class_major(weights: Any) -> Any:
    """A copy of `weights` as [c, d]."""
    features, classes = weights.shape
    by_class = np.empty((classes, features), weights.dtype)
    for c in range(classes):
        for k in range(features):
            by_class[c, k] = weights[k, c]
    return by_class


@jit
def _lanes(weights: Any) -> Any:
    """Room for the partial sums of one score."""
    return np.empty(max(weights.shape[0] // BLOCK, 1), weights.dtype)


@jit
def _scores(x: Any, i: int, by_class: Any, bias: Any, lanes: Any, z: Any, r: int) -> None:
    """Write the scores of row `i` of `x` into row `r` of `z`."""
    for c in range(by_class.shape[0]):
        z[r, c] = _score(x, i, by_class, c, lanes) + bias[c]


@jit
def _score(x: Any, i: int, w: Any, c: int, lanes: Any) -> Any:
    """The product of row `i` of `x` and row `c` of `w`, without bias."""
    features = w.shape[1]
    m = features // BLOCK
    for j in range(m):
        lanes[j] = (
            (x[i, j] * w[c, j] + x[i, j + m] * w[c, j + m])
            + (x[i, j + 2 * m] * w[c, j + 2 * m] + x[i, j + 3 * m] * w[c, j + 3 * m])
        ) + (
            (x[i, j + 4 * m] * w[c, j + 4 * m] + x[i, j + 5 * m] * w[c, j + 5 * m])
            + (x[i, j + 6 * m] * w[c, j + 6 * m] + x[i, j + 7 * m] * w[c, j + 7 * m])
        )
    while m > BLOCK:
        half = (m + 1) // 2
        for j in range(m - half):
            lanes[j] += lanes[j + half]
        m = half
    total = w.dtype.type(0)
    for j in range(m):
        total += lanes[j]
    for k in range(features - features % BLOCK, features):
        total += w.dtype.type(x[i, k] * w[c, k])
    return total


@jit
def _maximum(z: Any, r: int) -> Any:
    highest = z[r, 0]
    for c in range(1, z.shape[1]):
        highest = max(highest, z[r, c])
    return highest


@jit
def _highest(z: Any, r: int) -> int:
    """The first class whose score nothing exceeds; a nan exceeds everything, as in np.argmax."""
    best = 0
    for c in range(1, z.shape[1]):
        if z[r, c] > z[r, best] or (np.isnan(z[r, c]) and not np.isnan(z[r, best])):
            best = c
    return best


@jit
def _exponentials(z: Any, r: int) -> float:
    """Replace row `r` of `z` by exp(z - max z); return the sum, in float64."""
    highest = _maximum(z, r)
    total = 0.0
    for c in range(z.shape[1]):
        z[r, c] = np.exp(z[r, c] - highest)
        total += z[r, c]
    return total


# --- gradient


@jit
def _gradient(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """The gradient of the mean loss (by weights, class-major [c, d]; by bias [c]); arguments are checked."""
    rows, classes = x.shape[0], bias.shape[0]
    by_class, lanes = _class_major(weights), _lanes(weights)
    slope = np.empty((BLOCK, classes), weights.dtype)
    total = np.zeros((classes, x.shape[1]), weights.dtype)
    by_bias = np.zeros(classes, bias.dtype)
    for start in range(0, rows, BLOCK):
        block = min(BLOCK, rows - start)
        for r in range(block):
            _scores(x, start + r, by_class, bias, lanes, slope, r)
            scale = weights.dtype.type(_exponentials(slope, r))
            label = np.int64(y[start + r])
            for c in range(classes):
                slope[r, c] = (slope[r, c] / scale - (c == label)) / rows
                by_bias[c] += slope[r, c]
        if block == BLOCK:
            _add_block(x, start, slope, total)
        else:
            for r in range(block):
                _add_row(x, start + r, slope, r, total)
    return total, by_bias


@jit
def _add_block(x: Any, i: int, slope: Any, total: Any) -> None:
    """Add the outer products of 8 rows of `slope` with the rows of `x` that begin at `i`."""
    for c in range(total.shape[0]):
        s0, s1, s2, s3 = slope[0, c], slope[1, c], slope[2, c], slope[3, c]
        s4, s5, s6, s7 = slope[4, c], slope[5, c], slope[6, c], slope[7, c]
        for k in range(total.shape[1]):
            total[c, k] += ((x[i, k] * s0 + x[i + 1, k] * s1) + (x[i + 2, k] * s2 + x[i + 3, k] * s3)) + (
                (x[i + 4, k] * s4 + x[i + 5, k] * s5) + (x[i + 6, k] * s6 + x[i + 7, k] * s7)
            )


@jit
def _add_row(x: Any, i: int, slope: Any, r: int, total: Any) -> None:
    for c in range(total.shape[0]):
        for k in range(total.shape[1]):
            total[c, k] += x[i, k] * slope[r, c]


@jit
def _descend(x: Any, y: Any, weights: Any, bias: Any, learning_rate: Any) -> None:
    """Subtract learning_rate times the gradient; arguments are checked.  The one place where a batch is trained."""
    by_class, by_bias = _gradient(x, y, weights, bias)
    rate = weights.dtype.type(learning_rate)
    for k in range(weights.shape[0]):
        for c in range(weights.shape[1]):
            weights[k, c] -= rate * by_class[c, k]
    for c in range(bias.shape[0]):
        bias[c] -= bias.dtype.type(learning_rate) * by_bias[c]
