"""Arithmetic of traced programs in compiled code: what `fedmpi.local.loops.interpret` does in NumPy.

`zeros` and `add` make the running sum of ``sequence_sum``.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.language.types import StructType, TensorType
from fedmpi.local.columns.flat import flat_layout
from fedmpi.local.integers.operations import overflowing
from fedmpi.local.integers.raising import SYMBOLS, ResultDoesNotFit
from fedmpi.local.jit.callee import OPTIONS, callee
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.records import record_of
from fedmpi.local.typed.coerce import accept, cast_to
from fedmpi.local.typed.flat_structs import flat_struct, vectors_of
from fedmpi.local.typed.tokens import TypeToken, token_of
from fedmpi.local.value_errors import UnequalShapesError


def _interpreted(*_: Any) -> Any:
    raise NotImplementedError("for compiled code")


def zeros(token: TypeToken) -> Any:
    """Return the zero of a type of tensors with known shapes."""
    return _interpreted(token)


def add(left: Any, right: Any, token: TypeToken) -> Any:
    """Return the sum of two values in their dtype; an integer that does not fit raises `OverflowError`."""
    return _interpreted(left, right, token)


def expect_one_shape(left: Any, right: Any, op: str) -> None:
    """Raise `UnequalShapesError` unless two arrays have one shape; a scalar goes with every shape."""
    _interpreted(left, right, op)


@overload(expect_one_shape, strict=False, jit_options=OPTIONS)
def _expect_one_shape(left: Any, right: Any, op: Any) -> Any:
    arrays = isinstance(left, types.Array) and isinstance(right, types.Array) and left.ndim and right.ndim
    body = "    if left.shape != right.shape:\n        raise Unequal(op, left.shape, right.shape)\n"
    return generated_function(
        "expect", "left, right, op", body if arrays else "    pass\n", {"Unequal": UnequalShapesError}
    )


@overload(zeros, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _zeros(token: Any) -> Any:
    match token.type:
        case TensorType(dtype, shape):
            text = "cast(0)" if shape == () else f"empty({shape}, dtype)"
            fill = "" if shape == () else "    value[...] = 0\n"
            scope = {"cast": cast_to(dtype), "empty": np.empty, "dtype": dtype.type}
            return generated_function("zero", "token", f"    value = {text}\n{fill}    return value\n", scope)
        case StructType() if (layout := flat_layout(token.type)) is not None:
            scope = {"flat": flat_struct, "zero": np.zeros}
            scope |= {f"dtype{k}": dtype.type for k, (dtype, _) in enumerate(layout.formats)}
            vectors = ", ".join(f"zero({size[0]}, dtype{k})" for k, (_, size) in enumerate(layout.formats))
            return generated_function("zeros_of", "token", f"    return flat(token, ({vectors},))\n", scope)
        case StructType():
            scope = {"Record": record_of(token.type), "zeros": zeros}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"zeros(T{i})" for i in range(len(token.type)))
            return generated_function("zero", "token", f"    return Record({parts})\n", scope)
    return None


@overload(add, strict=False, jit_options=OPTIONS)  # strict would compare annotations
def _add(left: Any, right: Any, token: Any) -> Any:
    match token.type:
        case TensorType(dtype, shape):
            scope: dict[str, Any] = {"cast": cast_to(dtype), "empty": np.empty, "dtype": dtype.type}
            scope["plus"] = _plus(dtype)
            if shape == ():
                return generated_function("sum_", "left, right, token", "    return plus(left, right)\n", scope)
            body = (
                "    total = empty(left.shape, dtype)\n"
                "    out, a, b = total.ravel(), left.ravel(), right.ravel()\n"
                "    for i in range(out.size):\n        out[i] = plus(a[i], b[i])\n    return total\n"
            )
            return generated_function("sum_", "left, right, token", body, scope)
        case StructType() if (layout := flat_layout(token.type)) is not None:
            scope = {"flat": flat_struct, "vectors_of": vectors_of, "add": add, "accept": accept}
            scope |= {f"T{k}": token_of(TensorType(*each)) for k, each in enumerate(layout.formats)}
            parts = ", ".join(f"add(a[{k}], b[{k}], T{k})" for k in range(len(layout.formats)))
            body = (
                "    a, b = vectors_of(accept(left, token)), vectors_of(accept(right, token))\n"
                f"    return flat(token, ({parts},))\n"
            )
            return generated_function("sum_", "left, right, token", body, scope)
        case StructType():
            scope = {"Record": record_of(token.type), "add": add}
            scope |= {f"T{i}": token_of(part) for i, part in enumerate(token.type)}
            parts = ", ".join(f"add(left[{i}], right[{i}], T{i})" for i in range(len(token.type)))
            return generated_function("sum_", "left, right, token", f"    return Record({parts})\n", scope)
    return None


@functools.cache
def _plus(dtype: np.dtype[Any]) -> Any:
    """Return the compiled addition of two scalars of a dtype."""
    cast = cast_to(dtype)
    if dtype.kind not in "iu":
        return callee(generated_function("plus", "a, b", "    return cast(a + b)\n", {"cast": cast}))
    body = (
        f"    s, wrong = both(a, b)\n    if wrong:\n        raise OverflowError('the sum does not fit {dtype.name}')\n"
    )
    return callee(generated_function("plus", "a, b", f"{body}    return s\n", {"both": overflowing(dtype.name, "add")}))


# --- arithmetic of traced integers: `integer_arithmetic` has the same in NumPy ----------------------------------------


def _integers(op: str, name: str) -> Any:
    def computed(left: Any, right: Any, token: TypeToken) -> Any:
        """Return the sum, difference or product of integers of the token's dtype; beyond it is an `OverflowError`."""
        return _interpreted(left, right, token)

    @overload(computed, strict=False, jit_options=OPTIONS)
    def _computed(left: Any, right: Any, token: Any) -> Any:
        dtype: np.dtype[Any] = token.type.dtype
        scope: dict[str, Any] = {"both": overflowing(dtype.name, name), "DoesNotFit": ResultDoesNotFit}
        scope |= {"empty": np.empty, "dtype": dtype.type}
        failing = f"raise DoesNotFit({op!r}, a, b, {dtype.name!r}, {token.label!r})\n"
        arrays = [isinstance(side, types.Array) and side.ndim > 0 for side in (left, right)]
        if not any(arrays):
            body = f"    a, b = left, right\n    s, wrong = both(a, b)\n    if wrong:\n        {failing}    return s\n"
            return generated_function("computed", "left, right, token", body, scope)
        shaped = "left" if arrays[0] else "right"
        a, b = (f"{side}{'.ravel()' * is_array}" for side, is_array in zip(("left", "right"), arrays, strict=True))
        items = ", ".join(f"{n}{'[i]' * is_array}" for n, is_array in zip(("xs", "ys"), arrays, strict=True))
        body = (
            f"    total = empty({shaped}.shape, dtype)\n    out, xs, ys = total.ravel(), {a}, {b}\n"
            f"    for i in range(out.size):\n        a, b = {items}\n        s, wrong = both(a, b)\n"
            f"        if wrong:\n            {failing}        out[i] = s\n    return total\n"
        )
        return generated_function("computed", "left, right, token", body, scope)

    return computed


integers_add, integers_subtract, integers_multiply = map(_integers, SYMBOLS, ("add", "sub", "mul"))
