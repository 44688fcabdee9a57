"""Intrinsics of ``federated_language`` as applications of fedmpi's operators."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from federated_language import framework as blocks

from fedmpi.language.errors import UnsupportedValueError, reporting
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tree.expressions import Apply, Expr, Lambda, Literal, Ref, Select, Struct, origin
from fedmpi.language.types import FederatedType, StructType, TensorType, Type
from fedmpi.language.types.placements import CLIENTS, SERVER, PlacementLiteral

# URI of an intrinsic: fedmpi's operator, how many arguments it takes, the placement that the operator is told.
_OPERATORS: dict[str, tuple[str, int, PlacementLiteral | None]] = {
    blocks.FEDERATED_AGGREGATE.uri: ("federated_aggregate", 5, None),
    blocks.FEDERATED_APPLY.uri: ("federated_map", 2, None),
    blocks.FEDERATED_BROADCAST.uri: ("federated_broadcast", 1, None),
    blocks.FEDERATED_EVAL_AT_CLIENTS.uri: ("federated_eval", 1, CLIENTS),
    blocks.FEDERATED_EVAL_AT_SERVER.uri: ("federated_eval", 1, SERVER),
    blocks.FEDERATED_MAP.uri: ("federated_map", 2, None),
    blocks.FEDERATED_MAP_ALL_EQUAL.uri: ("federated_map", 2, None),
    blocks.FEDERATED_MAX.uri: ("federated_max", 1, None),
    blocks.FEDERATED_MEAN.uri: ("federated_mean", 1, None),
    blocks.FEDERATED_MIN.uri: ("federated_min", 1, None),
    blocks.FEDERATED_SECURE_SELECT.uri: ("federated_secure_select", 4, None),
    blocks.FEDERATED_SECURE_SUM.uri: ("federated_secure_sum", 2, None),
    blocks.FEDERATED_SECURE_SUM_BITWIDTH.uri: ("federated_secure_sum_bitwidth", 2, None),
    blocks.FEDERATED_SELECT.uri: ("federated_select", 4, None),
    blocks.FEDERATED_SUM.uri: ("federated_sum", 1, None),
    blocks.FEDERATED_VALUE_AT_CLIENTS.uri: ("federated_value", 1, CLIENTS),
    blocks.FEDERATED_VALUE_AT_SERVER.uri: ("federated_value", 1, SERVER),
    blocks.FEDERATED_WEIGHTED_MEAN.uri: ("federated_mean", 2, None),
    blocks.FEDERATED_ZIP_AT_CLIENTS.uri: ("federated_zip", 1, None),
    blocks.FEDERATED_ZIP_AT_SERVER.uri: ("federated_zip", 1, None),
    blocks.GENERIC_DIVIDE.uri: ("divide", 2, None),
    blocks.GENERIC_MULTIPLY.uri: ("multiply", 2, None),
    blocks.GENERIC_PLUS.uri: ("add", 2, None),
    blocks.SEQUENCE_MAP.uri: ("sequence_map", 2, None),
    "federated_secure_modular_sum": ("federated_secure_modular_sum", 2, None),  # of TensorFlow Federated's mapreduce
    "sequence_reduce": ("sequence_reduce", 3, None),  # the framework does not export these two
    "sequence_sum": ("sequence_sum", 1, None),
}
GENERIC_ZERO = "generic_zero"
# What may use an argument in more than one place.
REPEATING = frozenset(
    {
        blocks.GENERIC_DIVIDE.uri,
        blocks.GENERIC_MULTIPLY.uri,
        blocks.GENERIC_PLUS.uri,
        blocks.FEDERATED_MAP_ALL_EQUAL.uri,
    }
)


def arity(uri: str) -> int:
    """Return how many arguments an intrinsic takes; raise `UnsupportedValueError` for one that is not known."""
    if uri not in _OPERATORS:
        raise UnsupportedValueError(f"fedmpi knows no intrinsic {uri!r} of federated_language")
    return _OPERATORS[uri][1]


def applied(uri: str, arguments: Sequence[Expr], where: str) -> Expr:
    """Return an intrinsic applied to as many arguments as it takes.

    The arguments of those in `REPEATING` must be functions, constants, names or selections from names.
    """
    op, _, placement = _OPERATORS[uri]
    if op == "federated_map":
        function, value = arguments
        keeps_all_equal = uri == blocks.FEDERATED_MAP_ALL_EQUAL.uri
        found = _projected(function, value, keeps_all_equal=keeps_all_equal) or _apply(op, arguments, where=where)
        return _all_equal(found) if keeps_all_equal else found
    if op in ("add", "multiply", "divide"):
        left, right = arguments
        return _elementwise(op, left, right, where)
    return _apply(op, arguments, placement, where)


def _all_equal(mapped: Expr) -> Expr:
    """Return a map whose result is the same at all clients, because the function and its argument are."""
    assert isinstance(mapped.type, FederatedType)
    return dataclasses.replace(mapped, type=FederatedType(mapped.type.member, CLIENTS, all_equal=True))


def _apply(op: str, arguments: Sequence[Expr], placement: PlacementLiteral | None = None, where: str = "") -> Apply:
    types: list[Any] = [argument.type for argument in arguments]
    with reporting(op):
        type_ = OPERATORS[op].rule(*types) if placement is None else OPERATORS[op].rule(*types, placement)
    return Apply(op, tuple(arguments), type_, where)


def _projected(function: Expr, value: Expr, *, keeps_all_equal: bool) -> Expr | None:
    """Return a map that only picks elements of a placed struct as selections, which cost nothing; None for another.

    ``federated_language`` writes ``x.a`` and ``x[1:]`` of a placed x as such maps.
    """
    if not isinstance(function, Lambda) or not isinstance(value.type, FederatedType):
        return None
    if value.type.placement is CLIENTS and value.type.all_equal and not keeps_all_equal:
        return None  # the map's result is one for each client
    if not _picks(function.body, function.parameter, several=is_path(value)):
        return None
    return _placed(function.body, value, value.type)


def _picks(body: Expr, parameter: str | None, *, several: bool) -> bool:
    """Tell whether a function's body is an element of its parameter, or with ``several`` a struct of such."""
    body = origin(body)
    if isinstance(body, Struct):
        return several and bool(body.elements) and all(_picks(e, parameter, several=True) for e in body.elements)
    return isinstance(body, Ref) and body.name == parameter


