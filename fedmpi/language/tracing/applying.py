"""From an operator's row to the Python function that users call in a traced body."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from fedmpi.language.errors import CaptureError, TypingError, reporting
from fedmpi.language.operators.hints import FUNCTION_HINT, shortened
from fedmpi.language.operators.table import OPERATORS, Operator, Take
from fedmpi.language.source import user_location
from fedmpi.language.tracing.computation import PolymorphicComputation
from fedmpi.language.tracing.traced import (
    FunctionSource,
    Value,
    embed,
    emit,
    struct_value,
)
from fedmpi.language.tree.expressions import Apply, Call, Expr, Lambda, Ref, Select, free
from fedmpi.language.tree.scopes import current_scope, tracing_scope
from fedmpi.language.types import FederatedType, FunctionType, StructType, Type, is_federated
from fedmpi.language.types.assignability import is_zippable
from fedmpi.language.types.placements import SERVER, PlacementLiteral


def as_value(obj: Any, wanted: Type | None, name: str) -> Value:
    """Take any value."""
    return embed(obj, wanted, name)


def as_placed(obj: Any, wanted: Type | None, name: str) -> Value:
    """Take a placed value; a struct of values at one placement is zipped."""
    value = embed(obj, wanted, name)
    return emit("federated_zip", [value]) if is_zippable(value.type_signature) else value


def as_function(obj: Any, wanted: Type | None, name: str) -> Value:
    """Take a computation, or a value that is a function."""
    if not isinstance(obj, FunctionSource | Value):
        if callable(obj):
            raise TypingError(
                f"{name} must be a computation, found the Python function {getattr(obj, '__name__', obj)!r}",
                FUNCTION_HINT,
            )
        raise TypingError(f"{name} must be a computation, found {_text(obj)}")
    value = obj.as_value(wanted) if isinstance(obj, FunctionSource) else embed(obj, None, name)
    if not isinstance(value.type_signature, FunctionType):
        hint = "give the function itself, without calling it" if isinstance(value.comp, Ref | Call) else ""
        raise TypingError(f"{name} must be a computation, found {_text(value)}", hint)
    for captured in free(value.comp):
        if is_federated(captured.type) and not isinstance(captured.type, FunctionType):
            described = tracing_scope(name).describe(captured)
            raise CaptureError(
                f"{name} must use no placed value from around it, found {described} of type {shortened(captured.type)}",
                _capture_hint(described, captured.type),
            )
    return value


def _capture_hint(described: str, type_: Type) -> str:
    """Return advice on a placed value that a function uses; ``described`` is its name, or says what it is."""
    name = described if described.replace(".", "").isidentifier() else "it"
    server = isinstance(type_, FederatedType) and type_.placement == SERVER
    given = f"fm.federated_broadcast({name})" if server else name
    return f"make it an argument of the function: give (value, {given}) to the operator"


def as_placement(obj: Any, wanted: Type | None, name: str) -> PlacementLiteral:
    """Take a placement."""
    if not isinstance(obj, PlacementLiteral):
        raise TypingError(f"{name} must be fm.CLIENTS or fm.SERVER, found {obj!r}")
    return obj


_TAKING: Mapping[Take, Callable[[Any, Type | None, str], Any]] = {
    Take.VALUE: as_value,
    Take.PLACED: as_placed,
    Take.POINTWISE: as_placed,
    Take.FUNCTION: as_function,
    Take.PLACEMENT: as_placement,
}


def function_of(name: str, called: str = "") -> Callable[..., Value]:
    """Return the function that users call for an operator of the table; ``called`` is its name for them, if another."""
    row = OPERATORS[name]

    @functools.wraps(row.rule)
    def apply(*args: Any, **kwargs: Any) -> Value:
        with reporting(called or name):
            tracing_scope(called or name)
            taken = _take(row, _bind(row.rule, args, kwargs))
            if row.pointwise and isinstance(taken[row.pointwise[0]].type_signature, FederatedType):
                return _pointwise(row, taken)
            return _emit(row, taken, row.emits or name)

    apply.__doc__ = row.doc
    return apply


def _bind(rule: Callable[..., Type], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(rule)
    try:
        given = signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypingError(f"{error}", f"it takes ({', '.join(signature.parameters)})") from None
    return {n: obj for n, obj in given.items() if obj is not None or signature.parameters[n].default is not None}


def _take(row: Operator, given: dict[str, Any]) -> dict[str, Any]:
    """Take the arguments, those first whose types say what the others should be."""

    def order(name: str) -> int:
        if row.takes[name] is not Take.FUNCTION:
            return 1
        return 2 if isinstance(given[name], PolymorphicComputation) else 0

    swapped = any(isinstance(obj, FunctionSource) for obj in given.values())
    for name, obj in given.items():
        if swapped and row.takes[name] is Take.FUNCTION and _is_data(obj):
            raise TypingError(f"{name} must be a computation, found {_text(obj)}", f"the order is {_order(row)}")
    taken: dict[str, Any] = {}
    types: dict[str, Type] = {}
    for name in sorted(given, key=order):
        hint = row.hints.get(name)
        taken[name] = _TAKING[row.takes[name]](given[name], hint(types) if hint is not None else None, name)
        if isinstance(taken[name], Value):
            types[name] = taken[name].type_signature
    return {name: taken[name] for name in given}


def _emit(row: Operator, taken: Mapping[str, Any], op: str) -> Value:
    values = [value for value in taken.values() if isinstance(value, Value)]
    types = {name: value.type_signature if isinstance(value, Value) else value for name, value in taken.items()}
    return emit(op, values, row.rule(**types))


def _pointwise(row: Operator, taken: Mapping[str, Value]) -> Value:
    """Apply an operator at each place: map a function of the members; its other arguments are captured."""
    scope = current_scope()
    assert scope is not None
    placed = [name for name, value in taken.items() if isinstance(value.type_signature, FederatedType)]
    joined = taken[placed[0]]
    if len(placed) > 1:
        joined = as_placed(struct_value([taken[name] for name in placed], [None] * len(placed), None), None, placed[0])
    if not isinstance(joined.type_signature, FederatedType):
        raise TypingError(f"{' and '.join(placed)} must be at one placement, found {joined.type_signature}")
    member = joined.type_signature.member
    parameter = Ref(scope.fresh(f"{row.name}_arg"), member)
    exprs: dict[str, Expr] = {name: value.comp for name, value in taken.items()}
    for index, name in enumerate(placed):
        if len(placed) > 1:
            assert isinstance(member, StructType)
            exprs[name] = Select(parameter, index, member[index])
        else:
            exprs[name] = parameter
    result = row.rule(**{name: expr.type for name, expr in exprs.items()})
    body = Apply(row.name, tuple(exprs.values()), result, user_location())
    fn = Lambda(parameter.name, body, FunctionType(member, result))
    return emit("federated_map", [Value(fn, scope), joined])


def _is_data(obj: Any) -> bool:
    if isinstance(obj, Value):
        return not isinstance(obj.type_signature, FunctionType)
    return not isinstance(obj, FunctionSource) and not callable(obj)


def _text(obj: Any) -> str:
    return f"a value of type {obj.type_signature}" if isinstance(obj, Value) else type(obj).__name__


def _order(row: Operator) -> str:
    return f"{row.name}({', '.join(inspect.signature(row.rule).parameters)})"
