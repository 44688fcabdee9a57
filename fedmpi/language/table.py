"""The table of operators: what a row holds.  The rows are in `operators` and `arithmetic`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedmpi.language.types import Type

Hint = Callable[[Mapping[str, Type]], Type | None]


@dataclass(frozen=True)
class Operator:
    """An operator of the language.

    ``rule`` maps the types of the arguments to the type of the result and raises `TypingError` for wrong ones; tracer
    and checker both call it.  ``hints`` say, for a parameter, which type its argument should have, from those of the
    other arguments that are known.  A ``pointwise`` operator on placed arguments is mapped over the places.
    """

    name: str
    signature: str
    rule: Callable[..., Type]
    lowering: str
    doc: str
    pointwise: bool = False
    hints: Mapping[str, Hint] = field(default_factory=dict)


OPERATORS: dict[str, Operator] = {}
