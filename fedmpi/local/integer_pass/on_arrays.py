"""Operators on arrays of integers, and on one and a scalar."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integer_pass.code import DIVISIONS, SHIFTS, UNCLEAR, Code
from fedmpi.local.integer_pass.flow import ARITHMETIC, BITWISE, COMPARISONS, SYMBOLS
from fedmpi.local.integers import operations
from fedmpi.local.integers.promotion import DTYPES, INTEGERS, WEAK, Elements, Number, within


class Arrays(Code):
    """The part of `integers.Changes` for operators on arrays."""

    def arrays(self, statement: Any, expr: Any, fn: Any) -> None:
        left, right = self.flow[expr.lhs], self.flow[expr.rhs]
        what = f"{self.shown(expr.lhs)} {SYMBOLS.get(fn, '')} {self.shown(expr.rhs)}"
        kind = self.flow.elements(left, right)
        in_place = expr.op == "inplace_binop" and isinstance(left, Elements)
        if in_place and left.kind in DTYPES:
            found = "float64" if fn is operator.truediv else kind
            if not found or not np.can_cast(found, left.kind, "same_kind"):
                self.refuse(
                    f"{what}= …: NumPy does not store {found} in an array of {left.kind}", "write a = (a …).astype(…)"
                )
        if not kind:
            self.refuse(f"{what}: {UNCLEAR}", "give each side one dtype")
        if kind == "float64":
            self._arrays_as_floats(expr, fn, what)
            return
        if kind == "bool" and fn in ARITHMETIC and fn not in (*BITWISE, operator.add, operator.mul):
            self.refuse(f"{what}: NumPy's truth values are no integers", "write x.astype(np.int64)")
        for side in ("lhs", "rhs"):
            setattr(expr, side, self._beside_array(getattr(expr, side), kind, fn, what))
        if kind in INTEGERS:
            self._elements(statement, expr, fn, kind, right, what)
        if fn in ARITHMETIC and not in_place:
            self.keep(statement)

    def _elements(self, statement: Any, expr: Any, fn: Any, kind: str, right: Any, what: str) -> None:
        """Let operations on the elements of arrays end as NumPy's do."""
        bounds = right.bounds if isinstance(right, Number) and len(right.kinds) == 1 else (None, None)
        if fn in DIVISIONS:
            safe = kind != "int64" or (bounds[0] is not None and bounds[0] >= 0)
        elif fn in SHIFTS:
            safe = within(bounds, 0, np.iinfo(kind).bits - 1)
        elif fn is operator.pow:
            if not within(bounds, 0, 64):
                self.refuse(
                    f"{what}: of arrays it needs a constant power from 0 to 64", "write a loop over the elements"
                )
            return
        else:
            return
        if not safe and expr.op == "inplace_binop":
            self.refuse(f"{what}= … of an array", f"write a = a {SYMBOLS[fn]} …")
        if not safe:
            self.operation(statement, operations.of_arrays(kind, SYMBOLS[fn]), expr.lhs, expr.rhs)

    def keep(self, statement: Any) -> None:
        """Keep an array of integers from becoming a part of a larger expression, in which its elements are wider."""
        if self.is_operand(statement.target.name):
            self.operation(statement, operations.kept, self.assign(statement.value, "array"))

    def _arrays_as_floats(self, expr: Any, fn: Any, what: str) -> None:
        """One side is a float, or they are uint64 and signed: NumPy computes in floats."""
        integers = [s for s in (expr.lhs, expr.rhs) if getattr(self.flow[s], "kind", "") in DTYPES]
        floats = [s for s in (expr.lhs, expr.rhs) if s not in integers]
        if fn in COMPARISONS and all(self._is_integral(s) for s in (expr.lhs, expr.rhs)):
            self.refuse(f"{what}: compiled code compares such integers as floats", "give both sides one dtype")
        if len(integers) == 2:
            self.refuse(f"{what}: NumPy has no integer that holds both", "write .astype(…) of one of them")
        for side in ("lhs", "rhs"):
            var = getattr(expr, side)
            if var in floats:
                var = self.narrow(var)
                if integers and self._is_integral(getattr(expr, side)):
                    var = self.result_of(np.float64, var)
                setattr(expr, side, var)

    def _is_integral(self, var: Any) -> bool:
        known = self.flow[var]
        return known.integral if isinstance(known, Number) else known.kind in DTYPES

    def _beside_array(self, var: Any, kind: str, fn: Any, what: str) -> Any:
        """Return a scalar beside an array in its dtype in NumPy; Numba would take int64."""
        known = self.flow[var]
        if not isinstance(known, Number) or not known.integral or self.type_of(var) == types.boolean:
            return var
        if known.kinds <= WEAK:
            if fn in COMPARISONS and kind != "uint64":
                return var  # int64 holds both
            return self.fitting(var, kind, what, cast=kind in INTEGERS)
        if len(known.strong) != 1:
            self.refuse(f"{what}: {UNCLEAR}", "give each side one dtype")
        (own,) = known.strong
        var = self.narrow(var)
        return (
            var
            if self.types.get(var.name, getattr(types, own)) == getattr(types, own)
            else self.result_of(getattr(np, own), var)
        )
