"""Python containers that stand for structs: lists, tuples, mappings, named tuples, dataclasses, attrs classes."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fedmpi.language.errors import TypingError
from fedmpi.language.types.placements import PlacementLiteral


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


def check_container(container: type, names: Sequence[str | None]) -> None:
    """Raise `TypingError` if no ``container`` can be made again of elements with these names."""
    if container in (list, tuple) or (container in (dict, OrderedDict) and None not in names):
        return
    try:
        problem = _problem(container, names)
    except Exception as error:  # the class is the user's
        problem = f"{type(error).__name__}: {error}"
    if problem:
        elements = ", ".join(f"element {i}" if name is None else name for i, name in enumerate(names))
        raise TypingError(
            f"a value of the class {container.__name__} cannot be made again of its elements ({elements}): {problem}",
            "use a class that is made of its elements alone, or a dict, list or tuple",
        )


def _problem(container: type, names: Sequence[str | None]) -> str:
    """Return why a container cannot be made of its elements, "" if it can be."""
    if _is_record(container):
        if inspect.isabstract(container):
            return "it is abstract"
        fields = _fields(container)
        if [name for name, _ in fields] != list(names):
            return f"its fields are {', '.join(name for name, _ in fields)}"
        try:
            inspect.signature(container).bind(**{argument: None for _, argument in fields if argument is not None})
        except TypeError as error:
            return f"{container.__name__}(…): {error}"
        return ""
    if issubclass(container, Mapping) and None in names:
        return "a mapping has names for all of them"
    marks = [object() for _ in names]
    made = make(container, names, marks)
    parts = unpack(made)
    if type(made) is not container or parts is None or [id(part) for _, part in parts] != list(map(id, marks)):
        return "its constructor makes something else of them"
    return ""


def _is_record(container: type) -> bool:
    """Say whether a class has declared fields and is no mapping, list or tuple: a dataclass or an attrs class."""
    declares = dataclasses.is_dataclass(container) or hasattr(container, "__attrs_attrs__")
    return declares and not issubclass(container, Mapping | list | tuple)


@functools.lru_cache(maxsize=1024)
def _fields(container: type) -> tuple[tuple[str, str | None], ...]:
    """The fields of a dataclass or an attrs class, each with its name in the constructor, None if it is not there."""
    if dataclasses.is_dataclass(container):
        return tuple((f.name, f.name if f.init else None) for f in dataclasses.fields(container))
    fields: Any = container.__attrs_attrs__  # type: ignore[attr-defined]
    return tuple((f.name, (f.alias or f.name.lstrip("_")) if f.init else None) for f in fields)


def make(container: Any, names: Sequence[str | None], parts: Sequence[Any]) -> Any:
    """Return a container of ``parts`` with these names, as far as it has names."""
    if issubclass(container, Mapping):
        given = dict(zip(names, parts, strict=True))
        return container(None, given) if issubclass(container, defaultdict) else container(given)
    if issubclass(container, tuple) and hasattr(container, "_make"):
        return container._make(parts)  # not its constructor, which may change them
    if issubclass(container, list | tuple):
        return container(parts)
    values = dict(zip(names, parts, strict=True))
    fields = _fields(container)
    made = container(**{argument: values[name] for name, argument in fields if argument is not None})
    for name, _ in fields:  # also what the constructor does not take, or changes
        object.__setattr__(made, name, values[name])
    return made
