"""The kernels of `fedmpi.local.kernels.softmax` in plain NumPy: what probes run, so that nothing is compiled for them.

Same arguments, same results to rounding, same errors.  Rows that are not an array are made one.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fedmpi.local.columns.sparse import Csr, Pixels

Array = NDArray[Any]
Floats = NDArray[np.floating[Any]]


def loss(x: Array, y: Array, weights: Floats, bias: Floats) -> Any:
    """See `fedmpi.local.kernels.softmax.softmax_loss`."""
    return _mean(row_losses(x, y, weights, bias), weights.dtype)


@np.errstate(under="ignore")  # the probability of a hopeless class is 0
def gradient(x: Array, y: Array, weights: Floats, bias: Floats) -> tuple[Floats, Floats]:
    """See `fedmpi.local.kernels.softmax.softmax_gradient`."""
    x = rows_of(x, weights)
    check(x, y, weights, bias)
    log_p = log_probabilities(x, weights, bias)
    slope = np.exp(log_p)
    slope[np.arange(len(y)), y] -= 1
    slope /= max(len(y), 1)  # no rows, no gradient: a sum of no terms
    return (x.T @ slope).astype(weights.dtype), slope.sum(axis=0, dtype=bias.dtype)


def sgd_step(x: Array, y: Array, weights: Floats, bias: Floats, learning_rate: float) -> tuple[Floats, Floats]:
    """See `fedmpi.local.kernels.softmax.softmax_sgd_step`."""
    weights, bias = weights.copy(), bias.copy()
    sgd_step_into(x, y, weights, bias, learning_rate)
    return weights, bias


@np.errstate(under="ignore")
def sgd_step_into(x: Array, y: Array, weights: Floats, bias: Floats, learning_rate: float) -> None:
    """See `fedmpi.local.kernels.softmax.softmax_sgd_step_into`."""
    by_weight, by_bias = gradient(x, y, weights, bias)
    weights -= weights.dtype.type(learning_rate) * by_weight
    bias -= bias.dtype.type(learning_rate) * by_bias


def evaluate(x: Array, y: Array, weights: Floats, bias: Floats) -> tuple[Any, int]:
    """See `fedmpi.local.kernels.softmax.softmax_evaluate`."""
    total = row_losses(x, y, weights, bias).sum(dtype=np.float64)
    return weights.dtype.type(total), int((predict(x, weights, bias) == y).sum())


def predict(x: Array, weights: Floats, bias: Floats) -> NDArray[np.int32]:
    """See `fedmpi.local.kernels.softmax.softmax_predict`."""
    x = rows_of(x, weights)
    check(x, None, weights, bias)
    classes: NDArray[np.int32] = log_probabilities(x, weights, bias).argmax(axis=1).astype(np.int32)
    return classes


def row_losses(x: Array, y: Array, weights: Floats, bias: Floats) -> Floats:
    """The cross-entropy of each row."""
    x = rows_of(x, weights)
    check(x, y, weights, bias)
    return -log_probabilities(x, weights, bias)[np.arange(len(y)), y]


@np.errstate(under="ignore")
def log_probabilities(x: Array, weights: Floats, bias: Floats) -> Floats:
    """The logarithm of softmax(x @ weights + bias), row by row."""
    scores = (x @ weights + bias).astype(weights.dtype)
    scores -= scores.max(axis=1, keepdims=True)
    shifted: Floats = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return shifted


def rows_of(x: Any, weights: Floats) -> Array:
    """`x`, which may be `Pixels` or `Csr`, as an array."""
    if isinstance(x, Csr):
        dense = np.zeros((len(x.offsets) - 1, x.width), x.values.dtype)
        stored = slice(x.offsets[0], x.offsets[-1])
        dense[np.repeat(np.arange(len(dense)), np.diff(x.offsets)), x.columns[stored]] = x.values[stored]
        return dense
    if isinstance(x, Pixels):
        x = (x.data / 255.0).astype(weights.dtype)
    return cast(Array, x)


def check(x: Array, y: Array | None, weights: Floats, bias: Floats) -> None:
    """Raise the ValueError that the compiled kernels raise for these arguments."""
    classes = len(bias)
    rows = len(x) if y is None else len(y)
    if rows != len(x) or weights.shape != (x.shape[1], classes):
        raise ValueError(
            f"softmax: shapes do not agree: x[{x.shape[0]}, {x.shape[1]}], y[{rows}], "
            f"weights[{weights.shape[0]}, {weights.shape[1]}], bias[{classes}]"
        )
    if weights.dtype.kind != "f" or bias.dtype.kind != "f":
        raise ValueError("softmax: weights and bias must be floating-point arrays")
    if y is None:
        return
    if y.dtype.kind not in "iu":
        raise ValueError("softmax: labels must be integers")
    wrong = np.flatnonzero((y < 0) | (y >= classes))
    if wrong.size:
        raise ValueError(f"softmax: label {y[wrong[0]]} in row {wrong[0]} is outside 0..{classes - 1}")


def _mean(values: Floats, dtype: np.dtype[Any]) -> Any:
    with np.errstate(invalid="ignore"):
        return dtype.type(values.sum(dtype=np.float64) / np.float64(len(values)))
