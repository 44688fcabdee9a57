"""A pass of the compiler of bodies: integers are computed in NumPy's dtypes, or the body is refused.

Numba types ``int32 + int32`` as int64 and ``uint64 + int`` as int64.  Its wide results are right modulo 2 to the power
of the bits, so they may stay as they are until something else than ``+ - *`` or the returned value depends on them: there
they are cast.  What is returned stays wide, so that the check at the result finds what does not fit.  Python's integers
take the dtype of what they meet, and what they do beyond 64 bits is an error.  `integer_flow` finds what is which.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.core import errors, ir
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.ir_utils import mk_unique_var
from numba.core.typed_passes import NopythonTypeInference

from fedmpi.local import integer_operations as operations
from fedmpi.local.integer_flow import ARITHMETIC, BITWISE, COMPARISONS, PENDING, RING, Flow, default
from fedmpi.local.integer_rules import INTEGERS, UNSIGNED, WEAK, Elements, Number, dtypes_of, fits, may_overflow, of

_SYMBOLS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.mod: "%",
    operator.pow: "**", operator.lshift: "<<", operator.rshift: ">>", operator.and_: "&", operator.or_: "|",
    operator.xor: "^", operator.truediv: "/", operator.lt: "<", operator.le: "<=", operator.gt: ">",
    operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
}  # fmt: skip
_DIVISIONS = (operator.floordiv, operator.mod)
_SHIFTS = (operator.lshift, operator.rshift)
_EXACT = {operator.add: "add", operator.sub: "sub", operator.mul: "mul"}
_ROUNDS = 6
_DTYPES = INTEGERS | {"bool"}
_UNCLEAR = "which dtype NumPy computes it in depends on the way there"


@dataclass(frozen=True)
class Facts:
    """What callers of a compiled helper have to know."""

    returns: Any
    weak_matters: bool


@register_pass(mutates_CFG=False, analysis_only=False)
class IntegersAsNumPy(AnalysisPass):
    """Cast and check integers where Numba's differ from NumPy's, and infer the types again if anything has changed."""

    _name = "fedmpi_integers"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        for _ in range(_ROUNDS):
            flow = Flow(state.func_ir, state.typemap, state.calltypes, state.weak_parameters)
            changes = Changes(flow, state)
            changes.make()
            if not changes.made:
                state.facts[tuple(map(types.unliteral, state.args))] = _facts(flow, state)
                return False
            state.return_type = None
            NopythonTypeInference().run_pass(state)
        raise errors.NumbaTypeError(
            "fedmpi: the dtypes of its integers depend on each other: convert them with np.int64(…)"
        )


def _facts(flow: Flow, state: Any) -> Facts:
    if state.integers_returned is not None:
        return Facts(None, False)
    named = zip(state.func_id.arg_names, map(types.unliteral, state.args), strict=True)
    as_python = {name: _PYTHON[type_] for name, type_ in named if type_ in _PYTHON}
    other = Flow(state.func_ir, state.typemap, state.calltypes, as_python) if as_python else flow
    return Facts(flow.returned(), flow.weak_matters or other.returned() != flow.returned())


class Changes:
    """Makes the changes that a body needs, statement by statement."""

    def __init__(self, flow: Flow, state: Any) -> None:
        self.flow, self.state, self.func_ir, self.types = flow, state, state.func_ir, state.typemap
        self.made = False
        self.before: list[Any] = []  # what comes before the statement that is looked at
        self.scope: Any = None
        self.loc: Any = None
        self.uses = self._expressions_by_use()
        self.results = set() if state.integers_returned is None else self._only_returned()

    def make(self) -> None:
        for block in self.func_ir.blocks.values():
            body: list[Any] = []
            self.scope = block.scope
            for statement in block.body:
                self.before, self.loc = [], statement.loc
                self._statement(statement)
                body += [*self.before, statement]
            block.body[:] = body
        self._join()

    def _expressions_by_use(self) -> dict[str, list[Any]]:
        """Return for each variable the expressions that use it."""
        found: dict[str, list[Any]] = {}
        for block in self.func_ir.blocks.values():
            for expr in block.find_exprs():
                for var in expr.list_vars():
                    found.setdefault(var.name, []).append(expr)
        return found

    def _is_operand(self, name: str) -> bool:
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

    # --- new statements ---

    def _assign(self, value: Any, prefix: str) -> Any:
        var = ir.Var(self.scope, mk_unique_var(f"${prefix}"), self.loc)
        self.func_ir._definitions[var.name].append(value)
        self.before.append(ir.Assign(value, var, self.loc))
        self.made = True
        return var

    def _result_of(self, function: Any, *args: Any) -> Any:
        name = self._assign(ir.Global(getattr(function, "__name__", "operation"), function, self.loc), "function")
        return self._assign(ir.Expr.call(name, args, (), self.loc), "integer")

    def _replace(self, statement: Any, value: Any) -> None:
        definitions = self.func_ir._definitions[statement.target.name]
        definitions[:] = [value if d is statement.value else d for d in definitions]
        statement.value = value
        self.made = True

    def refuse(self, text: str, cure: str = "write np.int64(…) around one of them") -> Any:
        raise errors.NumbaTypeError(f"fedmpi: {text}: {cure}", loc=self.loc)

    def _type(self, var: Any) -> Any:
        """Return the type that was inferred, None for a variable that is new."""
        return self.types.get(var.name)

    def _shown(self, var: Any) -> str:
        known = self.flow[var]
        kinds = sorted(known.kinds) if isinstance(known, Number) else [f"{getattr(known, 'kind', '?')}[…]"]
        names = {"weak": "int", "pybool": "bool of Python", "pyfloat": "float"}
        return " or ".join(names.get(kind, kind) for kind in kinds)

    # --- operands ---

    def narrow(self, var: Any) -> Any:
        """Return a variable whose value lies in its dtype."""
        known = self.flow[var]
        if not isinstance(known, Number) or not known.wide:
            return var
        strong = known.strong
        if len(strong) > 1:
            self.refuse(f"{_name(var)} is {self._shown(var)}, and what does not fit would differ", "give it one dtype")
        (kind,) = strong
        if known.kinds & WEAK and not fits(known.bounds, kind):
            return self._result_of(operations.checked(kind), var)
        return self._result_of(getattr(np, kind), var)

    def _fitting(self, var: Any, kind: str, what: str, *, cast: bool = False) -> Any:
        """Return an integer of Python's that is a number of a dtype; NumPy raises for all others."""
        known = self.flow[var]
        if kind in INTEGERS and not fits(known.bounds, kind):
            low, high = known.bounds
            if low is not None and low == high:
                self.refuse(
                    f"{what}: {low} does not fit {kind}, in which NumPy computes it",
                    "write np.int64(…) around the other",
                )
            var = self._result_of(operations.checked(kind), var)
        if cast and self._type(var) != getattr(types, kind):
            var = self._result_of(getattr(np, kind), var)
        return var

    # --- statements ---

    def _statement(self, statement: Any) -> None:
        match statement:
            case ir.Assign(value=ir.Expr() as expr):
                if statement.target.name in self.flow.known:
                    getattr(self, f"_{expr.op}", self._use)(statement, expr)
            case ir.SetItem() | ir.StaticSetItem():
                self._store(statement)
            case ir.Return():
                statement.value = self._returned(statement.value)

    def _returned(self, var: Any) -> Any:
        """Return what is returned, wide if the check of the result finds what does not fit its dtype."""
        known = self.flow[var]
        if self.state.integers_returned is None or not isinstance(known, Number) or not known.wide:
            return self.narrow(var)
        if len(known.strong) > 1 or known.strong == self.state.integers_returned:
            return var if len(known.strong) == 1 else self.narrow(var)
        return self._result_of(operations.checked(*known.strong), var)

    def _use(self, statement: Any, expr: Any) -> None:
        """Let an expression have its operands as they are in NumPy."""

    _phi = _cast = _getattr = _exhaust_iter = _iternext = _pair_first = _pair_second = _getiter = _use

    def _getitem(self, statement: Any, expr: Any) -> None:
        expr.index = self.narrow(expr.index)

    def _build_tuple(self, statement: Any, expr: Any) -> None:
        returned = statement.target.name in self.results
        expr.items = [self._returned(item) if returned else self.narrow(item) for item in expr.items]

    def _build_list(self, statement: Any, expr: Any) -> None:
        uses = self.uses.get(statement.target.name, ())
        if all(use.op == "call" and self.flow.object(use.func) is np.array for use in uses):
            expr.items = [self.narrow(item) for item in expr.items]
        else:
            expr.items = [self._element(item, self.types[statement.target.name]) for item in expr.items]

    def _element(self, var: Any, list_: Any) -> Any:
        known = self.flow[var]
        made = self.narrow(var)
        if made is var and isinstance(known, Number) and list_.dtype == types.int64 and known.strong - {"int64"}:
            self.refuse(f"a list holds {self._shown(var)} beside other integers", "give all of them one dtype")
        return made

    def _store(self, statement: Any) -> None:
        """An integer is stored in an array: NumPy's are cut, Python's must fit."""
        target, known = self.types[statement.target.name], self.flow[statement.value]
        if isinstance(statement, ir.SetItem):
            statement.index = self.narrow(statement.index)
        if not isinstance(known, Number) or not known.integral:
            return
        kind = str(target.dtype) if isinstance(target, types.Array) else ""
        if kind in INTEGERS and known.kinds == {"weak"}:
            statement.value = self._fitting(statement.value, kind, "an item is stored")
        elif known.strong != {kind}:
            statement.value = self.narrow(statement.value)

    def _unary(self, statement: Any, expr: Any) -> None:
        known = self.flow[expr.value]
        kinds = known.kinds if isinstance(known, Number) else {getattr(known, "kind", "")}
        if expr.fn is operator.neg and "bool" in kinds:
            self.refuse("NumPy has no - of truth values", "write ~x or not x")
        if expr.fn is operator.invert:
            if "pybool" in kinds:
                self.refuse("~ of a truth value of Python is an integer", "write not x")
            expr.value = self.narrow(expr.value)
            if isinstance(known, Number) and known.strong & set(UNSIGNED):
                if len(known.kinds) > 1:
                    self.refuse(f"~ of {self._shown(expr.value)}", "give it one dtype")
                (kind,) = known.kinds
                self._operation(statement, operations.inverse(kind), expr.value)
        elif expr.fn is operator.not_:
            expr.value = self.narrow(expr.value)
        elif expr.fn is operator.neg and isinstance(known, Number) and (known.wide or "int64" in known.kinds):
            if known.strong and self._type(statement.target) in _SIGNED_TYPES:
                zero = self._assign(ir.Const(0, self.loc), "zero")
                self._operation(statement, operations.wrapping("sub"), zero, expr.value)
        if isinstance(known, Elements) and known.kind in INTEGERS:
            self._kept(statement)

    def _binop(self, statement: Any, expr: Any) -> None:
        left, right = self.flow[expr.lhs], self.flow[expr.rhs]
        fn = expr.immutable_fn if expr.op == "inplace_binop" else expr.fn
        if PENDING in (left, right) or not (
            isinstance(left, Number | Elements) and isinstance(right, Number | Elements)
        ):
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)
        elif isinstance(left, Elements) or isinstance(right, Elements):
            self._arrays(statement, expr, fn)
        elif left.integral and right.integral and fn in _SYMBOLS:
            self._integers(statement, expr, fn, left, right)
        else:
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)

    _inplace_binop = _binop

    # --- two scalars ---

    def _integers(self, statement: Any, expr: Any, fn: Any, left: Number, right: Number) -> None:
        kinds = dtypes_of(left, right)
        what = f"{self._shown(expr.lhs)} {_SYMBOLS[fn]} {self._shown(expr.rhs)}"
        if fn in COMPARISONS or fn is operator.truediv:
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)
            if fn in COMPARISONS and "uint64" in left.kinds | right.kinds and left.kinds != right.kinds:
                self._operation(statement, operations.comparison(_SYMBOLS[fn]), expr.lhs, expr.rhs)
        elif "bool" in kinds:
            self._truths(statement, expr, fn, kinds, what)
        elif "float" in kinds:
            self._as_floats(expr, fn, kinds, what)
        elif kinds == {"weak"}:
            self._weak(statement, expr, fn, left, right)
        elif len(kinds & INTEGERS) > 1:
            if left.wide or right.wide or kinds & {"uint64"} or fn not in (*RING, *BITWISE):
                self.refuse(f"{what}: {_UNCLEAR}", "give each side one dtype")
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
        self._replace(statement, ir.Expr.binop(either, expr.lhs, expr.rhs, self.loc))

    def _as_floats(self, expr: Any, fn: Any, kinds: frozenset[str], what: str) -> None:
        """uint64 with a signed integer: NumPy computes in float64."""
        if kinds != {"float"} or fn in (*BITWISE, *_SHIFTS):
            self.refuse(f"{what}: NumPy has no integer that holds both")
        expr.lhs, expr.rhs = (self._result_of(np.float64, self.narrow(v)) for v in (expr.lhs, expr.rhs))

    def _weak(self, statement: Any, expr: Any, fn: Any, left: Number, right: Number) -> None:
        """Integers of Python's: beyond 64 bits they are an error."""
        low, high = right.bounds
        if fn in _DIVISIONS:
            if low is None or (low <= 0 and (high is None or high >= -1)):
                self._operation(statement, operations.quotient("weak", fn is operator.mod), expr.lhs, expr.rhs)
        elif fn is operator.rshift:
            if low is None or high is None or low < 0 or high > 63:
                self._operation(statement, operations.shift("weak", False), expr.lhs, expr.rhs)
        elif fn is operator.pow and high is not None and high < 0:
            self.refuse("an integer of Python's to a negative power is a float", "write float(…) ** …")
        elif fn in (operator.pow, operator.lshift):
            if may_overflow(fn, left.bounds, right.bounds):
                made = operations.power("weak") if fn is operator.pow else operations.shift("weak", True)
                self._operation(statement, made, expr.lhs, expr.rhs)
        elif fn in RING and may_overflow(fn, left.bounds, right.bounds):
            self._operation(statement, operations.exact(_EXACT[fn]), expr.lhs, expr.rhs)

    def _operation(self, statement: Any, function: Any, *operands: Any) -> None:
        """Put an operation of ours in the place of an expression."""
        name = self._assign(ir.Global("operation", function, self.loc), "function")
        self._replace(statement, ir.Expr.call(name, operands, (), self.loc))

    def _strong(self, statement: Any, expr: Any, fn: Any, kind: str, may_be_weak: bool, what: str) -> None:
        """Integers of NumPy's, or one of them and one of Python's, computed in the dtype ``kind``."""
        right, bits = self.flow[expr.rhs], np.iinfo(kind).bits
        wide = right.wide or self.flow[expr.lhs].wide
        for side in ("lhs", "rhs"):
            var = getattr(expr, side)
            known = self.flow[var]
            if known.wide and not (fn in RING and known.strong == {kind}):
                var = self.narrow(var)
            if known.kinds == {"weak"}:
                var = self._fitting(var, kind, what, cast=kind == "uint64")
            elif kind == "uint64" and (known.kinds & WEAK or self._type(var) not in _UNSIGNED_TYPES):
                var = self._result_of(np.uint64, var)
            setattr(expr, side, var)
        low, high = right.bounds if right.kinds <= WEAK or len(right.kinds) == 1 else (None, None)
        flavour = "weak" if may_be_weak and kind != "uint64" else kind
        if fn in _DIVISIONS:
            safe = low is not None and high is not None and (low > 0 or high < -1)
            if not safe and may_be_weak and kind == "uint64":
                self.refuse(f"{what}: {_UNCLEAR}", "give each side one dtype")
            if not safe and (kind == "int64" or flavour == "weak"):
                self._operation(statement, operations.quotient(flavour, fn is operator.mod), expr.lhs, expr.rhs)
        elif fn in _SHIFTS and not (low is not None and high is not None and 0 <= low <= high < bits):
            self._operation(statement, operations.shift(kind, fn is operator.lshift), expr.lhs, expr.rhs)
        elif fn is operator.pow:
            if high is not None and high < 0:
                self.refuse(f"{what}: NumPy has no negative powers of integers", "write np.float64(…) ** …")
            if low == high == 2 and bits == 64:
                self._replace(statement, ir.Expr.binop(operator.mul, expr.lhs, expr.lhs, self.loc))
            elif low is None or high is None or low < 0 or bits * high > 64:
                self._operation(statement, operations.power(kind), expr.lhs, expr.rhs)
        elif fn in RING and self._type(statement.target) in _SIGNED_TYPES and (kind == "int64" or wide):
            self._operation(statement, operations.wrapping(_EXACT[fn]), expr.lhs, expr.rhs)

    # --- arrays ---

    def _arrays(self, statement: Any, expr: Any, fn: Any) -> None:
        left, right = self.flow[expr.lhs], self.flow[expr.rhs]
        what = f"{self._shown(expr.lhs)} {_SYMBOLS.get(fn, '')} {self._shown(expr.rhs)}"
        kind = self.flow.elements(left, right)
        in_place = expr.op == "inplace_binop" and isinstance(left, Elements)
        if in_place and left.kind in INTEGERS | {"bool"}:
            found = "float64" if fn is operator.truediv else kind
            if not found or not np.can_cast(found, left.kind, "same_kind"):
                self.refuse(
                    f"{what}= …: NumPy does not store {found} in an array of {left.kind}", "write a = (a …).astype(…)"
                )
        if not kind:
            self.refuse(f"{what}: {_UNCLEAR}", "give each side one dtype")
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
            self._kept(statement)

    def _elements(self, statement: Any, expr: Any, fn: Any, kind: str, right: Any, what: str) -> None:
        """Let operations on the elements of arrays end as NumPy's do."""
        low, high = right.bounds if isinstance(right, Number) and len(right.kinds) == 1 else (None, None)
        safe = None not in (low, high)
        if fn in _DIVISIONS:
            safe = kind != "int64" or (low is not None and low >= 0) or (high is not None and high < -1)
        elif fn in _SHIFTS:
            safe = safe and 0 <= low <= high < np.iinfo(kind).bits
        elif fn is operator.pow:
            if not safe or not 0 <= low <= high <= 64:
                self.refuse(
                    f"{what}: of arrays it needs a constant power from 0 to 64", "write a loop over the elements"
                )
            return
        else:
            return
        if not safe and expr.op == "inplace_binop":
            self.refuse(f"{what}= … of an array", f"write a = a {_SYMBOLS[fn]} …")
        if not safe:
            self._operation(statement, operations.of_arrays(kind, _SYMBOLS[fn]), expr.lhs, expr.rhs)

    def _kept(self, statement: Any) -> None:
        """Keep an array of integers from becoming a part of a larger expression, in which its elements are wider."""
        if self._is_operand(statement.target.name):
            inner = ir.Var(self.scope, mk_unique_var("$array"), self.loc)
            self.func_ir._definitions[inner.name].append(statement.value)
            self.before.append(ir.Assign(statement.value, inner, self.loc))
            self._operation(statement, operations.kept, inner)

    def _arrays_as_floats(self, expr: Any, fn: Any, what: str) -> None:
        """One side is a float, or they are uint64 and signed: NumPy computes in floats."""
        integers = [s for s in (expr.lhs, expr.rhs) if getattr(self.flow[s], "kind", "") in _DTYPES]
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
                    var = self._result_of(np.float64, var)
                setattr(expr, side, var)

    def _is_integral(self, var: Any) -> bool:
        known = self.flow[var]
        return known.integral if isinstance(known, Number) else known.kind in _DTYPES

    def _beside_array(self, var: Any, kind: str, fn: Any, what: str) -> Any:
        """Return a scalar beside an array in its dtype in NumPy; Numba would take int64."""
        known = self.flow[var]
        if not isinstance(known, Number) or not known.integral or self._type(var) == types.boolean:
            return var
        if known.kinds <= WEAK:
            if fn in COMPARISONS and kind != "uint64":
                return var  # int64 holds both
            return self._fitting(var, kind, what, cast=kind in INTEGERS)
        if len(known.strong) != 1:
            self.refuse(f"{what}: {_UNCLEAR}", "give each side one dtype")
        (own,) = known.strong
        var = self.narrow(var)
        return (
            var
            if self.types.get(var.name, getattr(types, own)) == getattr(types, own)
            else self._result_of(getattr(np, own), var)
        )

    # --- calls ---

    def _call(self, statement: Any, expr: Any) -> None:
        owner = self.types[expr.func.name]
        if isinstance(owner, types.NamedTupleClass) and statement.target.name in self.results:
            expr.args = [self._returned(arg) for arg in expr.args]
            expr.kws = [(name, self._returned(arg)) for name, arg in expr.kws]
            return
        if isinstance(owner, types.NumberClass) and len(expr.args) == 1:
            expr.args = [self._converted(expr.args[0], str(owner.instance_type))]
            return
        obj = self.flow.object(expr.func)
        if getattr(obj, "gives", None) is not None:
            return
        list_ = owner.this if isinstance(owner, types.BoundFunction) else None
        if isinstance(list_, types.List):
            expr.args = [self._element(arg, list_) for arg in expr.args]
        else:
            expr.args = [self.narrow(arg) for arg in expr.args]
        expr.kws = [(name, self.narrow(arg)) for name, arg in expr.kws]
        if obj is int and len(expr.args) == 1:
            self._to_python(statement, expr)
        elif obj is divmod and len(expr.args) == 2 and all(isinstance(self.flow[a], Number) for a in expr.args):
            parts = [self._assign(ir.Expr.binop(fn, *expr.args, self.loc), "part") for fn in _DIVISIONS]
            self._replace(statement, ir.Expr.build_tuple(parts, self.loc))
        elif obj in (max, min) and any(_is_only(self.flow[arg], "uint64") for arg in expr.args):
            weak = [arg for arg in expr.args if _is_only(self.flow[arg], "weak")]
            expr.args = [self._fitting(a, "uint64", obj.__name__, cast=True) if a in weak else a for a in expr.args]
        elif obj in _OPERATORS and len(expr.args) == 2:
            self.refuse(f"operator.{obj.__name__} of integers", "write the operator itself")
        elif isinstance(owner, types.Dispatcher):
            self._helper(expr, owner.dispatcher)
        elif self.types[statement.target.name] is not None and not self.made:
            self._as_in_numpy(statement, expr, obj)

    def _converted(self, var: Any, kind: str) -> Any:
        """Return what ``np.int32(…)`` is given: Python's integers and floats must fit."""
        known = self.flow[var]
        if not isinstance(known, Number):
            return var
        if kind not in INTEGERS:
            return self.narrow(var)
        if known.kinds <= _FLOATS:
            return self._result_of(operations.truncated(kind), var)
        if known.kinds <= WEAK:
            return self._fitting(var, kind, f"np.{kind}({self._shown(var)})")
        if known.kinds & WEAK and not fits(known.bounds, kind):
            return self._result_of(operations.checked(kind), self.narrow(var))
        return var if known.strong == {kind} else self.narrow(var)

    def _to_python(self, statement: Any, expr: Any) -> None:
        known = self.flow[expr.args[0]]
        function = operations.truncated("weak") if isinstance(known, Number) and known.kinds <= _FLOATS else None
        if isinstance(known, Number) and "uint64" in known.kinds:
            function = operations.python_int
        if function is not None:
            self._operation(statement, function, *expr.args)

    def _helper(self, expr: Any, dispatcher: Any) -> None:
        """Call the form of a helper that knows which of its parameters are integers of Python's."""
        facts = getattr(dispatcher, "fedmpi_facts", {}).get(self.flow.argument_types(expr))
        if facts is None or not facts.weak_matters or expr.vararg is not None:
            return
        names = dispatcher.py_func.__code__.co_varnames
        given = dict(zip(names, expr.args, strict=False)) | dict(expr.kws)
        known = {name: _plain(self.flow[var]) for name, var in given.items()}
        differing = {n: k for n, k in known.items() if k is not None and k != default(self.types[given[n].name])}
        if differing and differing != dispatcher.fedmpi_weak:
            form = self.state.compile_helper(dispatcher.py_func, differing)
            expr.func = self._assign(ir.Global("helper", form, self.loc), "helper")

    def _as_in_numpy(self, statement: Any, expr: Any, obj: Any) -> None:
        """A function of NumPy's gives its dtype: Python's integers beside others take theirs, else it is refused."""
        found = self.flow.in_numpy(expr)
        if not isinstance(found, Number | Elements):
            return
        if isinstance(obj, np.ufunc) and isinstance(found, Elements) and found.kind in _DTYPES:
            self._kept(statement)
        kind = found.kind if isinstance(found, Elements) else next(iter(found.kinds))
        type_ = self.types[statement.target.name]
        numba = str(type_.dtype) if isinstance(type_, types.Array) else str(types.unliteral(type_))
        if kind not in INTEGERS | {"bool"} or kind == numba:
            return
        weak = [arg for arg in expr.args if _is_only(self.flow[arg], "weak")]
        name = getattr(obj, "__name__", None) or "this function"
        if not weak or kind not in INTEGERS:
            self.refuse(
                f"np.{name} gives {kind} in NumPy and {numba} in compiled code", "convert first, .astype(np.int64)"
            )
        expr.args = [self._fitting(a, kind, f"np.{name}", cast=True) if a in weak else a for a in expr.args]

    # --- variables that are one or the other ---

    def _join(self) -> None:
        """Let what a variable may be have one type: Numba makes a float of uint64 and int64."""
        for block in self.func_ir.blocks.values():
            for statement in block.body:
                known = self.flow.known.get(getattr(getattr(statement, "target", None), "name", ""))
                if isinstance(known, Number) and known.integral:
                    self._one_type(statement, known)

    def _one_type(self, statement: Any, known: Number) -> None:
        self.loc = statement.loc
        value, type_ = statement.value, self.types.get(statement.target.name)
        if "uint64" not in known.kinds and not isinstance(type_, types.Float):
            return
        if isinstance(value, ir.Expr) and value.op == "phi":
            if known.strong & {"uint64"} and known.strong - {"uint64"}:
                self.refuse(f"{_name(statement.target)} is {self._shown(statement.target)}", "give it one dtype")
            for i, (incoming, label) in enumerate(zip(value.incoming_values, value.incoming_blocks, strict=True)):
                value.incoming_values[i] = self._incoming(incoming, label, known)
        elif isinstance(type_, types.Float) and not self.made:
            self.refuse(f"{_name(statement.target)}: compiled code makes a float of integers", "give them one dtype")

    def _incoming(self, var: Any, label: int, known: Number) -> Any:
        one = self.flow.known.get(getattr(var, "name", ""))
        if not isinstance(one, Number):
            return var
        self.before = []
        if "uint64" in known.kinds and one.kinds <= WEAK:
            var = self._fitting(var, "uint64", "a variable", cast=True)
        elif "uint64" not in known.kinds:
            var = self.narrow(var)
        block = self.func_ir.blocks[label]
        block.body[-1:-1] = self.before
        return var


_PYTHON = {types.int64: of("weak"), types.boolean: of("pybool"), types.float64: of("pyfloat")}
_FLOATS = {"float", "pyfloat"}
_SIGNED_TYPES = (types.int8, types.int16, types.int32, types.int64)
_UNSIGNED_TYPES = tuple(getattr(types, kind) for kind in UNSIGNED)
_OPERATORS = tuple(_SYMBOLS)


def _is_only(known: Any, kind: str) -> bool:
    return isinstance(known, Number) and known.kinds == {kind}


def _plain(known: Any) -> Any:
    """Return what a helper is told of an argument: bounds are left out, one form serves all."""
    if isinstance(known, Number):
        return Number(known.kinds)
    if isinstance(known, tuple):
        parts = tuple(map(_plain, known))
        return None if None in parts else parts
    return known if isinstance(known, Elements) else None


def _name(var: Any) -> str:
    name = str(getattr(var, "unversioned_name", var.name))
    return "a value" if name.startswith("$") else name
