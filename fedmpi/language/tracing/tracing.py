"""Tracing: running a Python function on values that stand for data, to get its tree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fedmpi.language.errors import (
    CaptureError,
    ComputationReturnedNoneError,
    EndlessBodyError,
    TypingError,
    reporting,
)
from fedmpi.language.source import definition_location, function_name, passed_at, run_to_return
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.parameters import Bound, bind_parameter, decorator
from fedmpi.language.tracing.traced import Value, embed
from fedmpi.language.tree.expressions import Block, Expr, Lambda, Ref, Struct, free, root_of
from fedmpi.language.tree.scopes import Scope, current_scope, entered
from fedmpi.language.types import FunctionType, Type, is_federated


def _federated_computation(fn: Callable[..., Any], types: Sequence[Type | None]) -> Computation:
    """Make a computation of a Python function, by running it once on values that stand for its arguments.

    ``@federated_computation(T1, …)`` declares the parameters' types; ``@federated_computation`` is for a function
    without parameters, or to be typed at each use; ``federated_computation(fn, T1, …)`` takes a function at hand.
    Raises `TypingError` for a program that is not well typed.
    """
    name = function_name(fn)
    name = "lambda" if name == "<lambda>" else name
    where = definition_location(fn)
    bound = bind_parameter(fn, types)
    return Computation(trace(fn, bound, name, where), name=name, where=where, doc=fn.__doc__, names=bound.names)


def trace(fn: Callable[..., Any], bound: Bound, name: str, where: str) -> Lambda:
    """Return the function that ``fn`` computes; raise `ComputationReturnedNoneError` if it returns None.

    Values of the body around it, which ``fn`` may use, stay free names.
    """
    outer = current_scope()
    if outer is not None:
        _label_captures(fn, outer)
    scope = Scope(name, where, outer)
    with entered(scope):
        parameter = None if bound.type is None else Ref(scope.fresh(f"{name}_arg"), bound.type)
        returned, place = _returned(fn, _arguments(parameter, bound, scope), name, where)
        if returned is None:
            raise ComputationReturnedNoneError(f"{name} ({where}) returned None: a computation must return a value")
        with reporting(name, place):
            result = embed(returned, None, "result").comp
            if outer is None:
                _check_functions(result, scope)
    locals_ = _needed(scope.locals, result)
    body = Block(locals_, result, result.type) if locals_ else result
    return Lambda(None if parameter is None else parameter.name, body, FunctionType(bound.type, result.type))


def _returned(fn: Callable[..., Any], arguments: list[Value], name: str, where: str) -> tuple[Any, str]:
    """Run a body; return its result and the place of its ``return``.

    Raises `EndlessBodyError` where the body calls itself: nothing that it can ask while it is traced ends that.
    """
    try:
        return run_to_return(fn, arguments)
    except (RecursionError, NameError) as error:
        if isinstance(error, TypingError) or (isinstance(error, NameError) and error.name != function_name(fn)):
            raise
        where = passed_at(error, fn) or where
    endless = EndlessBodyError(
        "the body calls itself, without end, or is nested too deeply",
        "a recursion cannot depend on traced values: put it into a numba_computation, or fold with fm.sequence_reduce",
    )
    endless.subject, endless.where = name, where
    raise endless


def _needed(locals_: Sequence[tuple[str, Expr]], result: Expr) -> tuple[tuple[str, Expr], ...]:
    """Return the locals that the result is made of: what a body computes and does not return is no part of it."""
    names = {root_of(use).name for use in free(result)}
    needed = []
    for name, local in reversed(locals_):
        if name in names:
            needed.append((name, local))
            names.update(root_of(use).name for use in free(local))
    return tuple(reversed(needed))


def _check_functions(result: Expr, scope: Scope) -> None:
    """Refuse a returned function that uses a placed value: it would outlive the call in which that value is."""
    if isinstance(result, Struct):
        for element in result.elements:
            _check_functions(element, scope)
    for used in free(result) if isinstance(result, Lambda) else ():
        if is_federated(used.type) and not isinstance(used.type, FunctionType):
            found = f"{scope.describe(used)} of type {used.type}"
            raise CaptureError(
                f"a function that is returned must use no placed value, found {found}",
                "make it a parameter of that function",
            )


def _arguments(parameter: Ref | None, bound: Bound, scope: Scope) -> list[Value]:
    if parameter is None:
        return []
    whole = Value(parameter, scope)
    if bound.fields is None:
        scope.labels[parameter] = bound.names[0]
        return [whole]
    arguments = [whole[index] for index in bound.fields]
    scope.labels.update({value.comp: name for value, name in zip(arguments, bound.names, strict=True)})
    return arguments


def _label_captures(fn: Callable[..., Any], outer: Scope) -> None:
    """Remember what ``fn`` calls the values around it, for error texts."""
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code is not None else (), cells, strict=False):
        try:
            captured = cell.cell_contents
        except ValueError:
            continue  # a variable without a value yet
        if isinstance(captured, Value):
            outer.labels[captured.comp] = name


federated_computation = decorator("federated_computation", _federated_computation)
