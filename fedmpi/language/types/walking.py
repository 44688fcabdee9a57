"""One walk over types: what a type is made of, what a struct's leaves are, and what is made anew of other parts.

A question about a type is asked of what `preorder_types` or `leaves_of` yields.  A recursion of its own is for those to
whom a part's place matters (the slots of a column, the names around a value) or who go through two things side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fedmpi.language.types.classes import (
    FederatedType,
    FunctionType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    struct_of,
)

Transform = Callable[[Type], tuple[Type, bool]]
Path = tuple[tuple[int, str | None], ...]  # index and name of each element on the way to a part of a struct


def preorder_types(type_: Type) -> Iterator[Type]:
    """Yield a type and all that it is made of, each before its parts."""
    yield type_
    for child in type_.children():
        yield from preorder_types(child)


def type_contains(type_: Type, predicate: Callable[[Type], bool]) -> bool:
    """Say whether ``predicate`` holds for the type or for one that it is made of."""
    return any(map(predicate, preorder_types(type_)))


@functools.lru_cache(maxsize=4096)
def contains(type_: Type | None, kind: Any) -> bool:
    """Say whether a type (or None) is or contains one of a kind: a class of types, or several."""
    return type_ is not None and any(isinstance(part, kind) for part in preorder_types(type_))


def is_federated(type_: Type) -> bool:
    """Say whether the type is placed or contains something placed."""
    return contains(type_, FederatedType)


def leaves_with_paths(type_: Type, path: Path = ()) -> Iterator[tuple[Path, Type]]:
    """Yield what a struct, maybe nested, is made of, in order, each with the way to it; of another type itself."""
    if isinstance(type_, StructType):
        for index, (name, element) in enumerate(type_.items()):
            yield from leaves_with_paths(element, (*path, (index, name)))
    else:
        yield path, type_


def leaves_of(type_: Type) -> Iterator[Type]:
    """Yield what a struct, maybe nested, is made of, in order; of another type itself."""
    return (leaf for _, leaf in leaves_with_paths(type_))


def all_tensors(type_: Type, predicate: Callable[[TensorType], bool]) -> bool:
    """Say whether the type is made of tensors for which ``predicate`` holds."""
    return all(isinstance(leaf, TensorType) and predicate(leaf) for leaf in leaves_of(type_))


def dotted(path: Path) -> str:
    """Return the way to a part as a text, ``weights.0``; "" for the whole."""
    return ".".join(str(index) if name is None else name for index, name in path)


def accessed(path: Path) -> str:
    """Return the way to a part as Python writes it, ``.weights[0]``; "" for the whole."""
    return "".join(f"[{index}]" if name is None else f".{name}" for index, name in path)


def rebuilt(type_: Type, parts: Sequence[Type]) -> Type:
    """Return a type of the same kind made of other parts, in the order of `Type.children`."""
    match type_:
        case FederatedType(_, placement, all_equal):
            return FederatedType(parts[0], placement, all_equal)
        case SequenceType():
            return SequenceType(parts[0])
        case FunctionType(parameter):
            return FunctionType(None if parameter is None else parts[0], parts[-1])
    assert isinstance(type_, StructType)
    items = [(name, part) for (name, _), part in zip(type_.items(), parts, strict=True)]
    return struct_of(items, type_.python_container)


def transform_type_postorder(type_: Type, transform: Transform) -> tuple[Type, bool]:
    """Return the type with ``transform`` applied to each part before what it is a part of, and whether any changed.

    ``transform`` takes a type and returns another, or the same, and whether it is another.
    """
    parts = [transform_type_postorder(child, transform) for child in type_.children()]
    changed = any(part_changed for _, part_changed in parts)
    if changed:
        type_ = rebuilt(type_, [part for part, _ in parts])
    made, was_made = transform(type_)
    return made, was_made or changed


def flat(value: Any, type_: Type) -> list[Any]:
    """Return the parts of a struct's value, tuples in tuples, in the order of `leaves_of`; of another value itself."""
    if not isinstance(type_, StructType):
        return [value]
    return [leaf for part, part_type in zip(value, type_, strict=True) for leaf in flat(part, part_type)]


def nested(type_: Type, leaves: Iterator[Any]) -> Any:
    """Return the value, tuples in tuples, whose parts come next: what `flat` takes apart."""
    if isinstance(type_, StructType):
        return tuple([nested(part, leaves) for part in type_])
    return next(leaves)
