"""Function values ready to run: compiled where that pays, interpreted otherwise, with the same bits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from fedmpi.language.tree.expressions import Apply, Closure, Expr, Local, evaluate, walk
from fedmpi.language.types import FunctionType, Type, is_federated
from fedmpi.local.columns.values import ArgumentError, check_normalised
from fedmpi.local.computations.bodies import LocalBody, NotCompilable
from fedmpi.local.jit.debugging import debugging
from fedmpi.local.loops.compiled import CompiledFunction
from fedmpi.local.loops.interpret import Interpreter
from fedmpi.local.loops.lifting import Lifted, LiftedParts
from fedmpi.local.loops.writer import Parts

Resolve = Callable[[Any], Any]


class LocalFunction:
    """An unplaced function value whose captured values are symbols (objects with a ``type``) until it is called."""

    def __init__(self, function: Any, parameter: Type | None, result: Type, name: str) -> None:
        self._function, self._types, self.name = function, (parameter, result), name
        self.has_loop = isinstance(function, Closure) and has_loop(function.function.body)

    @functools.cached_property
    def _compiled(self) -> CompiledFunction | None:
        if not self.has_loop:
            return None
        try:
            return CompiledFunction(self._function, *self._types, self.name)
        except NotCompilable:
            return None

    def bound(self, resolve: Resolve) -> Callable[[Any], Any]:
        """Return the function of one normalised argument; ``resolve`` gives the value of a captured symbol."""
        compiled = None if debugging() else self._compiled
        if compiled is not None:
            captures = [resolve(symbol) for symbol in compiled.captured]
            return lambda argument: compiled(argument, captures)
        function, interpreter = concrete(self._function, resolve), Interpreter()
        if debugging():
            return lambda argument: self._checked(interpreter.invoke(function, argument))
        return lambda argument: interpreter.invoke(function, argument)

    def _checked(self, value: Any) -> Any:
        try:
            check_normalised(value, self._types[1])
        except ArgumentError as error:
            raise TypeError(f"debug mode: what a function returned does not have its type: {error}") from None
        return value


def concrete(value: Any, resolve: Resolve) -> Any:
    """Return a symbolic value with every symbol replaced by what ``resolve`` gives."""
    match value:
        case LocalBody() | None:
            return value
        case Closure(function, env):
            return Closure(function, Lifted(env, lambda v: _captured(v, resolve)))
        case Parts(parts):
            return tuple(concrete(part, resolve) for part in parts)
    return resolve(value)


def _captured(value: Any, resolve: Resolve) -> Any:
    """Return a value around a function; of a struct with placed values in it, those parts that the function uses."""
    if isinstance(value, Parts) and is_federated(value.type):
        return LiftedParts(value.parts, lambda part: _captured(part, resolve))
    return concrete(value, resolve)


def has_loop(expr: Expr) -> bool:
    """Tell whether an expression works through a sequence, or the numbers of a model: compiled, that is one loop."""
    return any(isinstance(node, Apply) and node.op.startswith(("sequence_", "model_map")) for node in walk(expr))


def local_function(expr: Expr, name: str) -> Callable[[Any], Any]:
    """Return a closed unplaced function as a Python function of one normalised argument."""
    if isinstance(expr, Local):
        body: LocalBody = expr.impl
        return body
    type_ = expr.type
    assert isinstance(type_, FunctionType)
    function = evaluate(expr, {}, Interpreter())
    return LocalFunction(function, type_.parameter, type_.result, name).bound(lambda value: value)
