"""Questions about types, and Python structures like them: what `fm.framework` offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.operators.table import OPERATORS, Lowering
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import Apply, Expr, walk
from fedmpi.language.types import FederatedType, SequenceType, StructType, TensorType, Type, contains
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.presenting import rebuild
from fedmpi.language.types.walking import preorder_types

Predicate = Callable[[Type], bool]


def type_count(type_: Type, predicate: Predicate) -> int:
    """Return for how many of `preorder_types` the predicate holds."""
    return sum(1 for part in preorder_types(type_) if predicate(part))


def type_contains_only(type_: Type, predicate: Predicate) -> bool:
    """Say whether the predicate holds for all of `preorder_types`."""
    return all(map(predicate, preorder_types(type_)))


def contains_tensor_types(type_: Type) -> bool:
    """Say whether the type is a tensor or contains one."""
    return contains(type_, TensorType)


def is_structure_of_tensors(type_: Type) -> bool:
    """Say whether the type is a tensor, or a struct of nothing else."""
    return type_contains_only(type_, lambda t: isinstance(t, TensorType | StructType))


def is_structure_of_floats(type_: Type) -> bool:
    """Say whether the type, or its member, is a tensor of floats (not bfloat16) or a struct of nothing else."""
    return _is_structure_of(type_, np.floating)


def is_structure_of_integers(type_: Type) -> bool:
    """Say whether the type, or its member, is a tensor of integers or a struct of nothing else."""
    return _is_structure_of(type_, np.integer)


def _is_structure_of(type_: Type, kind: Any) -> bool:
    return all(
        isinstance(part, StructType | FederatedType)
        or (isinstance(part, TensorType) and np.issubdtype(part.dtype, kind))
        for part in preorder_types(type_)
    )


def structure_with_type(factory: Callable[[Type], Any], type_: Type) -> Any:
    """Return Python containers like a struct type, with ``factory(T)`` for each T in it that is no struct.

    Where the type records no container: a dict if all elements have names, a list if none has; else `ValueError`.
    """
    if not isinstance(type_, StructType):
        return factory(type_)
    return _like(type_, [structure_with_type(factory, element) for element in type_])


def to_structure_with_type(value: Any, type_: Type) -> Any:
    """Return a value with its containers turned into those of the type (see `structure_with_type`), its leaves as is.

    Mappings and named tuples bind by name where the names are the type's, else by position, as lists and tuples do.
    Raises `ValueError` for a container where the type has none, or of another size.
    """
    parts = None if isinstance(value, Type) else unpack(value)
    if parts is None:
        return value
    match type_:
        case FederatedType(member, _, True):
            return to_structure_with_type(value, member)
        case FederatedType(member, _, False) | SequenceType(member):
            return [to_structure_with_type(part, member) for _, part in parts]
        case StructType() if len(type_) == len(parts):
            named = dict(parts)
            if set(type_.fields()) == set(named):
                parts = [(name, named[name]) for name in type_.fields()]
            pairs = zip(type_, parts, strict=True)
            return _like(type_, [to_structure_with_type(part, element) for element, (_, part) in pairs])
    raise ValueError(f"to_structure_with_type: expected a value of type {type_}, found {value!r}")


def _like(type_: StructType, parts: list[Any]) -> Any:
    return rebuild(type_, parts, named=dict, unnamed=list)


def computation_contains(computation: Computation, predicate: Callable[[Expr], bool]) -> bool:
    """Say whether the predicate holds for a node of the computation's tree (see `fedmpi.language.tree.expressions`)."""
    return any(map(predicate, walk(computation.expression)))


def computation_contains_secure_aggregation(computation: Computation) -> bool:
    """Say whether the computation aggregates by a ``federated_secure_…`` operator."""
    return computation_contains(computation, _is_secure)


def computation_contains_unsecure_aggregation(computation: Computation) -> bool:
    """Say whether the computation aggregates by an operator that lets the server's side see the clients' values."""
    return computation_contains(computation, lambda e: _goes_up(e) and not _is_secure(e))


def _goes_up(expr: Expr) -> bool:
    return isinstance(expr, Apply) and OPERATORS[expr.op].goes_up


def _is_secure(expr: Expr) -> bool:
    return isinstance(expr, Apply) and OPERATORS[expr.op].lowering is Lowering.SECURE
