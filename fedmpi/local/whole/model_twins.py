"""Arithmetic of whole models in NumPy, number for number what compiled code does (`fedmpi.local.typed.model_forms`).

A model is given as the list of its arrays: its leaves, or the vectors of a flat struct.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import TensorType
from fedmpi.local.columns.numbers import check_range
from fedmpi.local.integers.raising import SYMBOLS, computed
from fedmpi.local.jit.probe import probing
from fedmpi.local.value_errors import UnequalShapesError

Array = Any  # an array, or a scalar of NumPy's
LANES = 16  # running sums of a dot product
_CHUNK = 1 << 16
BINARY: dict[str, Callable[..., Any]] = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "equal": np.equal, "not_equal": np.not_equal,
}  # fmt: skip


def elementwise(op: str, left: Array, right: Array, where: str = "") -> Array:
    """Return arithmetic or a comparison of two tensors of one dtype, of one shape or one of them a scalar."""
    shapes = np.shape(left), np.shape(right)
    if shapes[0] != shapes[1] and all(shapes):  # NumPy would stretch a dimension of size 1
        raise UnequalShapesError(op, *shapes)
    dtype = np.asarray(left).dtype
    if op in SYMBOLS and dtype.kind in "iu":
        return computed(op, left, right, dtype, where)
    with np.errstate(all="ignore"):
        return BINARY[op](left, right)


def negated(tensor: Array, where: str = "") -> Array:
    """Return ``-tensor``; raise `OverflowError` for an integer whose negative does not fit."""
    dtype = np.asarray(tensor).dtype
    if dtype.kind in "iu":
        return computed("subtract", dtype.type(0), tensor, dtype, where)
    with np.errstate(all="ignore"):
        return np.negative(tensor)


def dot(left: Sequence[Array], right: Sequence[Array]) -> Any:
    """Return the sum of products as float64; see the row ``model_dot`` for its order."""
    one, other = (flattened(model).astype(np.float64) for model in (left, right))
    sums = np.zeros(LANES)
    with np.errstate(all="ignore"):
        for at in range(0, len(one), _CHUNK):
            products = one[at : at + _CHUNK] * other[at : at + _CHUNK]
            whole = len(products) // LANES * LANES
            rows = np.concatenate([sums[None], products[:whole].reshape(-1, LANES)])
            sums = np.add.accumulate(rows, axis=0)[-1].copy()
            sums[: len(products) - whole] += products[whole:]
        for step in (8, 4, 2, 1):
            sums = sums[:step] + sums[step : 2 * step]
    return sums[0]


def norm(model: Sequence[Array]) -> Any:
    """Return the Euclidean norm as float64."""
    with np.errstate(all="ignore"):
        return np.sqrt(dot(model, model))


def rounded(number: Any, dtype: np.dtype[Any]) -> Any:
    """Return a float64 in a dtype."""
    with np.errstate(over="ignore"):
        return dtype.type(number)


def flattened(model: Sequence[Array]) -> Any:
    """Return the numbers of leaves as one new vector."""
    return np.concatenate([np.empty(0, np.asarray(model[0]).dtype), *(np.reshape(leaf, -1) for leaf in model)])


def mapped(fn: Callable[..., Any], models: Sequence[Sequence[Array]], dtypes: Sequence[np.dtype[Any]]) -> list[Any]:
    """Return the model of what ``fn`` makes of the numbers of models; ``dtypes`` are those of its leaves.

    While a body is probed one number of each leaf stands for all.
    """
    made = []
    for dtype, *leaves in zip(dtypes, *models, strict=True):
        out = np.empty(np.shape(leaves[0]), dtype)
        if probing() and out.size:
            out[...] = fn(*(np.reshape(leaf, -1)[0] for leaf in leaves))
        else:
            rows = zip(*(np.reshape(leaf, -1) for leaf in leaves), strict=True)
            out.reshape(-1)[:] = [fn(*numbers) for numbers in rows]
        made.append(out[()])
    return made


def cast(tensor: Array, dtype: np.dtype[Any]) -> Array:
    """Return a tensor in another dtype; an integer that does not fit is a `DoesNotFitError`."""
    array = np.asarray(tensor)
    if dtype.kind in "iu" and not np.can_cast(array.dtype, dtype, "safe"):
        check_range(array, TensorType(dtype, np.shape(array)), tensor)
    with np.errstate(all="ignore"):
        return array.astype(dtype)[()]
