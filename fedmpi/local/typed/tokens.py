"""Types of the language as constants of compiled code: they are read while compiling, and gone at run time.

Numba learns them in `coerce`; making one loads nothing of it."""

from __future__ import annotations

import functools

from fedmpi.language.types import Type


class TypeToken:
    """A fedmpi type as a constant of compiled code, and what an error calls the value; it has no run-time value."""

    def __init__(self, type_: Type, label: str) -> None:
        self.type, self.label = type_, label

    def cache_key(self) -> tuple[str, str]:
        """Return what the compiled code depends on."""
        return str(self.type), self.label


@functools.cache
def token_of(type_: Type, label: str = "") -> TypeToken:
    """Return the token of a type; ``label`` says whose value it is: ``"f: result"``."""
    return TypeToken(type_, label)
