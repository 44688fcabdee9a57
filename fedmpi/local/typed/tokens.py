"""Types of the language as constants of compiled code: they are read while compiling, and gone at run time."""

from __future__ import annotations

import functools
from typing import Any

from numba import types
from numba.core.imputils import lower_constant
from numba.extending import models, register_model, typeof_impl

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


class TokenType(types.Dummy):
    """Numba's type of a token."""

    def __init__(self, token: TypeToken) -> None:
        self.type, self.label = token.type, token.label
        super().__init__(name=f"token({token.type}, {token.label})")


register_model(TokenType)(models.OpaqueModel)


@typeof_impl.register(TypeToken)
def _typeof_token(value: TypeToken, context: Any) -> TokenType:
    return TokenType(value)


@lower_constant(TokenType)
def _lower_token(context: Any, builder: Any, type_: Any, value: Any) -> Any:
    return context.get_dummy_value()
