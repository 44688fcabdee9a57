"""The interpreter of unplaced programs: one value at a time, straight from the definitions.

The reference evaluator is built on it, and the runtime uses it for what has no compiled form.  Local computations are
called as they are (compiled ones compiled), so that interpreted and compiled runs give the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.language.tree.expressions import Apply, Call, Closure, Literal, Local, Select, Struct, call_closure
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.columns.values import UnequalShapesError
from fedmpi.local.computations.bodies import LocalBody, note_batch
from fedmpi.local.integers.raising import SYMBOLS, computed

_BINARY = {
    "add": np.add, "subtract": np.subtract, "multiply": np.multiply, "divide": np.true_divide,
    "less": np.less, "less_equal": np.less_equal, "greater": np.greater, "greater_equal": np.greater_equal,
    "equal": np.equal, "not_equal": np.not_equal,
}  # fmt: skip


class _Batch:
    """Within the block an error is one of batch ``index``.

    A class: what is made of a generator sets the traceback of what passes, which a frozen exception refuses.
    """

    def __init__(self, index: int) -> None:
        self.index = index

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: Any) -> None:
        if error is not None and issubclass(type(error), Exception):
            note_batch(error, self.index)


class Interpreter:
    """Semantics of `evaluate` on normalised values (see `fedmpi.local.columns.column`)."""

    def literal(self, expr: Literal) -> Any:
        return expr.value

    def struct(self, expr: Struct, parts: list[Any]) -> Any:
        return tuple(parts)

    def select(self, expr: Select, source: Any) -> Any:
        return source[expr.index]

    def local(self, expr: Local) -> LocalBody:
        body: LocalBody = expr.impl
        return body

    def call(self, function: Any, argument: Any, expr: Call) -> Any:
        return self.invoke(function, argument)

    def invoke(self, function: Any, argument: Any) -> Any:
        """Apply a function value: a closure or a local computation."""
        if isinstance(function, Closure):
            return call_closure(function, argument, self)
        return function(argument)

    def apply(self, expr: Apply, args: list[Any]) -> Any:
        match expr.op:
            case "sequence_map":
                assert isinstance(expr.type, SequenceType)
                mapped = []
                for i, element in enumerate(args[1]):
                    with _Batch(i):
                        mapped.append(self.invoke(args[0], element))
                return PackedSequence(pack(expr.type.element, mapped), 0, len(mapped))
            case "sequence_reduce":
                state = args[1]
                for i, element in enumerate(args[0]):
                    with _Batch(i):
                        state = self.invoke(args[2], (state, element))
                return state
            case "sequence_sum":
                total = zeros(expr.type)
                for i, element in enumerate(args[0]):
                    with _Batch(i):
                        total = add(total, element, expr.type)
                return total
        with np.errstate(all="ignore"):
            return _elementwise(expr.op, args, expr.type, expr.where)


def zeros(type_: Type) -> Any:
    """Return the zero of a type of tensors with known shapes."""
    match type_:
        case TensorType(dtype, shape):
            return np.zeros(tuple(d or 0 for d in shape or ()), dtype)[()]
        case StructType():
            return tuple(map(zeros, type_))
    raise TypeError(f"no zero of type {type_}")


def add(left: Any, right: Any, type_: Type) -> Any:
    """Return the sum of two values in their dtype; an integer that does not fit raises `OverflowError`."""
    match type_:
        case StructType():
            return tuple(add(a, b, t) for a, b, t in zip(left, right, type_, strict=True))
        case TensorType(dtype, _):
            if dtype.kind in "iu":
                try:
                    return computed("add", left, right, dtype)
                except OverflowError:
                    raise OverflowError(f"the sum does not fit {dtype.name}") from None
            with np.errstate(all="ignore"):
                return np.add(left, right, dtype=dtype)
    raise TypeError(f"no sum of type {type_}")


def _elementwise(op: str, args: list[Any], type_: Type, where: str) -> Any:
    if op not in _BINARY:
        raise ValueError(f"{op} is no operator of an unplaced program")
    if op == "add" and isinstance(type_, StructType):
        parts = zip(*args, type_, strict=True)
        return tuple(_elementwise(op, [a, b], t, where) for a, b, t in parts)
    left, right = map(np.shape, args)
    if left != right and left and right:  # NumPy would stretch a dimension of size 1
        raise UnequalShapesError(op, left, right)
    if op in SYMBOLS and isinstance(type_, TensorType) and type_.dtype.kind in "iu":
        return computed(op, args[0], args[1], type_.dtype, where)
    return _BINARY[op](*args)
