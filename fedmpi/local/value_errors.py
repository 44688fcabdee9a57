"""What is wrong with a value: the errors of checks and of compiled code, and the words for values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmpi.language.array_likes import beyond_numbers
from fedmpi.language.errors import Report
from fedmpi.local.records import element_names


class ArgumentError(TypeError):
    """A value that does not have its type: where in the value, what was expected, what was found."""

    def __init__(self, expected: str, found: str, hint: str = "") -> None:
        super().__init__(expected, found, hint)
        self.expected, self.found, self.hint = expected, found, hint
        self.path: list[str] = []

    def inside(self, place: str) -> ArgumentError:
        """Add the enclosing place and return the same error."""
        self.path.insert(0, place)
        return self

    @property
    def text(self) -> str:
        """What it says, without the hint."""
        return str(Report(who=", ".join(self.path), expected=self.expected, found=self.found))

    def __str__(self) -> str:
        return self.text + (f" ({self.hint})" if self.hint else "")


class DoesNotFitError(ArgumentError, OverflowError):
    """A number of the right kind that its dtype does not hold."""


class ShapeError(TypeError):
    """Raised by compiled code for an array that does not have its declared dimensions."""

    def __init__(self, label: str, expected: str, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__(label, expected, dtype, shape)
        found = f"{dtype}[{','.join(map(str, shape))}]"
        self._text = str(Report(who=label, expected=expected, found=found))

    def __str__(self) -> str:
        return self._text


class UnequalShapesError(ValueError):
    """Raised for arithmetic on arrays of open dimensions that differ: NumPy would stretch those of size 1."""

    def __init__(self, op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
        super().__init__(op, left, right)
        self._text = f"{op}: both sides must have one shape, found {list(left)} and {list(right)}"

    def __str__(self) -> str:
        return self._text


class IntegerDoesNotFit(OverflowError):
    """Makes the OverflowError of compiled code in Python: to put numbers into a text would take Numba a second."""

    def __new__(cls, label: str, expected: str, found: int) -> Any:
        dtype = np.dtype(expected.partition("[")[0])
        held = f"{describe(found)} ({shown_range(dtype)})"
        return OverflowError(str(Report(who=label, expected=expected, found=held)))


def shown_range(dtype: np.dtype[Any]) -> str:
    """Say which integers a dtype holds."""
    return f"{dtype.name} holds {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"


def describe(value: Any) -> str:
    """Say in a few words what a Python value is."""
    if (more := beyond_numbers(value)) is not None:
        return more[0]
    if isinstance(value, np.ndarray | np.generic):
        shape = f"[{','.join(map(str, value.shape))}]" if value.shape else ""
        name = "str" if value.dtype.kind in "US" else value.dtype.name
        return f"{name}{shape}" if isinstance(value, np.ndarray) else f"{name} {value}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, value)) or '(none)'}"
    if isinstance(value, list | tuple) and element_names(value) is None:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bool | int | float | complex | str) or value is None:
        text = repr(value)
        return f"{type(value).__name__} {text if len(text) < 40 else text[:36] + '…'}" if value is not None else "None"
    return getattr(value, "fedmpi_description", None) or f"a {type(value).__name__}"
