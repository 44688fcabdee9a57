"""From the notation of types (language.md, section 1.1) to types: the inverse of printing.

What the text does not hold cannot come back: the Python containers of structs, and names with characters of the
notation in them.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Callable
from functools import partial
from typing import NoReturn

import numpy as np

from fedmpi.language.errors import TypingError, reporting
from fedmpi.language.types.classes import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    Type,
)
from fedmpi.language.types.dtypes import DTYPES
from fedmpi.language.types.placements import CLIENTS, SERVER

# A word is anything but the notation's own characters, so that any other text may name an element; spaces around it
# are not part of it.
_TOKEN = re.compile(r"\s*(->|[<>{}()\[\],=*@']|[^\s<>{}()\[\],=*@'](?:(?!->)[^<>{}()\[\],=*@'])*)?")
_PUNCTUATION = frozenset("<>{}()[],=*@'") | {"->", ""}
_PLACES = {str(place): place for place in (SERVER, CLIENTS)}
_SHOWN = 30  # characters of a long text on either side of a mistake


def parse_type(text: str) -> Type:
    """Return the type that a text stands for: ``parse_type("{<x=float32[?,784],y=int32[?]>*}@CLIENTS")``.

    The text is what ``str`` of a type gives; spaces and line breaks may stand between its parts.  Structs come back as
    `StructType`, without a Python container.  Any word that is no dtype is a type variable (`AbstractType`), unless it
    looks like a misspelt dtype.  Raises `TypingError` (a `ValueError` and `TypeError`) with the column.
    """
    with reporting("parse_type"):
        if not isinstance(text, str):
            raise TypingError(f"text must be a str, found {text!r}", "fm.to_type makes types of Python values")
        return _Parser(text).whole()


class _Parser:
    """Recursive descent with one token of lookahead, one method for each kind of type."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.start = self.end = 0  # of the token at hand
        self.token = ""
        self.advance()

    # --- tokens ---

    def advance(self) -> str:
        """Return the token at hand and go to the next one; "" is the end of the text."""
        passed = self.token
        found = _TOKEN.match(self.text, self.end)
        assert found is not None  # every part of it may be missing
        self.end = found.end()
        self.token = (found[1] or "").rstrip()
        self.start = self.end if found[1] is None else found.start(1)
        return passed

    def accept(self, token: str) -> bool:
        """Pass a token if it is at hand."""
        if self.token != token:
            return False
        self.advance()
        return True

    def expect(self, token: str, wanted: str = "") -> None:
        if not self.accept(token):
            self.fail(f"expected {wanted or repr(token)}, found {self.found()}")

    @property
    def is_word(self) -> bool:
        return self.token not in _PUNCTUATION

    def found(self) -> str:
        return repr(self.token) if self.token else "the end"

    def fail(self, what: str, start: int | None = None, hint: str = "") -> NoReturn:
        """Raise the error for the token at hand, or for what begins at ``start``."""
        at = self.start if start is None else start
        line = self.text[: at + _SHOWN].replace("\n", " ").replace("\t", " ")
        cut = max(0, at - _SHOWN)
        before, after = "…" * (cut > 0), "…" * (at + _SHOWN < len(self.text))
        marked = f"  {before}{line[cut:]}{after}\n  {' ' * (len(before) + at - cut)}^"
        raise TypingError(f"column {at + 1}: {what}\n{marked}", hint)

    # --- types ---

    def whole(self) -> Type:
        made = self.type()
        if self.token == "->":
            self.fail("expected the end, found '->'", hint="a function stands in parentheses: (T -> U), ( -> U)")
        if self.token:
            self.fail(f"expected the end, found {self.found()}")
        return made

    def type(self) -> Type:
        """Parse a type: what it begins with, then any ``*`` and ``@PLACE`` behind it."""
        start = self.start
        if self.accept("{"):
            member = self.type()
            self.expect("}")
            self.expect("@", "'@' and a placement")
            made = self.placed(member, False, start)
        else:
            made = self.primary()
        while self.token in ("*", "@"):
            if self.advance() == "*":
                made = self.built(partial(SequenceType, made), start)
            else:
                made = self.placed(made, True, start)
        return made

    def built(self, build: Callable[[], Type], start: int) -> Type:
        """Return the type that a constructor makes; what it refuses is wrong with what begins at ``start``."""
        try:
            return build()
        except TypingError as error:
            self.fail(error.text, start, error.hint)

    def placed(self, member: Type, all_equal: bool, start: int) -> Type:
        if self.token not in _PLACES:
            self.fail(f"expected a placement, {' or '.join(_PLACES)}, found {self.found()}")
        place = _PLACES[self.advance()]
        return self.built(partial(FederatedType, member, place, all_equal), start)

    def primary(self) -> Type:
        if self.token == "<":
            return self.struct()
        if self.token == "(":
            return self.function()
        if self.token == "'":
            return self.unknown_rank()
        if not self.is_word:
            self.fail(f"expected a type, found {self.found()}")
        return self.named()

    def struct(self) -> Type:
        start = self.start
        self.expect("<")
        elements: list[tuple[str | None, Type]] = []
        while not self.accept(">"):
            if elements:
                self.expect(",", "',' or '>'")
            elements.append((self.name(), self.type()))
        return self.built(partial(StructType, elements), start)

    def name(self) -> str | None:
        """Pass ``name=`` if an element begins with it."""
        if self.accept("="):
            return ""
        before = self.start, self.end, self.token
        word = self.advance() if self.is_word else None
        if word is not None and self.accept("="):
            return word
        self.start, self.end, self.token = before
        return None

    def function(self) -> Type:
        self.expect("(")
        parameter = None if self.token == "->" else self.type()
        self.expect("->")
        result = self.type()
        self.expect(")")
        return FunctionType(parameter, result)

    def unknown_rank(self) -> Type:
        self.expect("'")
        start, name = self.start, self.advance()
        if name not in DTYPES:
            self.fail(f"expected a dtype, found {name!r}", start, f"there are {', '.join(DTYPES)}")
        for token in ("'", "(", "shape", "=", "None", ")"):
            self.expect(token, f"{token!r} of '{name}'(shape=None)")
        return TensorType(_dtype(name), None)

    def named(self) -> Type:
        """Parse what begins with a word: a tensor, the type of placements, or a type variable."""
        start, name = self.start, self.advance()
        if name in DTYPES:
            return TensorType(_dtype(name), self.shape() if self.accept("[") else ())
        if name == "placement":
            return PlacementType()
        close = difflib.get_close_matches(name.lower(), (*DTYPES, "placement"), 1, 0.65) if len(name) > 2 else []
        if close or self.token == "[":
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(DTYPES)}"
            self.fail(f"expected a dtype, found {name!r}", start, hint)
        return AbstractType(name)

    def shape(self) -> list[int | None]:
        sizes: list[int | None] = []
        while True:
            if self.token != "?" and re.fullmatch(r"-?[0-9]+", self.token) is None:
                self.fail(f"expected a size, an integer or '?', found {self.found()}")
            word = self.advance()
            sizes.append(None if word == "?" else int(word))
            if self.accept("]"):
                return sizes
            self.expect(",", "',' or ']'")


def _dtype(name: str) -> np.dtype[np.generic]:
    if name == "bfloat16":  # no dtype of NumPy's own: this package adds it
        try:
            importlib.import_module("ml_dtypes")
        except ImportError:
            raise TypingError("bfloat16 needs the package ml_dtypes", "pip install ml_dtypes") from None
    return np.dtype(name)
