"""What the parts of `integers` have in common: new statements, operands as NumPy has them, refusals."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integer_pass.on_calls import IntegerFlow
from fedmpi.local.integers import operations
from fedmpi.local.integers.promotion import INTEGERS, WEAK, Number, fits
from fedmpi.local.numba_parts.intermediate import errors, ir, named, redefine

DIVISIONS = (operator.floordiv, operator.mod)
SHIFTS = (operator.lshift, operator.rshift)
UNCLEAR = "which dtype NumPy computes it in depends on the way there"


class Code:
    """A body's intermediate code, and what has to come before the statement that is looked at."""

    def __init__(self, flow: IntegerFlow, state: Any) -> None:
        self.flow, self.state, self.func_ir, self.types = flow, state, state.func_ir, state.typemap
        self.made = False
        self.before: list[Any] = []  # what comes before the statement that is looked at
        self.scope: Any = None
        self.loc: Any = None
        self.uses = self._expressions_by_use()
        self.results = set() if state.integers_returned is None else self._only_returned()

    def _expressions_by_use(self) -> dict[str, list[Any]]:
        """Return for each variable the expressions that use it."""
        found: dict[str, list[Any]] = {}
        for block in self.func_ir.blocks.values():
            for expr in block.find_exprs():
                for var in expr.list_vars():
                    found.setdefault(var.name, []).append(expr)
        return found

    def is_operand(self, name: str) -> bool:
        """Tell whether an operator or a function of NumPy works on a variable."""
        return any(
            use.op in ("binop", "unary")
            or (use.op == "call" and getattr(self.flow.object(use.func), "gives", None) is None)
            for use in self.uses.get(name, ())
        )

    def _only_returned(self) -> set[str]:
        """Return the names of tuples that go into the returned value and nowhere else."""
        uses: dict[str, list[str | None]] = {}
        for block in self.func_ir.blocks.values():
            for statement in block.body:
                value = getattr(statement, "value", None)
                target: str | None = None
                if isinstance(statement, ir.Return):
                    target = ""
                elif isinstance(statement, ir.Assign) and (isinstance(value, ir.Var) or self._passes_on(value)):
                    target = statement.target.name
                names = {v.name for v in statement.list_vars()} - {target if target else None}
                for name in names:
                    uses.setdefault(name, []).append(target)
        found = {name for name, targets in uses.items() if None not in targets}
        while lost := {n for n in found if any(t and t not in found for t in uses[n])}:
            found -= lost
        return found

    def _passes_on(self, value: Any) -> bool:
        if not isinstance(value, ir.Expr):
            return False
        return value.op in ("cast", "phi", "build_tuple") or (
            value.op == "call" and isinstance(self.types[value.func.name], types.NamedTupleClass)
        )

    def assign(self, value: Any, prefix: str) -> Any:
        var, assigned = named(self.func_ir, self.scope, value, prefix, self.loc)
        self.before.append(assigned)
        self.made = True
        return var

    def result_of(self, function: Any, *args: Any) -> Any:
        name = self.assign(ir.Global(getattr(function, "__name__", "operation"), function, self.loc), "function")
        return self.assign(ir.Expr.call(name, args, (), self.loc), "integer")

    def replace(self, statement: Any, value: Any) -> None:
        redefine(self.func_ir, statement, value)
        statement.value = value
        self.made = True

    def operation(self, statement: Any, function: Any, *operands: Any) -> None:
        """Put an operation of ours in the place of an expression."""
        name = self.assign(ir.Global("operation", function, self.loc), "function")
        self.replace(statement, ir.Expr.call(name, operands, (), self.loc))

    def refuse(self, text: str, cure: str = "write np.int64(…) around one of them") -> Any:
        raise errors.NumbaTypeError(f"fedmpi: {text}: {cure}", loc=self.loc)

    def type_of(self, var: Any) -> Any:
        """Return the type that was inferred, None for a variable that is new."""
        return self.types.get(var.name)

    def shown(self, var: Any) -> str:
        known = self.flow[var]
        kinds = sorted(known.kinds) if isinstance(known, Number) else [f"{getattr(known, 'kind', '?')}[…]"]
        names = {"weak": "int", "pybool": "bool of Python", "pyfloat": "float"}
        return " or ".join(names.get(kind, kind) for kind in kinds)

    def narrow(self, var: Any) -> Any:
        """Return a variable whose value lies in its dtype."""
        known = self.flow[var]
        if not isinstance(known, Number) or not known.wide:
            return var
        strong = known.strong
        if len(strong) > 1:
            self.refuse(f"{name_of(var)} is {self.shown(var)}, and what does not fit would differ", "give it one dtype")
        (kind,) = strong
        if known.kinds & WEAK and not fits(known.bounds, kind):
            return self.result_of(operations.checked(kind), var)
        return self.result_of(getattr(np, kind), var)

    def fitting(self, var: Any, kind: str, what: str, *, cast: bool = False) -> Any:
        """Return an integer of Python's that is a number of a dtype; NumPy raises for all others."""
        known = self.flow[var]
        if kind in INTEGERS and not fits(known.bounds, kind):
            low, high = known.bounds
            if low is not None and low == high:
                self.refuse(
                    f"{what}: {low} does not fit {kind}, in which NumPy computes it",
                    "write np.int64(…) around the other",
                )
            var = self.result_of(operations.checked(kind), var)
        if cast and self.type_of(var) != getattr(types, kind):
            var = self.result_of(getattr(np, kind), var)
        return var


def name_of(var: Any) -> str:
    """Return what the user calls a variable."""
    name = str(getattr(var, "unversioned_name", var.name))
    return "a value" if name.startswith("$") else name
