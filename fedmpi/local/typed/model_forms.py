"""Arithmetic of whole models in compiled code, over one vector at a time; `local.whole.model_twins` defines it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from fedmpi.language.types import TensorType
from fedmpi.local.jit.callee import OPTIONS
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.jit.kernel import jit
from fedmpi.local.typed.coerce import cast_to, outside_of
from fedmpi.local.typed.coerce import limits_of as integer_limits
from fedmpi.local.typed.tokens import TypeToken
from fedmpi.local.value_errors import IntegerDoesNotFit
from fedmpi.local.whole.model_twins import LANES

ARITHMETIC = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}


def _interpreted(*_: Any) -> Any:
    raise NotImplementedError("for compiled code")


def _numbers(op: str) -> Any:
    def computed(left: Any, right: Any) -> Any:
        """Return a vector of sums, differences, products or quotients; one side may be a scalar of the same dtype."""
        return _interpreted(left, right)

    @overload(computed, strict=False, jit_options=OPTIONS)
    def _computed(left: Any, right: Any) -> Any:
        arrays = [isinstance(side, types.Array) for side in (left, right)]
        a, b = (f"{name}[i]" if is_array else name for name, is_array in zip(("left", "right"), arrays, strict=True))
        shaped = "left" if arrays[0] else "right"
        body = (
            f"    out = empty({shaped}.size, {shaped}.dtype)\n    for i in range(out.size):\n"
            f"        out[i] = {a} {ARITHMETIC[op]} {b}\n    return out\n"
        )
        return generated_function("computed", "left, right", body, {"empty": np.empty})

    return computed


numbers_add, numbers_subtract, numbers_multiply, numbers_divide = map(_numbers, ARITHMETIC)


def negated(tensor: Any) -> Any:
    """Return the negative of floats or complex numbers, of a scalar or an array."""
    return _interpreted(tensor)


@overload(negated, strict=False, jit_options=OPTIONS)
def _negated(tensor: Any) -> Any:
    if not isinstance(tensor, types.Array):
        return lambda tensor: -tensor
    body = (
        "    out = empty(tensor.shape, tensor.dtype)\n    numbers, given = out.reshape(-1), tensor.reshape(-1)\n"
        "    for i in range(numbers.size):\n        numbers[i] = -given[i]\n    return out\n"
    )
    return generated_function("negated", "tensor", body, {"empty": np.empty})


@jit
def vector_dot(left: Any, right: Any) -> Any:
    """Return the sum of products in float64, in the order of the row ``model_dot``."""
    sums = np.zeros(LANES)
    whole = left.size // LANES * LANES
    for at in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += np.float64(left[at + lane]) * np.float64(right[at + lane])
    for lane in range(left.size - whole):
        sums[lane] += np.float64(left[whole + lane]) * np.float64(right[whole + lane])
    step = LANES // 2
    while step:
        for lane in range(step):
            sums[lane] += sums[lane + step]
        step //= 2
    return sums[0]


@jit
def vector_norm(vector: Any) -> Any:
    """Return the Euclidean norm in float64."""
    return np.sqrt(vector_dot(vector, vector))


def cast_tensor(tensor: Any, token: TypeToken) -> Any:
    """Return a tensor in the token's dtype; an integer that does not fit raises `OverflowError`."""
    return _interpreted(tensor, token)


@overload(cast_tensor, strict=False, jit_options=OPTIONS)
def _cast_tensor(tensor: Any, token: Any) -> Any:
    type_: TensorType = token.type
    is_array = isinstance(tensor, types.Array)
    scope: dict[str, Any] = {"cast": cast_to(type_.dtype), "empty": np.empty, "dtype": type_.dtype.type}
    lines = []
    number = tensor.dtype if is_array else tensor
    limits = integer_limits(number, type_.dtype) if isinstance(number, types.Integer) else (None, None)
    if limits != (None, None):
        scope |= {"DoesNotFit": IntegerDoesNotFit, "outside": outside_of, "low": limits[0], "high": limits[1]}
        scope |= {"label": token.label, "expected": str(type_)}
        if is_array:
            lines += ["found = outside(tensor, low, high)", "if found >= 0:"]
            lines += ["    raise DoesNotFit(label, expected, tensor.ravel()[found])"]
        else:
            tests = [f"tensor {sign} {name}" for sign, name in (("<", "low"), (">", "high")) if scope[name] is not None]
            lines += [f"if {' or '.join(tests)}:", "    raise DoesNotFit(label, expected, tensor)"]
    if is_array:
        lines += ["out = empty(tensor.shape, dtype)", "numbers, given = out.reshape(-1), tensor.reshape(-1)"]
        lines += ["for i in range(numbers.size):", "    numbers[i] = cast(given[i])", "return out"]
    else:
        lines.append("return cast(tensor)")
    return generated_function("cast_of", "tensor, token", "".join(f"    {line}\n" for line in lines), scope)
