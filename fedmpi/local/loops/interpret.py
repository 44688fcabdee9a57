"""The interpreter of unplaced programs: one value at a time, straight from the definitions.

The reference evaluator is built on it, and the runtime uses it for what has no compiled form.  Local computations are
called as they are (compiled ones compiled), so that interpreted and compiled runs give the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fedmpi.language.tree.expressions import Apply, Call, Closure, Literal, Local, Select, Struct, call_closure
from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.language.types.walking import flat, leaves_of, nested
from fedmpi.local.columns.column import PackedSequence, pack
from fedmpi.local.columns.flat import flat_layout, slots_of, value_of
from fedmpi.local.computations.bodies import LocalBody, note_batch
from fedmpi.local.integers.raising import computed
from fedmpi.local.whole import model_twins as twins


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
            case "model_map":
                fn, models = args
                takes = len(models) > 1

                def number(*numbers: Any) -> Any:
                    return self.invoke(fn, numbers if takes else numbers[0])

                types = expr.args[1].type
                assert isinstance(types, StructType)
                leaves = [flat(model, type_) for model, type_ in zip(models, types, strict=True)]
                dtypes = [leaf.dtype for leaf in _tensors(expr.type)]
                return nested(expr.type, iter(twins.mapped(number, leaves, dtypes)))
            case _ if expr.op in _WHOLE:
                return _WHOLE[expr.op](expr, *args)
        return _elementwise(expr, *args)


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


def _tensors(type_: Type) -> list[TensorType]:
    return [leaf for leaf in leaves_of(type_) if isinstance(leaf, TensorType)]


def _pieces(value: Any, type_: Type) -> list[Any]:
    """Return the arrays of a model: the vectors of a flat struct, else its leaves."""
    return slots_of(value, type_) if flat_layout(type_) is not None else flat(value, type_)


def _model(type_: Type, pieces: Iterable[Any]) -> Any:
    return (value_of if flat_layout(type_) is not None else nested)(type_, iter(pieces))


def _elementwise(expr: Apply, left: Any, right: Any) -> Any:
    """Return arithmetic or a comparison of two tensors, or arithmetic of models or of one and a scalar."""
    if expr.op not in twins.BINARY:
        raise ValueError(f"{expr.op} is no operator of an unplaced program")
    sides = [(value, arg.type) for value, arg in zip((left, right), expr.args, strict=True)]
    count = (
        max(len(_pieces(value, type_)) for value, type_ in sides if isinstance(type_, StructType))
        if any(isinstance(type_, StructType) for _, type_ in sides)
        else 1
    )
    one, other = (_pieces(value, type_) if isinstance(type_, StructType) else [value] * count for value, type_ in sides)
    made = [twins.elementwise(expr.op, a, b, expr.where) for a, b in zip(one, other, strict=True)]
    return _model(expr.type, made)


def _float(expr: Apply, number: Any) -> Any:
    assert isinstance(expr.type, TensorType)
    return twins.rounded(number, expr.type.dtype)


def _negative(expr: Apply, model: Any) -> Any:
    return _model(expr.type, [twins.negated(piece, expr.where) for piece in _pieces(model, expr.type)])


def _dot(expr: Apply, left: Any, right: Any) -> Any:
    return _float(expr, twins.dot(*(flat(side, arg.type) for side, arg in zip((left, right), expr.args, strict=True))))


def _norm(expr: Apply, model: Any) -> Any:
    return _float(expr, twins.norm(flat(model, expr.args[0].type)))


def _flatten(expr: Apply, model: Any) -> Any:
    return twins.flattened(flat(model, expr.args[0].type))


def _unflatten(expr: Apply, vector: Any, _: Any) -> Any:
    shapes = [tuple(d or 0 for d in tensor.shape or ()) for tensor in _tensors(expr.type)]
    ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
    pieces = [vector[end - math.prod(shape) : end].reshape(shape)[()] for shape, end in zip(shapes, ends, strict=True)]
    return nested(expr.type, iter(pieces))


def _cast(expr: Apply, model: Any, _: Any) -> Any:
    leaves = flat(model, expr.args[0].type)
    cast = [twins.cast(leaf, tensor.dtype) for leaf, tensor in zip(leaves, _tensors(expr.type), strict=True)]
    return nested(expr.type, iter(cast))


_WHOLE: dict[str, Callable[..., Any]] = {
    "negative": _negative,
    "model_dot": _dot,
    "model_norm": _norm,
    "model_zeros_like": lambda expr, _: zeros(expr.type),
    "model_flatten": _flatten,
    "model_unflatten": _unflatten,
    "model_cast": _cast,
}
