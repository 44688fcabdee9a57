"""Softmax regression: the loss is the mean over the rows of ``-log softmax(x @ weights + bias)[label]``.

In all functions: x float[n, d], y integer[n] with labels in 0..c-1, weights float[d, c], bias float[c]; any n, d, c.
float32 and float64 (the dtype of `weights` is that of the results); y may be of any integer type.  Arguments may be
read-only and strided; only the forms ending in ``_into`` write to them.  The maximum of each row's scores is subtracted
before exp, so any finite scores are safe.  Shapes that do not agree, and a label outside 0..c-1, raise ValueError
before any of it is used.  No rows: the loss, a mean of nothing, is nan; the gradient, a sum of nothing, is zero, and a
step changes nothing.  A scalar that a kernel returns to Python is a Python number; in compiled code it has its dtype.

x may also be `Pixels` or sparse rows, `Csr` (`fedmpi.local.columns.sparse`), of the width d.  The products are in
`softmax_dense` and `softmax_sparse`, what follows row by row in `softmax_rows`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.array_kinds import read_only
from fedmpi.local.jit.kernel import jit, kernel
from fedmpi.local.kernels import softmax_twins as twins
from fedmpi.local.kernels.softmax_dense import block_size
from fedmpi.local.kernels.softmax_forms import add_gradient, contiguous, prepared, room, score_block, shape, write_back
from fedmpi.local.kernels.softmax_rows import losses, scores_for


@kernel(twins.loss)
def softmax_loss(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """The mean cross-entropy of the batch, a scalar of weights' dtype, accumulated in float64."""
    _check(x, y, weights, bias)
    total = _scan(x, y, weights, bias, np.empty(y.shape[0], np.int32))
    return weights.dtype.type(total / y.shape[0])


@kernel(twins.gradient)
def softmax_gradient(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """The gradient of the batch's mean loss: new arrays (by weights [d, c], by bias [c])."""
    _check(x, y, weights, bias)
    by_weight, by_bias = np.zeros(weights.shape, weights.dtype), np.zeros(bias.shape, bias.dtype)
    add_gradient(x, y, contiguous(weights), bias, 1, by_weight, by_bias)
    return by_weight, by_bias


@kernel(twins.sgd_step_into, writes=("weights", "bias"))
def softmax_sgd_step_into(x: Any, y: Any, weights: Any, bias: Any, learning_rate: Any) -> None:
    """One step of gradient descent on the batch's mean loss, written into `weights` and `bias`."""
    _check(x, y, weights, bias)
    work = contiguous(weights)
    add_gradient(x, y, work, bias, -weights.dtype.type(learning_rate), work, bias)
    write_back(weights, work)


@kernel(twins.sgd_step, in_place=softmax_sgd_step_into)
def softmax_sgd_step(x: Any, y: Any, weights: Any, bias: Any, learning_rate: Any) -> Any:
    """One step of gradient descent on the batch's mean loss: new arrays (weights, bias)."""
    _check(x, y, weights, bias)
    new_weights, new_bias = weights.copy(), bias.copy()
    add_gradient(x, y, contiguous(new_weights), new_bias, -weights.dtype.type(learning_rate), new_weights, new_bias)
    return new_weights, new_bias


@kernel(twins.evaluate)
def softmax_evaluate(x: Any, y: Any, weights: Any, bias: Any) -> Any:
    """(the summed cross-entropy, the number of rows whose label has the highest score), in one pass.

    The sum, not the mean, so that results of batches and of clients add up; it is a scalar of weights' dtype.
    """
    _check(x, y, weights, bias)
    best = np.empty(y.shape[0], np.int32)
    total, correct = _scan(x, y, weights, bias, best), 0
    for i in range(y.shape[0]):
        correct += best[i] == np.int64(y[i])
    return weights.dtype.type(total), correct


@kernel(twins.predict)
def softmax_predict(x: Any, weights: Any, bias: Any) -> Any:
    """The class with the highest score of each row, int32[n]; the lowest such class, as np.argmax does it."""
    rows = shape(x)[0]
    _check_shapes(x, rows, weights, bias)
    best = np.empty(rows, np.int32)
    _scan(x, np.empty(0, np.int32), weights, bias, best)
    return best


@jit
def _scan(x: Any, y: Any, weights: Any, bias: Any, best: Any) -> float:
    """The sum of the rows' losses, if `y` has labels; their predicted classes go into `best`."""
    rows, features = shape(x)
    size = min(block_size(features), max(rows, 1))
    floats = read_only(contiguous(weights))
    model, place, scores = prepared(x, floats), room(x, size, floats), scores_for(size, bias.shape[0], floats)
    total = 0.0
    for start in range(0, rows, size):
        end = min(start + size, rows)
        score_block(x, start, end - start, model, bias.shape[0], place, scores)
        total = losses(scores, bias, y[start:end], best[start:end], total)
    return total


# --- checks


@jit
def _check(x: Any, y: Any, weights: Any, bias: Any) -> None:
    _check_shapes(x, y.shape[0], weights, bias)
    if y.dtype.type(0.5) != 0:  # the dtype's, so the compiler drops the test
        raise ValueError("softmax: labels must be integers")
    for i in range(y.shape[0]):
        label: Any = np.int64(y[i])
        if label < 0 or label >= bias.shape[0]:
            raise _LabelError(label, i, bias.shape[0])


@jit
def _check_shapes(x: Any, rows: int, weights: Any, bias: Any) -> None:
    n, d = shape(x)
    if rows != n or weights.shape[0] != d or weights.shape[1] != bias.shape[0]:
        raise _ShapeError(n, d, rows, weights.shape[0], weights.shape[1], bias.shape[0])
    if weights.dtype.type(0.5) == 0 or bias.dtype.type(0.5) == 0:
        raise ValueError("softmax: weights and bias must be floating-point arrays")


class _LabelError(ValueError):
    """Makes the ValueError in Python: to put the numbers into its text would take Numba a second to compile."""

    def __new__(cls, label: int, row: int, classes: int) -> Any:
        return ValueError(f"softmax: label {label} in row {row} is outside 0..{classes - 1}")


class _ShapeError(ValueError):
    """As `_LabelError`."""

    def __new__(cls, n: int, d: int, labels: int, rows: int, columns: int, classes: int) -> Any:
        return ValueError(
            f"softmax: shapes do not agree: x[{n}, {d}], y[{labels}], weights[{rows}, {columns}], bias[{classes}]"
        )
