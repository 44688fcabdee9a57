"""A pass of the compiler of bodies: integers are computed in NumPy's dtypes, or the body is refused.

Numba types ``int32 + int32`` as int64 and ``uint64 + int`` as int64.  Its wide results are right modulo 2 to the power
of the bits, so they stay as they are where ``+ - *`` go on with them; for all else they are cast.  What is returned
stays wide, so that the check of the result finds what does not fit.  Python's integers take the dtype of what they
meet, and beyond 64 bits they are an error.  `integer_flow` finds what is which.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integer_pass.code import DIVISIONS, name_of
from fedmpi.local.integer_pass.flow import OPERATORS, PENDING, SYMBOLS
from fedmpi.local.integer_pass.on_arrays import Arrays
from fedmpi.local.integer_pass.on_calls import IntegerFlow
from fedmpi.local.integer_pass.on_scalars import SIGNED_TYPES, Scalars
from fedmpi.local.integers import operations
from fedmpi.local.integers.promotion import DTYPES, INTEGERS, UNSIGNED, WEAK, Elements, Number, fits, of
from fedmpi.local.numba_parts.intermediate import errors, ir
from fedmpi.local.numba_parts.passes import AnalysisPass, NopythonTypeInference, register_pass

_ROUNDS = 6


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
            flow = IntegerFlow(state.func_ir, state.typemap, state.calltypes, state.weak_parameters)
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


def _facts(flow: IntegerFlow, state: Any) -> Facts:
    if state.integers_returned is not None:
        return Facts(None, False)
    named = zip(state.func_id.arg_names, map(types.unliteral, state.args), strict=True)
    as_python = {name: _PYTHON[type_] for name, type_ in named if type_ in _PYTHON}
    other = IntegerFlow(state.func_ir, state.typemap, state.calltypes, as_python) if as_python else flow
    return Facts(flow.returned(), flow.weak_matters or other.returned() != flow.returned())


class Changes(Scalars, Arrays):
    """Makes the changes that a body needs, statement by statement."""

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
        return self.result_of(operations.checked(*known.strong, returned=True), var)

    def _use(self, statement: Any, expr: Any) -> None:
        """Let an expression have its operands as they are in NumPy."""

    _phi = _cast = _getattr = _exhaust_iter = _iternext = _pair_first = _pair_second = _getiter = _use

    def _getitem(self, statement: Any, expr: Any) -> None:
        expr.index = self.narrow(expr.index)

    def _build_tuple(self, statement: Any, expr: Any) -> None:
        returned = statement.target.name in self.results
        expr.items = [self._returned(item) if returned else self.narrow(item) for item in expr.items]

    def _build_list(self, statement: Any, expr: Any) -> None:
        expr.items = [self.narrow(item) for item in expr.items]

    def _store(self, statement: Any) -> None:
        """An integer is stored in an array: it must fit."""
        target, known = self.types[statement.target.name], self.flow[statement.value]
        if isinstance(statement, ir.SetItem):
            statement.index = self.narrow(statement.index)
        kind = str(target.dtype) if isinstance(target, types.Array) else ""
        if isinstance(known, Number) and known.kinds <= _FLOATS and kind in INTEGERS:
            statement.value = self.result_of(operations.truncated(kind), statement.value)
        if not isinstance(known, Number) or not known.integral:
            return
        if kind in INTEGERS and known.kinds == {"weak"}:
            statement.value = self.fitting(statement.value, kind, "an item is stored")
        elif known.kinds != {kind}:
            statement.value = self.narrow(statement.value)
            holds = kind not in INTEGERS or all(np.can_cast(own, kind) for own in known.kinds & DTYPES)
            if not holds and not fits(known.bounds, kind):
                statement.value = self.result_of(operations.checked(kind), statement.value)

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
                    self.refuse(f"~ of {self.shown(expr.value)}", "give it one dtype")
                (kind,) = known.kinds
                self.operation(statement, operations.inverse(kind), expr.value)
        elif expr.fn is operator.not_:
            expr.value = self.narrow(expr.value)
        elif expr.fn is operator.neg and self._negates_beyond(known) and self.type_of(statement.target) in SIGNED_TYPES:
            zero = self.assign(ir.Const(0, self.loc), "zero")
            self.operation(statement, operations.wrapping("sub"), zero, expr.value)
        if isinstance(known, Elements) and known.kind in INTEGERS:
            self.keep(statement)

    def _negates_beyond(self, known: Any) -> bool:
        return isinstance(known, Number) and bool(known.strong) and (known.wide or "int64" in known.kinds)

    def _binop(self, statement: Any, expr: Any) -> None:
        left, right = self.flow[expr.lhs], self.flow[expr.rhs]
        fn = expr.immutable_fn if expr.op == "inplace_binop" else expr.fn
        if PENDING in (left, right) or not (
            isinstance(left, Number | Elements) and isinstance(right, Number | Elements)
        ):
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)
        elif isinstance(left, Elements) or isinstance(right, Elements):
            self.arrays(statement, expr, fn)
        elif left.integral and right.integral and fn in SYMBOLS:
            self.integers(statement, expr, fn, left, right)
        else:
            expr.lhs, expr.rhs = self.narrow(expr.lhs), self.narrow(expr.rhs)

    _inplace_binop = _binop

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
        expr.args = [self.narrow(arg) for arg in expr.args]
        expr.kws = [(name, self.narrow(arg)) for name, arg in expr.kws]
        if obj is int and len(expr.args) == 1:
            self._to_python(statement, expr)
        elif obj is divmod and len(expr.args) == 2 and all(isinstance(self.flow[a], Number) for a in expr.args):
            parts = [self.assign(ir.Expr.binop(fn, *expr.args, self.loc), "part") for fn in DIVISIONS]
            self.replace(statement, ir.Expr.build_tuple(parts, self.loc))
        elif obj in (max, min) and any(_is_only(self.flow[arg], "uint64") for arg in expr.args):
            weak = [arg for arg in expr.args if _is_only(self.flow[arg], "weak")]
            expr.args = [self.fitting(a, "uint64", obj.__name__, cast=True) if a in weak else a for a in expr.args]
        elif obj in OPERATORS and len(expr.args) == 2:
            self.replace(statement, ir.Expr.binop(obj, *expr.args, self.loc))
        elif isinstance(owner, types.Dispatcher):
            if any(self.flow.in_lists.get(self.types[arg.name]) for arg in expr.args if arg.name in self.types):
                self.refuse("a list holds integers of several dtypes", "give all of them one before the call")
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
            return self.result_of(operations.truncated(kind), var)
        if known.kinds <= WEAK:
            return self.fitting(var, kind, f"np.{kind}({self.shown(var)})")
        if known.kinds & WEAK and not fits(known.bounds, kind):
            return self.result_of(operations.checked(kind), self.narrow(var))
        return var if known.strong == {kind} else self.narrow(var)

    def _to_python(self, statement: Any, expr: Any) -> None:
        known = self.flow[expr.args[0]]
        function = operations.truncated("weak") if isinstance(known, Number) and known.kinds <= _FLOATS else None
        if isinstance(known, Number) and "uint64" in known.kinds:
            function = operations.python_int
        if function is not None:
            self.operation(statement, function, *expr.args)

    def _helper(self, expr: Any, dispatcher: Any) -> None:
        """Call the form of a helper that knows which of its parameters are integers of Python's."""
        weak = self.flow.weak_arguments(expr, dispatcher)
        if weak:
            fastmath = bool(dispatcher.targetoptions.get("fastmath", False))
            form = self.state.compile_helper(dispatcher.py_func, fastmath=fastmath, weak=weak)
            expr.func = self.assign(ir.Global("helper", form, self.loc), "helper")

    def _as_in_numpy(self, statement: Any, expr: Any, obj: Any) -> None:
        """A function of NumPy's gives its dtype: Python's integers beside others take theirs, else it is refused."""
        found = self.flow.in_numpy(expr)
        if not isinstance(found, Number | Elements):
            return
        kind = found.kind if isinstance(found, Elements) else next(iter(found.kinds))
        type_ = self.types[statement.target.name]
        numba = str(type_.dtype) if isinstance(type_, types.Array) else str(types.unliteral(type_))
        if kind in DTYPES and kind != numba:
            weak = [arg for arg in expr.args if _is_only(self.flow[arg], "weak")]
            name = f"np.{getattr(obj, '__name__', None) or 'this function'}"
            if not weak or kind not in INTEGERS:
                text = f"{name} gives {kind} in NumPy and {numba} in compiled code"
                self.refuse(text, "convert first, .astype(np.int64)")
            expr.args = [self.fitting(a, kind, name, cast=True) if a in weak else a for a in expr.args]
        if isinstance(obj, np.ufunc) and isinstance(found, Elements) and kind in DTYPES:
            self.keep(statement)

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
                self.refuse(f"{name_of(statement.target)} is {self.shown(statement.target)}", "give it one dtype")
            for i, (incoming, label) in enumerate(zip(value.incoming_values, value.incoming_blocks, strict=True)):
                value.incoming_values[i] = self._incoming(incoming, label, known)
        elif isinstance(type_, types.Float) and not self.made:
            self.refuse(f"{name_of(statement.target)}: compiled code makes a float of integers", "give them one dtype")

    def _incoming(self, var: Any, label: int, known: Number) -> Any:
        one = self.flow.known.get(getattr(var, "name", ""))
        if not isinstance(one, Number):
            return var
        self.before = []
        if "uint64" in known.kinds and one.kinds <= WEAK:
            var = self.fitting(var, "uint64", "a variable", cast=True)
        elif "uint64" not in known.kinds:
            var = self.narrow(var)
        block = self.func_ir.blocks[label]
        block.body[-1:-1] = self.before
        return var


_PYTHON = {types.int64: of("weak"), types.boolean: of("pybool"), types.float64: of("pyfloat")}
_FLOATS = {"float", "pyfloat"}


def _is_only(known: Any, kind: str) -> bool:
    return isinstance(known, Number) and known.kinds == {kind}
