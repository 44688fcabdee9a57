"""Functions as arguments and results of computations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import (
    Block,
    Call,
    Closure,
    Expr,
    Lambda,
    Literal,
    Local,
    Struct,
    evaluate,
    free,
    path_of,
    root_of,
)
from fedmpi.language.types import FunctionType, StructType, TensorType, Type
from fedmpi.language.types.presenting import rebuild
from fedmpi.local.columns.column import is_text
from fedmpi.local.columns.values import ArgumentError, normalise, present
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.loops.interpret import Interpreter


def function_value(value: Any, type_: FunctionType, path: tuple[str, ...]) -> Any:
    """Return the function value of a computation given as an argument."""
    try:
        given: Computation = normalise(value, type_)
    except ArgumentError as error:
        raise error.inside(".".join(path) or "argument") from None
    return evaluate(given.expression, {}, Interpreter())


class Constant(LocalBody):
    """A function without parameters that returns a value which no literal can hold, such as a sequence."""

    def __init__(self, value: Any, type_: Type) -> None:
        super().__init__(lambda: value, FunctionType(None, type_), (), "constant", "")
        self.value = value

    def __call__(self, argument: Any) -> Any:
        return self.value


def present_with_functions(value: Any, type_: Type) -> Any:
    """Return an unplaced result, which may hold functions, as Python values."""
    match type_:
        case FunctionType():
            return as_computation(value, type_)
        case StructType():
            return rebuild(type_, [present_with_functions(v, t) for v, t in zip(value, type_, strict=True)])
    return present(value, type_)


def as_computation(value: Any, type_: FunctionType) -> Computation:
    """Return a function value as a computation; what it captured becomes constants in it."""
    if isinstance(value, LocalBody):
        return Computation(Local(value, value.type), name=value.name, where=value.where)
    return Computation(_quote(value, type_), name="returned function")


def _quote_used(value: Any, type_: Type, paths: Sequence[tuple[int, ...]]) -> Expr:
    """Return the expression of a captured value; what no path selects, maybe a placed value, is left empty."""
    if () in paths or not isinstance(type_, StructType):
        return _quote(value, type_)
    parts: list[Expr] = []
    for index, part in enumerate(type_):
        inside = [path[1:] for path in paths if path[0] == index]
        parts.append(_quote_used(value[index], part, inside) if inside else _NOTHING)
    return Struct(tuple(parts), StructType([part.type for part in parts]))


_NOTHING = Struct((), StructType([]))


def _quote(value: Any, type_: Type) -> Expr:
    """Return the expression of a normalised value."""
    match value, type_:
        case LocalBody(), _:
            return Local(value, value.type)
        case Closure(function, env), _:
            uses = list(free(function))
            if not uses:
                return function
            roots = {root.name: root.type for root in map(root_of, uses)}
            paths = {name: [path_of(use) for use in uses if root_of(use).name == name] for name in roots}
            captured = tuple((name, _quote_used(env[name], t, paths[name])) for name, t in roots.items())
            body = Block(captured, function.body, function.body.type)
            return Lambda(function.parameter, body, function.type)
        case str(), TensorType():
            return Literal(value, type_)
        case _, TensorType() if not is_text(type_):
            return Literal(value.tobytes(), TensorType(type_.dtype, value.shape))
        case _, StructType():
            return Struct(tuple(_quote(v, t) for v, t in zip(value, type_, strict=True)), type_)
    constant = Constant(value, type_)
    return Call(Local(constant, constant.type), None, type_)
