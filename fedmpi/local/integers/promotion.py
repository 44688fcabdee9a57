"""What NumPy computes integers in: the dtype of each operation, where Numba would take a wider one.

A *kind* is the name of a dtype for NumPy's scalars; "weak" for Python's integers, which take the dtype of what they
meet (NEP 50), "pybool" for Python's truth values, "pyfloat" and "float" for floats of Python and NumPy.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = frozenset(SIGNED + UNSIGNED)
WEAK = frozenset({"weak", "pybool"})
DTYPES = INTEGERS | {"bool"}
INT64 = np.iinfo(np.int64)
Bounds = tuple[int | None, int | None]  # least and greatest value, None where nothing is known
SIZE: Bounds = (0, 2**31)  # of lengths and what counts them: two of them multiplied fit int64
_SMALL = 2**20  # what a sum may grow by in each step without a check: 2**43 steps never end


@dataclass(frozen=True)
class Number:
    """What is known of a scalar: the kinds it may have, and bounds: of Python's integers if it may be one of them.

    ``wide``: at run time the value may lie outside its dtype, equal to NumPy's modulo 2 to the power of its bits.
    """

    kinds: frozenset[str]
    bounds: Bounds = (None, None)
    wide: bool = False

    @property
    def strong(self) -> frozenset[str]:
        """The dtypes of integers that it may have."""
        return self.kinds & INTEGERS

    @property
    def integral(self) -> bool:
        """Whether it is an integer or a truth value for sure."""
        return bool(self.kinds) and self.kinds <= DTYPES | WEAK

    def joined(self, other: Number, widen: bool) -> Number:
        """Return what is known of a variable that is this or the other; ``widen`` gives up bounds that move."""
        if other.kinds <= self.kinds and other.wide <= self.wide and _inside(other, self):
            return self
        bounds = other.bounds if not self.kinds & WEAK else self.bounds
        if bool(self.kinds & WEAK) == bool(other.kinds & WEAK):
            low, high = _hull([self.bounds, other.bounds])
            bounds = (
                None if widen and low != self.bounds[0] else low,
                None if widen and high != self.bounds[1] else high,
            )
        return Number(self.kinds | other.kinds, bounds, self.wide or other.wide)


@dataclass(frozen=True)
class Elements:
    """An array, by the kind of its elements."""

    kind: str


@dataclass(frozen=True)
class Iterated:
    """Something to loop over, or its iterator, by what it gives."""

    element: Any


def of(*kinds: str, bounds: Bounds = (None, None), wide: bool = False) -> Number:
    """Return the number of these kinds."""
    return Number(frozenset(kinds), bounds, wide)


def weak(low: int | None = None, high: int | None = None) -> Number:
    """Return an integer of Python's within bounds."""
    return of("weak", bounds=(low, high))


def constant(value: Any) -> Number | None:
    """Return what is known of a constant of Python or NumPy; None if it is no number."""
    if isinstance(value, bool):
        return of("pybool", bounds=(int(value), int(value)))
    if isinstance(value, int):
        return weak(value, value)
    if isinstance(value, np.bool_):
        return of("bool")
    if isinstance(value, np.integer):
        return of(value.dtype.name)
    if isinstance(value, np.floating):
        return of("float")
    return of("pyfloat") if isinstance(value, float) else None


def _inside(inner: Number, outer: Number) -> bool:
    if bool(inner.kinds & WEAK) != bool(outer.kinds & WEAK):
        return bool(outer.kinds & WEAK)
    return _hull([inner.bounds, outer.bounds]) == outer.bounds


def _hull(all_bounds: Iterable[Bounds]) -> Bounds:
    lows, highs = zip(*all_bounds, strict=True)
    return None if None in lows else min(lows), None if None in highs else max(highs)


def joined(old: Any, new: Any, widen: bool) -> Any:
    """Return what is known of a variable that is one or the other thing; None is nothing."""
    match old, new:
        case Number(), Number():
            return old.joined(new, widen)
        case tuple(), tuple() if len(old) == len(new):
            return tuple(joined(a, b, widen) for a, b in zip(old, new, strict=True))
        case Iterated(a), Iterated(b):
            return Iterated(joined(a, b, widen))
    return old if old == new else None


def fits(bounds: Bounds, kind: str) -> bool:
    """Tell whether all of Python's integers within the bounds are numbers of a dtype."""
    low, high = bounds
    if kind == "bool":
        return bounds in ((0, 0), (1, 1), (0, 1))
    limits = np.iinfo(kind)
    return low is not None and high is not None and limits.min <= low and high <= limits.max


def dtype_of(left: str, right: str) -> str:
    """Return the kind in which NumPy adds numbers of two kinds: of a scalar each."""
    if {left, right} <= WEAK:
        return "weak"
    if {left, right} & {"float", "pyfloat"}:
        return "pyfloat" if {left, right} <= WEAK | {"pyfloat"} else "float"
    for kind, other in ((left, right), (right, left)):
        if kind == "weak":
            return "int64" if other == "bool" else other
        if kind == "pybool":
            return other
    name = np.result_type(np.dtype(left), np.dtype(right)).name
    return "float" if name.startswith("float") else str(name)


def dtypes_of(left: Number, right: Number) -> frozenset[str]:
    """Return the kinds in which NumPy may add two numbers."""
    return frozenset(dtype_of(a, b) for a in left.kinds for b in right.kinds)


def within(bounds: Bounds, low: int, high: int) -> bool:
    """Tell whether bounds are known and none is beyond others."""
    return bounds[0] is not None and bounds[1] is not None and low <= bounds[0] and bounds[1] <= high


def compute(op: Any, left: Bounds, right: Bounds) -> Bounds:
    """Return the bounds of an operation on Python's integers."""
    (a, b), (c, d) = left, right
    if op is operator.add:
        return _plus(a, c), _plus(b, d)
    if op is operator.sub:
        return _plus(a, _minus(d)), _plus(b, _minus(c))
    if None not in (a, b, c, d):
        if op in (operator.mul, operator.lshift) and (op is operator.mul or 0 <= c <= d < 64):  # type: ignore[operator]
            corners = [op(x, y) for x in (a, b) for y in (c, d)]
            return min(corners), max(corners)
        if op is operator.pow and a >= 0 and c >= 0 and d <= 64:  # type: ignore[operator]
            return a**c, b**d  # type: ignore[operator]
    if op is operator.mod and c is not None and d is not None and c > 0:
        return 0, d - 1
    if op is operator.and_ and c is not None and c >= 0:
        return 0, d
    if op in (operator.floordiv, operator.rshift) and a is not None and a >= 0 and c is not None and c >= 0:
        return 0, b
    if op in (operator.mul, operator.lshift, operator.or_, operator.xor, operator.pow):
        return (0, None) if a is not None and a >= 0 and c is not None and c >= 0 else (None, None)
    return None, None


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


def _minus(a: int | None) -> int | None:
    return None if a is None else -a


def may_overflow(op: Any, left: Bounds, right: Bounds) -> bool:
    """Tell whether an operation on Python's integers, which have no limit, may leave the 64 bits of compiled code."""
    if fits(compute(op, left, right), "int64"):
        return False
    if op in (operator.add, operator.sub):
        return not any(None not in b and b[0] >= -_SMALL and b[1] <= _SMALL for b in (left, right))  # type: ignore[operator]
    return op in (operator.mul, operator.lshift, operator.pow)
