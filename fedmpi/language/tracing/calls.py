"""From the arguments of a call to the one argument of a function: language.md, section 3.4."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from fedmpi.language.errors import TypingError
from fedmpi.language.types import StructType, Type


def pack_args(parameter: Type | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the one argument that a call gives to a ``parameter``; raise `TypingError` if they do not fit.

    None for a function without a parameter; the whole argument for one positional argument; else a tuple of the
    arguments, as they are, in the order of the struct's elements.
    """
    if parameter is None:
        if args or kwargs:
            raise TypingError(f"the computation takes no argument, found {len(args) + len(kwargs)}")
        return None
    if len(args) == 1 and not kwargs:
        return args[0]
    if not isinstance(parameter, StructType) or not (args or kwargs or len(parameter)):
        found = f"{len(args)} positional and {len(kwargs)} keyword arguments" if kwargs else f"{len(args)} arguments"
        raise TypingError(f"the computation takes one positional argument of type {parameter}, found {found}")
    if len(args) > len(parameter):
        raise TypingError(
            f"the computation takes {counted(tuple(parameter), 'argument')}, found {len(args)}: {parameter}"
        )
    if len(args) == len(parameter) and not kwargs and _unnamed_first(parameter):
        return tuple(args)
    if not _unnamed_first(parameter):
        found = "its elements without a name do not come before those with one"
        raise TypingError(f"the computation takes one positional argument of type {parameter}: {found}")
    packed = list(args)
    unused = dict(kwargs)
    for index, (name, type_) in enumerate(parameter.items()):
        if index < len(args):
            if name in unused:
                raise TypingError(f"{name} is given twice, by position and by name")
        elif name in unused:
            packed.append(unused.pop(name))
        else:
            raise TypingError(f"{name or f'argument {index}'} of type {type_} is missing")
    if unused:
        raise TypingError(
            f"the computation has no parameter {listed(unused)}; it has {listed(parameter.fields()) or 'no names'}"
        )
    return tuple(packed)


@functools.lru_cache(maxsize=1024)
def _unnamed_first(parameter: StructType) -> bool:
    names = [name for name, _ in parameter.items()]
    return names == sorted(names, key=lambda name: name is not None)


def listed(things: Any) -> str:
    """Return things as a text, between commas."""
    return ", ".join(map(str, things))


def counted(things: Sequence[Any], noun: str) -> str:
    """Return how many things there are, with their noun."""
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")
