"""Elements of struct values, and of federated structs: by name, index or slice."""

from __future__ import annotations

import operator
from typing import Any

from fedmpi.language.errors import ElementIndexError, NoSuchElementError, TypingError, reporting
from fedmpi.language.expressions import Select, Struct
from fedmpi.language.hints import LOCAL_HINT
from fedmpi.language.types import FederatedType, SequenceType, StructType, TensorType, Type, no_such_element
from fedmpi.language.values import Value, alive, emit, struct_value


def struct_of(value: Value) -> StructType | None:
    """The struct that a value is, or that it is at each place."""
    type_ = value.type_signature
    inner = type_.member if isinstance(type_, FederatedType) else type_
    return inner if isinstance(inner, StructType) else None


def checked_struct(value: Value, what: str) -> StructType:
    """Return the struct that a value is, or is at each place; refuse any other value."""
    struct = struct_of(value)
    if struct is None:
        hint = LOCAL_HINT if isinstance(value.type_signature, TensorType) else ""
        if isinstance(value.type_signature, SequenceType):
            hint = "go through a sequence with fm.sequence_map, fm.sequence_reduce or fm.sequence_sum"
        with reporting(what):
            raise TypingError(f"the value must be a struct, found {value.type_signature}", hint)
    return struct


def select(value: Value, key: int | str) -> Value:
    """Return an element of a struct value, or of a federated struct, by name or index."""
    alive(value)
    struct = struct_of(value)
    assert struct is not None
    type_ = value.type_signature
    if isinstance(key, str):
        if key not in struct.fields():
            with reporting("element"):
                raise NoSuchElementError(no_such_element(type_, key))
        index = [name for name, _ in struct.items()].index(key)
    else:
        index = _checked_index(key, struct, type_)
    expr = value.comp
    if isinstance(expr, Struct):
        return Value(expr.elements[index], value._scope)
    element = struct[index]
    if isinstance(type_, FederatedType):
        element = FederatedType(element, type_.placement, type_.all_equal)
    return Value(Select(expr, index, element), value._scope)


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


def slice_of(value: Value, struct: StructType, key: slice) -> Value:
    """Return the elements that a slice selects: as a list, without names, or as a placed struct with its names."""
    chosen = range(len(struct))[key]
    if not chosen:
        with reporting("[]"):
            raise ElementIndexError(f"the slice must select an element, found {key} for {value.type_signature}")
    parts = [select(value, index) for index in chosen]
    type_ = value.type_signature
    if not isinstance(type_, FederatedType):
        return struct_value(parts, [None] * len(parts), list)
    part = struct_value(parts, [struct.items()[index][0] for index in chosen], None)
    assert isinstance(part.type_signature, StructType)
    items = [(name, e.member) for name, e in part.type_signature.items() if isinstance(e, FederatedType)]
    zipped = FederatedType(StructType(items), type_.placement, type_.all_equal)
    return emit("federated_zip", [part], zipped)
