"""Rows of the table of operators: arithmetic and comparison of unplaced tensors, elementwise (language.md, 8.2)."""

from __future__ import annotations

import numpy as np

from fedmpi.language.errors import TypingError
from fedmpi.language.operators.hints import dtype_hint
from fedmpi.language.operators.table import OPERATORS, Lowering, Operator
from fedmpi.language.types import TensorType, Type, is_federated
from fedmpi.language.types.dtypes import kind

_NUMBERS = ("int", "float", "complex")


def _tensors(left: Type, right: Type, kinds: tuple[str, ...]) -> TensorType:
    """The type of the elementwise result in the dtype of both sides: one of ``kinds``, of one shape or one a scalar."""
    placed = [is_federated(type_) for type_ in (left, right)]
    if all(placed):
        hint = "compute at the places: fm.federated_map(fn, (left, right)), where fn takes the members"
        raise TypingError(f"both sides must be unplaced, found {left} and {right}", hint)
    if any(placed):
        hint = "compute at the places: give the placed value to fm.federated_map as an argument of a function"
        raise TypingError(f"both sides must be unplaced, found {left} and {right}", hint)
    if not isinstance(left, TensorType) or not isinstance(right, TensorType):
        raise TypingError(f"both sides must be tensors, found {left} and {right}")
    if left.dtype != right.dtype:
        hint = dtype_hint(left.dtype, right.dtype)
        raise TypingError(f"both sides must have one dtype, found {left} and {right}", hint)
    if kind(left.dtype) not in kinds:
        hint = "divide floats: convert integers in a numba_computation" if kind(left.dtype) == "int" else ""
        raise TypingError(f"both sides must be {' or '.join(kinds)}, found {left} and {right}", hint)
    if left.shape != right.shape and left.shape != () and right.shape != ():
        raise TypingError(f"both sides must have one shape, or one must be a scalar, found {left} and {right}")
    return left if right.shape == () else right


def _row(name: str, symbol: str, kinds: tuple[str, ...], *, comparison: bool = False) -> None:
    def rule(left: Type, right: Type) -> Type:
        tensor = _tensors(left, right, kinds)
        return TensorType(np.bool_, tensor.shape) if comparison else tensor

    signature = "<T,T> -> bool[shape of T]" if comparison else "<T,T> -> T"
    doc = f"``left {symbol} right``, elementwise: one dtype ({', '.join(kinds)}), and one shape or one side a scalar."
    OPERATORS[name] = Operator(name, signature, rule, Lowering.INSIDE, "compiled with the code around it", doc)


_row("add", "+", _NUMBERS)
_row("subtract", "-", _NUMBERS)
_row("multiply", "*", _NUMBERS)
_row("divide", "/", ("float", "complex"))
_row("equal", "==", ("bool", *_NUMBERS), comparison=True)
_row("not_equal", "!=", ("bool", *_NUMBERS), comparison=True)
_row("less", "<", ("int", "float"), comparison=True)
_row("less_equal", "<=", ("int", "float"), comparison=True)
_row("greater", ">", ("int", "float"), comparison=True)
_row("greater_equal", ">=", ("int", "float"), comparison=True)
