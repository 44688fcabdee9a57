"""What the softmax kernels ask of their rows, answered for arrays, pixels and sparse rows.

Each function stands for one that Numba chooses by the types of its arguments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.local.columns.sparse import Csr, Pixels
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.kernels.softmax_dense import add_gradient_of_rows, room_for, score_rows, turned
from fedmpi.local.kernels.softmax_sparse import add_gradient_of_sparse_rows, score_sparse_rows


def shape(x: Any) -> Any:
    """The number of rows and of features."""
    raise NotImplementedError


def contiguous(array: Any) -> Any:
    """`array`, or a C-contiguous copy of it; of numbers that are no floats, which kernels refuse, some floats."""
    raise NotImplementedError


def write_back(array: Any, written: Any) -> None:
    """Copy `written`, which was `contiguous(array)`, to `array` if it is not the same."""
    raise NotImplementedError


def prepared(x: Any, weights: Any) -> Any:
    """C-contiguous `weights` as `score_block` takes them."""
    raise NotImplementedError


def room(x: Any, rows: int, weights: Any) -> Any:
    """Room for `score_block` to work in."""
    raise NotImplementedError


def score_block(x: Any, start: int, count: int, model: Any, classes: int, room: Any, scores: Any) -> None:
    """scores[c, i] = the score of row start + i of `x`, without bias, for i < count."""
    raise NotImplementedError


def add_gradient(x: Any, y: Any, weights: Any, bias: Any, scale: Any, new_weights: Any, new_bias: Any) -> None:
    """Add `scale` times the gradient of the mean loss to C-contiguous `new_weights`, and to `new_bias`."""
    raise NotImplementedError


def _is(x: Any, form: type) -> bool:
    return getattr(x, "form", None) is form or (isinstance(x, types.BaseNamedTuple) and x.instance_class is form)


@overload(shape, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _shape(x: Any) -> Any:
    if _is(x, Csr):
        return lambda x: (x.offsets.shape[0] - 1, x.width)
    if _is(x, Pixels):
        return lambda x: x.data.shape
    return lambda x: x.shape


@overload(contiguous, strict=False, jit_options=OPTIONS)
def _contiguous(array: Any) -> Any:
    if not isinstance(array.dtype, types.Float):
        return lambda array: array.astype(np.float64)
    if array.layout == "C":
        return lambda array: array
    return lambda array: np.ascontiguousarray(array)


@overload(write_back, strict=False, jit_options=OPTIONS)
def _write_back(array: Any, written: Any) -> Any:
    if array.layout == "C":
        return lambda array, written: None

    def copy(array: Any, written: Any) -> None:
        array[:] = written

    return copy


@overload(prepared, strict=False, jit_options=OPTIONS)
def _prepared(x: Any, weights: Any) -> Any:
    if _is(x, Csr):
        return lambda x, weights: weights
    return lambda x, weights: turned(weights)


@overload(room, strict=False, jit_options=OPTIONS)
def _room(x: Any, rows: Any, weights: Any) -> Any:
    if _is(x, Csr):
        return lambda x, rows, weights: None
    return lambda x, rows, weights: room_for(x, rows, weights)


@overload(score_block, strict=False, jit_options=OPTIONS)
def _score_block(x: Any, start: Any, count: Any, model: Any, classes: Any, room: Any, scores: Any) -> Any:
    if _is(x, Csr):
        return lambda x, start, count, model, classes, room, scores: score_sparse_rows(x, start, count, model, scores)
    return lambda x, start, count, model, classes, room, scores: score_rows(
        x, start, count, model, classes, room, scores
    )


@overload(add_gradient, strict=False, jit_options=OPTIONS)
def _add_gradient(x: Any, y: Any, weights: Any, bias: Any, scale: Any, new_weights: Any, new_bias: Any) -> Any:
    if _is(x, Csr):
        return lambda x, y, weights, bias, scale, new_weights, new_bias: add_gradient_of_sparse_rows(
            x, y, weights, bias, scale, new_weights, new_bias
        )
    return lambda x, y, weights, bias, scale, new_weights, new_bias: add_gradient_of_rows(
        x, y, weights, bias, scale, new_weights, new_bias
    )
