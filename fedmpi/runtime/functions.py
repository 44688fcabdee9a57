"""Functions as arguments and results of computations."""

from __future__ import annotations

from typing import Any

from fedmpi.language.computation import Computation
from fedmpi.language.expressions import (
    Block,
    Closure,
    Expr,
    Kernel,
    Literal,
    Ref,
    Select,
    Struct,
    evaluate,
    free,
)
from fedmpi.language.types import FunctionType, StructType, TensorType, Type
from fedmpi.local.bodies import LocalBody
from fedmpi.local.interpret import Interpreter
from fedmpi.local.values import ArgumentError, normalise


def function_value(value: Any, type_: FunctionType, path: tuple[str, ...]) -> Any:
    """Return the function value of a computation given as an argument."""
    try:
        given: Computation = normalise(value, type_)
    except ArgumentError as error:
        raise error.inside(".".join(path) or "argument") from None
    return evaluate(given.expression, {}, Interpreter())


def as_computation(value: Any, type_: FunctionType) -> Computation:
    """Return a function value as a computation; what it captured becomes constants in it."""
    if isinstance(value, LocalBody):
        return Computation(Kernel(value, value.type), name=value.name, where=value.where)
    return Computation(_quote(value, type_), name="returned function")


def _quote(value: Any, type_: Type) -> Expr:
    """Return the expression of a normalised value."""
    match value, type_:
        case LocalBody(), _:
            return Kernel(value, value.type)
        case Closure(function, env), _:
            used: dict[str, Type] = {}
            for use in free(function):
                root: Any = use
                while isinstance(root, Select):
                    root = root.source
                assert isinstance(root, Ref)
                used[root.name] = root.type
            if not used:
                return function
            captured = tuple((name, _quote(env[name], t)) for name, t in used.items())
            return Block(captured, function, function.type)
        case _, TensorType():
            text = isinstance(value, str)
            return Literal(value if text else value.tobytes(), TensorType(type_.dtype, getattr(value, "shape", ())))
        case _, StructType():
            return Struct(tuple(_quote(v, t) for v, t in zip(value, type_, strict=True)), type_)
    raise TypeError(f"a function that is returned cannot take a value of type {type_} with it")
