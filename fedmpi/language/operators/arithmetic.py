"""Rows of the table of operators: arithmetic and comparison of unplaced tensors, and arithmetic of whole models.

A model is a tensor or a struct of tensors, however deep.  Arithmetic is elementwise, leaf by leaf (language.md, 8.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.errors import TypingError
from fedmpi.language.operators.hints import contrast, dtype_hint
from fedmpi.language.operators.rules import check_tensors
from fedmpi.language.operators.table import OPERATORS, Lowering, Operator
from fedmpi.language.types import StructType, TensorType, Type, is_federated
from fedmpi.language.types.dtypes import kind
from fedmpi.language.types.walking import leaves_of

_NUMBERS = ("int", "float", "complex")


def _check_unplaced(left: Type, right: Type) -> None:
    placed = [is_federated(type_) for type_ in (left, right)]
    if all(placed):
        hint = "compute at the places: fm.federated_map(fn, (left, right)), where fn takes the members"
        raise TypingError(f"both sides must be unplaced, found {left} and {right}", hint)
    if any(placed):
        hint = "compute at the places: give the placed value to fm.federated_map as an argument of a function"
        raise TypingError(f"both sides must be unplaced, found {left} and {right}", hint)


def _tensors(left: Type, right: Type, kinds: tuple[str, ...]) -> TensorType:
    """The type of the elementwise result in the dtype of both sides: one of ``kinds``, of one shape or one a scalar."""
    _check_unplaced(left, right)
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


def _structs(left: Type, right: Type, kinds: tuple[str, ...]) -> Type:
    """The type of arithmetic leaf by leaf: of two structs of one type, or of one and a scalar of its leaves' dtype."""
    struct, other = (left, right) if isinstance(left, StructType) else (right, left)
    check_leaves(struct, "a struct" if other is not struct else "both sides", kinds)
    if isinstance(other, StructType):
        if not left.is_equivalent_to(right):
            one, two = contrast(left, right)
            raise TypingError(f"both sides must be structs of one type, found {one} and {two}")
        return left
    assert isinstance(other, TensorType)
    if other.shape != ():
        raise TypingError(f"both sides must be structs of one type, or one a scalar, found {left} and {right}")
    dtype = one_dtype(struct, "a struct beside a scalar")
    if other.dtype != dtype:
        hint = dtype_hint(other.dtype, dtype)
        raise TypingError(f"both sides must have one dtype, found {left} and {right}", hint)
    return struct


def check_leaves(model: Type, name: str, kinds: tuple[str, ...]) -> None:
    """Refuse what is not a tensor, or a struct of tensors, of these kinds of numbers."""
    if is_federated(model):
        hint = "compute at the places: give the placed value to fm.federated_map as an argument of a function"
        raise TypingError(f"{name} must be unplaced, found {model}", hint)
    check_tensors(model, name, f"made of {' or '.join(kinds)}", lambda tensor: kind(tensor.dtype) in kinds)


def one_dtype(model: Type, name: str) -> np.dtype[Any]:
    """Return the dtype of all leaves, of which there must be one."""
    dtypes = dict.fromkeys(leaf.dtype for leaf in leaves_of(model) if isinstance(leaf, TensorType))
    if len(dtypes) != 1:
        found = ", ".join(dtype.name for dtype in dtypes) or "no tensor"
        raise TypingError(f"{name} must have tensors of one dtype, found {found}", "fm.model.cast(model, dtype)")
    return next(iter(dtypes))


def _row(name: str, symbol: str, kinds: tuple[str, ...], *, comparison: bool = False) -> None:
    def rule(left: Type, right: Type) -> Type:
        if not comparison and isinstance(left, StructType | TensorType) and isinstance(right, StructType | TensorType):
            structs = [side for side in (left, right) if isinstance(side, StructType)]
            if structs and not is_federated(left) and not is_federated(right):
                return _structs(left, right, kinds)
        tensor = _tensors(left, right, kinds)
        return TensorType(np.bool_, tensor.shape) if comparison else tensor

    signature = "<T,T> -> bool[shape of T]" if comparison else "<T,T> -> T"
    doc = f"``left {symbol} right``, elementwise: one dtype ({', '.join(kinds)}), and one shape or one side a scalar."
    if not comparison:
        doc += "  Of two structs of one type leaf by leaf; of a struct and a scalar, with each of its numbers."
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
