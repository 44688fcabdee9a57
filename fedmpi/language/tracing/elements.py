"""Elements of structs, and of federated structs, in a traced body: by name, index or slice."""

from __future__ import annotations

import operator
from typing import Any

from fedmpi.language.errors import ElementIndexError, NoSuchElementError, TypingError, reporting
from fedmpi.language.operators.hints import LOCAL_HINT
from fedmpi.language.source import user_location
from fedmpi.language.tree.expressions import Apply, Expr, Select, Struct
from fedmpi.language.tree.scopes import tracing_scope
from fedmpi.language.types import (
    FederatedType,
    SequenceType,
    StructType,
    StructWithPythonType,
    TensorType,
    Type,
    no_such_element,
)


def struct_of(type_: Type) -> StructType | None:
    """The struct that a value of the type is, or that it is at each place."""
    inner = type_.member if isinstance(type_, FederatedType) else type_
    return inner if isinstance(inner, StructType) else None


def checked_struct(type_: Type, what: str) -> StructType:
    """Return the struct that a value of the type is, or is at each place; refuse any other type."""
    struct = struct_of(type_)
    if struct is None:
        hint = LOCAL_HINT if isinstance(type_, TensorType) else ""
        if isinstance(type_, SequenceType):
            hint = "go through a sequence with fm.sequence_map, fm.sequence_reduce or fm.sequence_sum"
        with reporting(what):
            raise TypingError(f"the value must be a struct, found {type_}", hint)
    return struct


def selected(expr: Expr, key: int | str) -> Expr:
    """Return an element of a struct, or of a federated struct, by name or index."""
    type_ = expr.type
    struct = checked_struct(type_, "[]")
    if isinstance(key, str):
        if key not in struct.fields():
            with reporting("element"):
                raise NoSuchElementError(no_such_element(type_, key))
        index = [name for name, _ in struct.items()].index(key)
    else:
        index = _checked_index(key, struct, type_)
    if isinstance(expr, Struct):
        return expr.elements[index]
    element = struct[index]
    if isinstance(type_, FederatedType):
        element = FederatedType(element, type_.placement, type_.all_equal)
    return Select(expr, index, element)


def _checked_index(key: Any, struct: StructType, type_: Type) -> int:
    with reporting("[]"):
        if not hasattr(key, "__index__"):
            raise TypingError(f"an element is chosen by an int, a str or a slice, found {key!r} for {type_}")
        index = operator.index(key)
        if not 0 <= index < len(struct):
            hint = "count from the front: there are no negative indices" if index < 0 else ""
            raise ElementIndexError(
                f"the index must be 0 or more and below {len(struct)}, found {index} for {type_}", hint
            )
    return index


def sliced(expr: Expr, key: slice) -> Expr:
    """Return the elements that a slice selects: as a list, without names, or as a placed struct with its names."""
    type_ = expr.type
    struct = checked_struct(type_, "[]")
    chosen = range(len(struct))[key]
    if not chosen:
        with reporting("[]"):
            raise ElementIndexError(f"the slice must select an element, found {key} for {type_}")
    parts = tuple(selected(expr, index) for index in chosen)
    if not isinstance(type_, FederatedType):
        return Struct(parts, StructWithPythonType([(None, part.type) for part in parts], list))
    names = [struct.items()[index][0] for index in chosen]
    part = Struct(parts, StructType([(name, e.type) for name, e in zip(names, parts, strict=True)]))
    members = [(name, struct[index]) for name, index in zip(names, chosen, strict=True)]
    zipped = FederatedType(StructType(members), type_.placement, type_.all_equal)
    where = user_location()
    made = Apply("federated_zip", (part,), zipped, where)
    return tracing_scope("federated_zip").bind(made, f"the result of federated_zip at {where}")
