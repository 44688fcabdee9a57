"""Python containers that stand for structs: lists, tuples, mappings, named tuples, dataclasses, attrs classes."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from fedmpi.language.errors import TypingError
from fedmpi.language.placements import PlacementLiteral
from fedmpi.language.types import FunctionType, StructType, Type


def unpack(obj: Any) -> list[tuple[str | None, Any]] | None:
    """Return the elements of a container with their names, or None if ``obj`` is no container for a struct.

    Raises `TypingError` for a mapping whose keys are not all texts.
    """
    if isinstance(obj, Mapping):
        if strange := [key for key in obj if not isinstance(key, str)]:
            raise TypingError(f"the keys of a mapping that is a struct must be str, found {strange[0]!r}")
        return list(obj.items())
    if isinstance(obj, tuple) and hasattr(obj, "_fields"):
        return list(zip(obj._fields, obj, strict=True))
    if isinstance(obj, list | tuple):
        return [(None, element) for element in obj]
    if isinstance(obj, type | PlacementLiteral):
        return None
    if dataclasses.is_dataclass(obj):
        return [(field.name, getattr(obj, field.name)) for field in dataclasses.fields(obj)]
    if hasattr(type(obj), "__attrs_attrs__"):
        return [(field.name, getattr(obj, field.name)) for field in type(obj).__attrs_attrs__]
    return None


def check_presentable(type_: Type) -> None:
    """Raise the `ValueError` of `rebuild` for a result's type that holds a struct like no Python container."""
    if isinstance(type_, FunctionType):
        return  # what it returns is for its own call to check
    if isinstance(type_, StructType) and type_.python_container is None and 0 < len(type_.fields()) < len(type_):
        raise ValueError(f"{type_} has elements with and without names: no Python container is like it")
    for child in type_.children():
        check_presentable(child)


def rebuild(type_: StructType, parts: Sequence[Any], *, named: type = OrderedDict, unnamed: type = tuple) -> Any:
    """Return a value of the struct type: ``parts`` in the container that the type records.

    Without one: ``unnamed`` if no element has a name, ``named`` if all have; raises `ValueError` for a mixture.
    """
    names = [name for name, _ in type_.items()]
    container = type_.python_container
    if container is None:
        if not type_.fields():
            return unnamed(parts)
        check_presentable(type_)
        container = named
    if issubclass(container, Mapping):
        return container(zip(names, parts, strict=True))  # type: ignore[call-arg]
    if issubclass(container, list | tuple) and not hasattr(container, "_fields"):
        return container(parts)
    return container(**{str(name): part for name, part in zip(names, parts, strict=True)})
