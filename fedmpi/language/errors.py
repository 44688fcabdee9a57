"""The errors of the language.

What an error says is a `Report`, which alone knows how the user's line and a hint are written.

A refused program is a `TypingError`.  Whoever finds the mistake says what must hold and what was found; the boundary
that the user called (an operator, a computation, a decorator) adds its name and the user's file and line, through
`reporting`.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

from fedmpi.language.source import user_location


@dataclass(frozen=True)
class Report:
    """What an error says; its ``str`` is the text.

    ``text`` says what is wrong, or ``expected`` and ``found`` do; ``who`` is the operator or computation that
    refuses it, or the parameter that is refused; ``where`` is the place in the user's program, ``hint`` what to do.
    """

    text: str = ""
    who: str = ""
    where: str = ""
    hint: str = ""
    expected: str = ""
    found: str = ""

    @classmethod
    def here(cls, text: str, hint: str = "", *, who: str = "") -> Report:
        """Return a report with the user's line."""
        return cls(text, who, user_location(), hint)

    def __str__(self) -> str:
        head = f"{self.who}: " if self.who else ""
        where = f"\n  at {self.where}" if self.where else ""
        hint = f"\n  hint: {self.hint}" if self.hint else ""
        text = f"expected {self.expected}, found {self.found}" if self.expected else self.text
        return head + text + where + hint


class TypingError(TypeError, ValueError):
    """A program, or an argument, of the wrong type.

    A `TypeError`; also a `ValueError`, because TensorFlow Federated raises now one and now the other for such mistakes,
    and its users' programs catch either.
    """

    def __init__(self, text: str, hint: str = "") -> None:
        super().__init__(text, hint)
        self.text = text
        self.hint = hint
        self.subject = ""
        self.where = ""

    def __str__(self) -> str:
        return str(Report(self.text, self.subject, self.where, self.hint))


class TypeNotAssignableError(TypingError):
    """A value of one type stands where another type is wanted."""


class TypesNotEquivalentError(TypingError):
    """Two types that must be assignable to each other are not."""


class UnexpectedTypeError(TypingError):
    """A type of another kind (tensor, struct, …) was expected."""


class SumIncompatibleError(TypingError):
    """Values of this type cannot be added."""


class UnsupportedValueError(TypingError, NotImplementedError):
    """A Python object that is no value of the language, or not the kind of value that an operator works on."""


class NoSuchElementError(TypingError, AttributeError):
    """A struct has no element of this name."""


class ElementIndexError(TypingError, IndexError):
    """A struct has no element of this index."""


class EndlessBodyError(TypingError, RecursionError):
    """The body of a federated computation calls itself without end."""


class CaptureError(TypingError):
    """A function given to an operator uses a placed value of the computation around it."""


class InvalidNonAllEqualValueError(TypeError):
    """An argument placed at the clients is no list with one entry for each client."""


class ContextError(RuntimeError):
    """An operator or a value was used where it has no meaning, such as outside of a federated computation."""


class LeakedValueError(ContextError):
    """A value of one federated computation was used after its body ended, or in another computation."""


class ComputationReturnedNoneError(ValueError):
    """The body of a federated computation returned None."""


class reporting:  # noqa: N801 - reads as a statement: `with reporting("federated_mean"):`
    """Add ``subject`` and the user's file and line to a `TypingError` that passes, once; or the place ``where``.

    A class and not a generator, so that no frame of ``contextlib`` stands between this code and the user's.
    """

    def __init__(self, subject: str, where: str = "") -> None:
        self.subject, self.where = subject, where

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TypingError) and not error.subject:
            error.subject = self.subject
            error.where = self.where or user_location()
