"""The table of operators: what a row holds, and how one is made.  The rows are in `federated` and `arithmetic`."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fedmpi.language.types import Type
from fedmpi.language.types.placements import PlacementLiteral

Hint = Callable[[Mapping[str, Type]], Type | None]
Rule = TypeVar("Rule", bound=Callable[..., Type])


class Take(enum.Enum):
    """How an argument is taken; the text is what the documentation says of it."""

    VALUE = "a value or a constant"
    PLACED = "a value, placed as the type says; a struct of values at one placement is zipped"
    POINTWISE = "a sequence, or one at each place"
    FUNCTION = "a computation"
    PLACEMENT = "`fm.CLIENTS` or `fm.SERVER`"


# The annotations of a rule's parameters; the rule itself gets the argument's type.
Plain = Annotated[Type, Take.VALUE]
Placed = Annotated[Type, Take.PLACED]
OptionalPlaced = Annotated[Type | None, Take.PLACED]
Sequence = Annotated[Type, Take.POINTWISE]
Function = Annotated[Type, Take.FUNCTION]
Placement = Annotated[PlacementLiteral, Take.PLACEMENT]


class Lowering(enum.Enum):
    """How an operator runs: in one of these ways, each of which has its place in the runtime."""

    INSIDE = enum.auto()  # with the code of the function that it stands in
    BESIDE = enum.auto()  # not at all: values stand side by side, or every rank has them
    BROADCAST = enum.auto()  # with the stage's Bcast
    APPLY = enum.auto()  # a function is called at each place
    SELECT = enum.auto()  # a function is called for each distinct key
    SUM = enum.auto()  # with the stage's Reduce, as one of its sums, …
    EXTREME = enum.auto()  # … its least or greatest values, …
    SECURE = enum.auto()  # … or its masked sums
    FOLD = enum.auto()  # by functions, block by block of the clients, whose states are gathered
    COLLECT = enum.auto()  # as it is, client by client
    GIVEN = enum.auto()  # known before any work, as an argument is


@dataclass(frozen=True)
class Operator:
    """An operator of the language.

    ``rule`` maps the types of the arguments to the type of the result and raises `TypingError` for wrong ones; tracer
    and checker both call it.  ``takes`` says how each argument is taken, ``hints``, for a parameter, which type its
    argument should have, from those of the other arguments that are known.  With ``emits`` the program gets that
    operator instead.  ``runs`` says for readers how it runs, ``wants`` what it needs at least one client for, or "".
    """

    name: str
    signature: str
    rule: Callable[..., Type]
    lowering: Lowering
    runs: str
    doc: str
    takes: Mapping[str, Take] = field(default_factory=dict)
    hints: Mapping[str, Hint] = field(default_factory=dict)
    emits: str = ""
    wants: str = ""

    @property
    def applies(self) -> bool:
        """Whether it applies a function, which comes first among its arguments, at the places."""
        return self.lowering in (Lowering.APPLY, Lowering.SELECT)

    @property
    def reduces(self) -> bool:
        """Whether its result is one of the numbers of the stage's Reduce."""
        return self.lowering in (Lowering.SUM, Lowering.EXTREME, Lowering.SECURE)

    @property
    def goes_up(self) -> bool:
        """Whether it brings the clients' values to the server, so that its result belongs to the next stage."""
        return self.reduces or self.lowering in (Lowering.FOLD, Lowering.COLLECT)

    @property
    def pointwise(self) -> tuple[str, ...]:
        """The parameters that may be placed: then the operator is mapped over the places."""
        return tuple(name for name, take in self.takes.items() if take is Take.POINTWISE)


OPERATORS: dict[str, Operator] = {}


def operator(
    signature: str,
    lowering: Lowering,
    *,
    runs: str,
    hints: Mapping[str, Hint] | None = None,
    emits: str = "",
    wants: str = "",
) -> Callable[[Rule], Rule]:
    """Make a row of the table of a typing rule, whose parameters and their annotations are the operator's."""

    def register(rule: Rule) -> Rule:
        takes = {name: p.annotation.__metadata__[0] for name, p in inspect.signature(rule).parameters.items()}
        name, doc = rule.__name__, inspect.getdoc(rule) or ""
        OPERATORS[name] = Operator(name, signature, rule, lowering, runs, doc, takes, hints or {}, emits, wants)
        return rule

    return register
