"""Values of structs as Python containers again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from fedmpi.language.errors import TypingError
from fedmpi.language.types.classes import FunctionType, StructType, Type
from fedmpi.language.types.containers import make


def check_presentable(type_: Type) -> None:
    """Raise the `TypingError` of `rebuild` for a result's type that holds a struct like no Python container."""
    if isinstance(type_, FunctionType):
        return  # what it returns is for its own call to check
    if isinstance(type_, StructType) and type_.python_container is None and 0 < len(type_.fields()) < len(type_):
        raise TypingError(
            f"{type_} has elements with and without names: no Python container is like it",
            "name all elements of the struct, or none",
        )
    for child in type_.children():
        check_presentable(child)


def rebuild(type_: StructType, parts: Sequence[Any], *, named: type = OrderedDict, unnamed: type = tuple) -> Any:
    """Return a value of the struct type: ``parts`` in the container that the type records.

    Without one: ``unnamed`` if no element has a name, ``named`` if all have; raises `TypingError` for a mixture.
    """
    names = [name for name, _ in type_.items()]
    container = type_.python_container
    if container is None:
        if not type_.fields():
            return unnamed(parts)
        check_presentable(type_)
        container = named
    return make(container, names, parts)