def _placed(body: Expr, value: Expr, at: FederatedType) -> Expr:
    """Return what `_picks` found, of the placed value."""
    type_ = FederatedType(body.type, at.placement, at.all_equal)
    match body:
        case Select(source, index):
            return Select(_placed(source, value, at), index, type_)
        case Struct(elements, StructType() as struct):
            parts = tuple(_placed(element, value, at) for element in elements)
            names = [name for name, _ in struct.items()]
            placed = StructType(list(zip(names, (part.type for part in parts), strict=True)))
            return Apply("federated_zip", (Struct(parts, placed),), type_)
    return value


def is_path(expr: Expr) -> bool:
    """Tell whether an expression is a name or a selection from one, which may be repeated at no cost."""
    return isinstance(origin(expr), Ref)


def selected(source: Expr, index: int) -> Expr:
    """Return an element of a struct."""
    if isinstance(source, Struct):
        return source.elements[index]
    assert isinstance(source.type, StructType)
    return Select(source, index, source.type[index])


def _elementwise(op: str, left: Expr, right: Expr, where: str) -> Expr:
    if not isinstance(left.type, StructType):
        return _apply(op, (left, right), where=where)
    parts = [_elementwise(op, selected(left, i), selected(right, i), where) for i in range(len(left.type))]
    return Struct(tuple(parts), StructType([(n, p.type) for (n, _), p in zip(left.type.items(), parts, strict=True)]))


def zero(type_: Type) -> Expr:
    """Return the zero of a type of tensors with known shapes, unplaced or placed."""
    match type_:
        case TensorType(dtype, shape) if shape is not None and None not in shape and dtype.kind != "U":
            return Literal(np.zeros([size or 0 for size in shape], dtype).tobytes(), type_)
        case StructType():
            return Struct(tuple(map(zero, type_)), type_)
        case FederatedType(member, placement):
            return _apply("federated_value", (zero(member),), placement)
    raise UnsupportedValueError(f"{GENERIC_ZERO}: there is no zero of type {type_}")
