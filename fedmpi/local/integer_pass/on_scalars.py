"""Operators on two scalars: NumPy's integers, Python's, truth values."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integer_pass.code import DIVISIONS, SHIFTS, UNCLEAR, Code
from fedmpi.local.integer_pass.flow import BITWISE, COMPARISONS, RING, SYMBOLS
from fedmpi.local.integers import operations
from fedmpi.local.integers.promotion import INTEGERS, UNSIGNED, WEAK, Bounds, Number, dtypes_of, may_overflow, within
from fedmpi.local.numba_parts.intermediate import ir

SIGNED_TYPES = (types.int8, types.int16, types.int32, types.int64)
_UNSIGNED_TYPES = tuple(getattr(types, kind) for kind in UNSIGNED)


class Scalars(Code):
    """The part of `integers.Changes` for operators on scalars."""

    def integers(self, statement: Any, expr: Any, fn: Any, left: Number, right: Number) -> None:
        kinds = dtypes_of(left, right)
        what = f"{self.shown(expr.lhs)} {SYMBOLS[fn]} {self.shown(expr.rhs)}"
        if fn in COMPARISONS or fn is operator.truediv:
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)
            if fn in COMPARISONS and "uint64" in left.kinds | right.kinds and left.kinds != right.kinds:
                self.operation(statement, operations.comparison(SYMBOLS[fn]), expr.lhs, expr.rhs)
        elif "bool" in kinds:
            self._truths(statement, expr, fn, kinds, what)
        elif "float" in kinds:
            self._as_floats(expr, fn, kinds, what)
        elif kinds == {"weak"}:
            self._weak(statement, expr, fn, left, right)
        elif len(kinds & INTEGERS) > 1:
            if left.wide or right.wide or kinds & {"uint64"} or fn not in (*RING, *BITWISE):
                self.refuse(f"{what}: {UNCLEAR}", "give each side one dtype")
        else:
            (kind,) = kinds & INTEGERS
            self._strong(statement, expr, fn, kind, "weak" in kinds, what)

    def _truths(self, statement: Any, expr: Any, fn: Any, kinds: frozenset[str], what: str) -> None:
        """NumPy's truth values: + is or, * is and; the rest is none or gives int8."""
        if fn in BITWISE and kinds == {"bool"}:
            return
        either = {operator.add: operator.or_, operator.mul: operator.and_}.get(fn)
        if kinds != {"bool"} or either is None:
            self.refuse(f"{what}: NumPy's truth values are no integers")
        self.replace(statement, ir.Expr.binop(either, expr.lhs, expr.rhs, self.loc))

    def _as_floats(self, expr: Any, fn: Any, kinds: frozenset[str], what: str) -> None:
        """uint64 with a signed integer: NumPy computes in float64."""
        if kinds != {"float"} or fn in (*BITWISE, *SHIFTS):
            self.refuse(f"{what}: NumPy has no integer that holds both")
        expr.lhs, expr.rhs = (self.result_of(np.float64, self.narrow(v)) for v in (expr.lhs, expr.rhs))

    def _weak(self, statement: Any, expr: Any, fn: Any, left: Number, right: Number) -> None:
        """Integers of Python's: beyond 64 bits they are an error."""
        name, bounds = SYMBOLS[fn], right.bounds
        made: Any = None
        if fn in DIVISIONS and not _divides_safely(bounds):
            made = operations.quotient("weak", fn is operator.mod)
        elif fn is operator.rshift and not within(bounds, 0, 63):
            made = operations.shift("weak", False)
        elif fn is operator.pow and bounds[1] is not None and bounds[1] < 0:
            self.refuse("an integer of Python's to a negative power is a float", "write float(…) ** …")
        elif may_overflow(fn, left.bounds, bounds):
            made = {"**": operations.power, "<<": lambda kind: operations.shift(kind, True)}.get(name)
            made = made("weak") if made is not None else operations.exact(fn.__name__)
        if made is not None:
            self.operation(statement, made, expr.lhs, expr.rhs)

    def _strong(self, statement: Any, expr: Any, fn: Any, kind: str, may_be_weak: bool, what: str) -> None:
        """Integers of NumPy's, or one of them and one of Python's, computed in the dtype ``kind``."""
        left, right = self.flow[expr.lhs], self.flow[expr.rhs]
        for side in ("lhs", "rhs"):
            setattr(expr, side, self._operand(getattr(expr, side), fn, kind, what))
        bounds = right.bounds if right.kinds <= WEAK or len(right.kinds) == 1 else (None, None)
        made: Any = None
        if fn in DIVISIONS and not _divides_safely(bounds):
            made = self._division(fn, kind, may_be_weak and _holds_zero(right.bounds), what)
        elif fn in SHIFTS and not within(bounds, 0, np.iinfo(kind).bits - 1):
            made = operations.shift(kind, fn is operator.lshift)
        elif fn is operator.pow:
            made = self._power(statement, expr, kind, bounds, what)
        elif fn in RING and self.type_of(statement.target) in SIGNED_TYPES:
            made = operations.wrapping(fn.__name__) if kind == "int64" or left.wide or right.wide else None
        if made is not None:
            self.operation(statement, made, expr.lhs, expr.rhs)

    def _operand(self, var: Any, fn: Any, kind: str, what: str) -> Any:
        """Return a side of an operation in the dtype ``kind``; for ``+ - *`` it may be wide."""
        known = self.flow[var]
        if known.wide and not (fn in RING and known.strong == {kind}):
            var = self.narrow(var)
        if known.kinds == {"weak"}:
            return self.fitting(var, kind, what, cast=kind == "uint64")
        if kind == "uint64" and (known.kinds & WEAK or self.type_of(var) not in _UNSIGNED_TYPES):
            return self.result_of(np.uint64, var)
        return var

    def _division(self, fn: Any, kind: str, may_be_weak: bool, what: str) -> Any:
        """Return the operation for a divisor that may be 0 or -1; None where Numba's is right."""
        if may_be_weak and kind == "uint64":
            self.refuse(f"{what}: {UNCLEAR}", "give each side one dtype")
        if may_be_weak or kind == "int64":
            return operations.quotient("weak" if may_be_weak else kind, fn is operator.mod)
        return None

    def _power(self, statement: Any, expr: Any, kind: str, bounds: Bounds, what: str) -> Any:
        """Return the operation for a power that is not a small constant."""
        if bounds[1] is not None and bounds[1] < 0:
            self.refuse(f"{what}: NumPy has no negative powers of integers", "write np.float64(…) ** …")
        bits = np.iinfo(kind).bits
        if bounds == (2, 2) and bits == 64:
            self.replace(statement, ir.Expr.binop(operator.mul, expr.lhs, expr.lhs, self.loc))
            return None
        return None if within(bounds, 0, 64 // bits) else operations.power(kind)


def _divides_safely(bounds: Bounds) -> bool:
    """Tell whether a divisor is neither 0, where NumPy and Python differ, nor -1, which may overflow."""
    low, high = bounds
    return (low is not None and low > 0) or (high is not None and high < -1)


def _holds_zero(bounds: Bounds) -> bool:
    low, high = bounds
    return (low is None or low <= 0) and (high is None or high >= 0)
