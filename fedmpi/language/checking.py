"""The checker: whether a tree is well typed, by the tracer's own rules.  For tests, and for passes over trees."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from fedmpi.language.errors import TypeNotAssignableError, TypingError
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tree.expressions import (
    Apply,
    Block,
    Call,
    Expr,
    Lambda,
    Literal,
    Local,
    Ref,
    Select,
    Struct,
    show,
)
from fedmpi.language.types import FederatedType, FunctionType, StructType, Type

Names = Mapping[str, Type]


def check(expr: Expr, names: Names | None = None) -> None:
    """Raise `TypingError` if a node's type is not what its parts give; ``names`` are the types of its free names."""
    around = names or {}
    match expr:
        case Ref(name, type_):
            _expect(expr, around.get(name), type_)
        case Literal() | Local():
            pass
        case Struct(elements, type_):
            for element, wanted in zip(elements, type_, strict=True):
                check(element, around)
                _expect(expr, element.type, wanted)
        case Select(source, index, type_):
            check(source, around)
            _expect(expr, _element(source.type, index), type_)
        case Lambda(parameter, body, FunctionType(given, result)):
            if (parameter is None) != (given is None):
                raise TypingError(f"{show(expr)} is no function of type {expr.type}")
            check(body, around if parameter is None or given is None else {**around, parameter: given})
            _expect(expr, body.type, result)
        case Block(locals_, result, type_):
            scope = dict(around)
            for name, local in locals_:
                check(local, scope)
                scope[name] = local.type
            check(result, scope)
            _expect(expr, result.type, type_)
        case Call(function, argument, type_):
            check(function, around)
            if not isinstance(function.type, FunctionType):
                raise TypingError(f"{show(expr)} calls what is no function: {function.type}")
            if argument is not None:
                check(argument, around)
            _expect(expr, None if argument is None else argument.type, function.type.parameter)
            _expect(expr, function.type.result, type_)
        case Apply(op, args, type_):
            for arg in args:
                check(arg, around)
            _expect(expr, type_, _applied(op, [arg.type for arg in args], type_))


def _applied(op: str, types: list[Type], result: Type) -> Type:
    """The type that the operator's rule gives; a placement that it takes is that of the result."""
    rule = OPERATORS[op].rule
    if "placement" in inspect.signature(rule).parameters and isinstance(result, FederatedType):
        return rule(*types, result.placement)
    return rule(*types)


def _element(type_: Type, index: int) -> Type | None:
    match type_:
        case StructType():
            return type_[index]
        case FederatedType(StructType() as member, placement, all_equal):
            return FederatedType(member[index], placement, all_equal)
    return None


def _expect(expr: Expr, found: Type | None, wanted: Type | None) -> None:
    if found is not wanted and (found is None or wanted is None or not wanted.is_assignable_from(found)):
        raise TypeNotAssignableError(f"{show(expr)} must have {wanted}, found {found}")
