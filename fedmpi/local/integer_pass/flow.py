"""What is known of the integers of a typed body: for each variable of Numba's intermediate code, its kind in NumPy.

Types are Numba's, which has one int64 for Python's integers and NumPy's and computes small ones in 64 bits.  What NumPy
would make of the same program is found by going through the statements until nothing changes.
"""

from __future__ import annotations

import collections
import functools
import operator
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integers.promotion import (
    DTYPES,
    INT64,
    INTEGERS,
    SIZE,
    WEAK,
    Elements,
    Iterated,
    Number,
    compute,
    constant,
    dtype_of,
    dtypes_of,
    joined,
    of,
    weak,
)
from fedmpi.local.numba_parts.intermediate import errors, ir, resolved
from fedmpi.local.records import element_names
from fedmpi.local.typed.numba_types import SequenceValue

COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
RING = (operator.add, operator.sub, operator.mul)  # right modulo 2 to the power of the bits, however wide the operands
BITWISE = (operator.and_, operator.or_, operator.xor)
ARITHMETIC = (*RING, *BITWISE, operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift)
SYMBOLS = {
    operator.add: "+", operator.sub: "-", operator.mul: "*", operator.floordiv: "//", operator.mod: "%",
    operator.pow: "**", operator.lshift: "<<", operator.rshift: ">>", operator.and_: "&", operator.or_: "|",
    operator.xor: "^", operator.truediv: "/", operator.lt: "<", operator.le: "<=", operator.gt: ">",
    operator.ge: ">=", operator.eq: "==", operator.ne: "!=",
}  # fmt: skip
OPERATORS = tuple(SYMBOLS)
PENDING = "made of an array whose dtype will change: known when types have been inferred again"
_UNSEEN = object()
_SWEEPS = 1000  # a few are enough: after three, bounds that still move are given up
_COUNTS = {"shape": (SIZE,) * 8, "strides": (SIZE,) * 8, "size": SIZE, "ndim": SIZE, "itemsize": SIZE, "nbytes": SIZE}


def default(type_: Any) -> Any:
    """Return what a type alone says: an integer is one of NumPy's."""
    match type_:
        case types.Boolean():
            return of("bool")
        case types.Integer():
            return of(types.unliteral(type_).name)
        case types.Float():
            return of("float") if type_ is not types.float64 else of("float", "pyfloat")
        case types.Omitted():
            return constant(type_.value)
        case types.BaseTuple():
            return tuple(map(default, type_))
        case types.Array():
            return Elements(str(type_.dtype))
        case types.List() if type_.dtype == types.int64:
            return Iterated(of("weak", "int64"))
        case types.List():
            return Iterated(default(type_.dtype))
        case types.IteratorType():
            return Iterated(default(type_.yield_type))
        case types.RangeType():
            return Iterated(weak())
        case SequenceValue():
            return Iterated(default(type_.iterator_type.yield_type))
    return None


class Flow:
    """What is known of the variables of a function, in ``known`` by name; ``given`` says it of its parameters."""

    def __init__(self, func_ir: Any, typemap: Any, calltypes: Any, given: dict[str, Any]) -> None:
        self.func_ir, self.types, self.signatures, self.given = func_ir, typemap, calltypes, given
        self.known: dict[str, Any] = {}
        self.several = self._assigned_several_times()
        self.in_lists: dict[Any, frozenset[str]] = {}  # by type of a list, what other kinds are put into such
        self.weak_matters = False  # whether something would differ if a parameter were an integer of Python's
        if all(self._sweep(number) for number in range(_SWEEPS)):
            raise errors.NumbaTypeError("fedmpi: its integers depend on each other in too many ways: write it in parts")

    def _assigned_several_times(self) -> set[str]:
        """Return the names of variables that are one thing or another; what moves in a loop moves there."""
        assignments = [s for block in self.func_ir.blocks.values() for s in block.find_insts(ir.Assign)]
        counts = collections.Counter(s.target.name for s in assignments)
        phis = {s.target.name for s in assignments if isinstance(s.value, ir.Expr) and s.value.op == "phi"}
        return phis | {name for name, count in counts.items() if count > 1}

    def _sweep(self, number: int) -> bool:
        changed, before = False, dict(self.in_lists)
        for _, block in sorted(self.func_ir.blocks.items()):
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    changed |= self._assign(statement, widen=number > 2)
                elif isinstance(statement, ir.SetItem | ir.StaticSetItem):
                    self._put(self.types[statement.target.name], statement.value)
        return changed or before != self.in_lists

    def _assign(self, statement: Any, widen: bool) -> bool:
        name = statement.target.name
        new = self._value(statement.value, self.types[name])
        old = self.known.get(name, _UNSEEN)
        if new is _UNSEEN:
            return False
        if old is not _UNSEEN and name in self.several:
            new = PENDING if PENDING in (old, new) else joined(old, new, widen)
        self.known[name] = new
        return bool(new != old)

    def __getitem__(self, var: Any) -> Any:
        return self.known.get(var.name)

    def returned(self) -> Any:
        """Return what is known of the value that is returned, None for nothing."""
        values = [s.value for b in self.func_ir.blocks.values() for s in b.body if isinstance(s, ir.Return)]
        parts = [self[v] if self[v] is not None else default(self.types[v.name]) for v in values]
        return functools.reduce(lambda a, b: joined(a, b, False), parts) if parts else None

    def object(self, var: Any) -> Any:
        """Return the function or class that a variable stands for, None if that is not known."""
        key = getattr(self.types[var.name], "typing_key", None)
        return resolved(self.func_ir, var) if key is None else key

    def argument_types(self, call: Any) -> Any:
        """Return the types of a call's arguments, by which a helper's facts are found."""
        return tuple(map(types.unliteral, self.signatures[call].args))

    def unsettled(self, var: Any) -> bool:
        """Tell whether something is, or is made of, an array whose dtype is not NumPy's yet."""
        known = self[var]
        if isinstance(known, Elements):
            return bool(known != default(self.types[var.name]))
        return known is PENDING

    def _value(self, value: Any, type_: Any) -> Any:
        match value:
            case ir.Const() | ir.Global() | ir.FreeVar():
                return self._constant(value.value, type_)
            case ir.Arg():
                return self.given.get(value.name) or default(type_)
            case ir.Var():
                return self.known.get(value.name, _UNSEEN)
            case ir.Expr():
                if value.op != "phi" and any(v.name not in self.known for v in value.list_vars()):
                    return _UNSEEN
                return getattr(self, f"_{value.op}", self._other)(value, type_)
        return default(type_)

    def _constant(self, value: Any, type_: Any) -> Any:
        if isinstance(value, tuple) and isinstance(type_, types.BaseTuple):
            return tuple(self._constant(part, part_type) for part, part_type in zip(value, type_, strict=True))
        found = constant(value)
        return default(type_) if found is None else found

    def _other(self, expr: Any, type_: Any) -> Any:
        return PENDING if any(map(self.unsettled, expr.list_vars())) else default(type_)

    def _phi(self, expr: Any, type_: Any) -> Any:
        incoming = [self.known[v.name] for v in expr.incoming_values if getattr(v, "name", None) in self.known]
        if not incoming:
            return _UNSEEN
        return PENDING if PENDING in incoming else functools.reduce(lambda a, b: joined(a, b, False), incoming)

    def _cast(self, expr: Any, type_: Any) -> Any:
        return self[expr.value]

    _exhaust_iter = _cast

    def _build_list(self, expr: Any, type_: Any) -> Any:
        for item in expr.items:
            self._put(type_, item)
        return self._other(expr, type_)

    def _put(self, list_: Any, var: Any) -> None:
        """Note what kind of integer is put into a list whose type is that of another."""
        known = self[var]
        if isinstance(list_, types.List) and isinstance(known, Number) and isinstance(list_.dtype, types.Integer):
            other = known.kinds - {str(list_.dtype), "weak"}
            self.in_lists[list_] = self.in_lists.get(list_, frozenset()) | other

    def _of_list(self, each: Iterated, type_: Any) -> Iterated:
        """Return what a list gives: any of its type may have been put into it."""
        other = self.in_lists.get(type_, frozenset())
        return Iterated(Number(each.element.kinds | other)) if other and isinstance(each.element, Number) else each

    def _build_tuple(self, expr: Any, type_: Any) -> Any:
        return tuple(self[item] for item in expr.items)

    def _getattr(self, expr: Any, type_: Any) -> Any:
        known, owner = self[expr.value], self.types[expr.value.name]
        if isinstance(owner, types.Array) and expr.attr in _COUNTS:
            counts = _COUNTS[expr.attr]
            return weak(*SIZE) if counts is SIZE else tuple(weak(*SIZE) for _ in type_)
        if isinstance(known, tuple) and isinstance(owner, types.BaseNamedTuple) and expr.attr in owner.fields:
            return known[owner.fields.index(expr.attr)]
        return self._other(expr, type_)

    def _static_getitem(self, expr: Any, type_: Any) -> Any:
        known, index = self[expr.value], expr.index
        if isinstance(known, tuple):
            if isinstance(index, str):
                names = element_names(getattr(self.types[expr.value.name], "instance_class", ())) or ()
                index = names.index(index) if index in names else slice(None)
            return known[index] if isinstance(index, int | slice) else default(type_)
        return self._getitem(expr, type_)

    def _getitem(self, expr: Any, type_: Any) -> Any:
        match self[expr.value]:
            case tuple(parts) if parts and self.types[expr.value.name] and not isinstance(type_, types.BaseTuple):
                return functools.reduce(lambda a, b: joined(a, b, False), parts)
            case Iterated() as each if isinstance(self.types[expr.value.name], types.List):
                each = self._of_list(each, self.types[expr.value.name])
                return each.element if not isinstance(type_, types.List) else each
        return self._other(expr, type_)

    _typed_getitem = _getitem

    def _getiter(self, expr: Any, type_: Any) -> Any:
        return self._each(expr.value, type_)

    def _each(self, var: Any, type_: Any) -> Any:
        known = self[var]
        if isinstance(known, Iterated):
            return self._of_list(known, self.types[var.name])
        if isinstance(known, tuple) and known:
            return Iterated(functools.reduce(lambda a, b: joined(a, b, False), known))
        if self.unsettled(var):
            return PENDING
        inner = self.types[var.name]
        if isinstance(inner, types.Array):
            return Iterated(default(inner.dtype) if inner.ndim == 1 else Elements(str(inner.dtype)))
        return default(type_ if isinstance(type_, types.IteratorType) else inner)

    def _iternext(self, expr: Any, type_: Any) -> Any:
        known = self[expr.value]
        return (known.element, of("pybool", bounds=(0, 1))) if isinstance(known, Iterated) else known

    def _pair_first(self, expr: Any, type_: Any) -> Any:
        known = self[expr.value]
        return known[0] if isinstance(known, tuple) else known if known is PENDING else default(type_)

    def _pair_second(self, expr: Any, type_: Any) -> Any:
        return of("pybool", bounds=(0, 1))

    def _binop(self, expr: Any, type_: Any) -> Any:
        return self.binary(expr.fn, expr.lhs, expr.rhs, type_)

    def _inplace_binop(self, expr: Any, type_: Any) -> Any:
        if isinstance(self.types[expr.lhs.name], types.Array):
            return self[expr.lhs]
        return self.binary(expr.immutable_fn, expr.lhs, expr.rhs, type_)

    def binary(self, fn: Any, left_var: Any, right_var: Any, type_: Any) -> Any:
        """Return what is known of the result of an operator."""
        left, right = self[left_var], self[right_var]
        if PENDING in (left, right):
            return PENDING
        if isinstance(left, Elements | Number) and isinstance(right, Elements | Number):
            if isinstance(left, Number) and isinstance(right, Number):
                if fn in OPERATORS:
                    return self._numbers(fn, left, right)
            elif isinstance(type_, types.Array) and fn in ARITHMETIC:
                return Elements(self.elements(left, right))
        return default(type_)

    def elements(self, left: Elements | Number, right: Elements | Number) -> str:
        """Return the dtype of an operation with arrays, "" where it cannot be told."""
        sides = [{s.kind} if isinstance(s, Elements) else s.kinds for s in (left, right)]
        if {kind for side in sides for kind in side} & {"float", "pyfloat"} or not all(
            kind in DTYPES | WEAK for side in sides for kind in side
        ):
            return "float64"  # of floats any width will do
        found = {dtype_of(a, b) for a in sides[0] for b in sides[1]}
        return {"float": "float64"}.get(first := found.pop(), first) if len(found) == 1 else ""

    def _numbers(self, fn: Any, left: Number, right: Number) -> Number:
        kinds = dtypes_of(left, right)
        self.weak_matters |= fn in ARITHMETIC
        if fn in COMPARISONS:
            return Number(frozenset("pybool" if k in ("weak", "pyfloat") else "bool" for k in kinds), (0, 1))
        if fn is operator.truediv:
            return Number(frozenset("pyfloat" if k in ("weak", "pyfloat") else "float" for k in kinds))
        if fn in BITWISE and {left.kinds, right.kinds} == {frozenset({"pybool"})}:
            return of("pybool", bounds=(0, 1))
        bounds = compute(fn, left.bounds, right.bounds) if left.kinds & WEAK and right.kinds & WEAK else (None, None)
        low, high = bounds
        bounds = None if low is None or low < INT64.min else low, None if high is None or high > INT64.max else high
        small = any(np.iinfo(kind).bits < 64 for kind in kinds & INTEGERS)
        grows = fn in (*RING, operator.lshift, operator.pow)
        if fn is operator.floordiv:
            low, high = right.bounds
            grows = not (right.kinds <= WEAK and ((high is not None and high < -1) or (low is not None and low >= 0)))
        return Number(kinds, bounds if kinds & WEAK else (None, None), small and grows)

    def _unary(self, expr: Any, type_: Any) -> Any:
        known = self[expr.value]
        if not isinstance(known, Number):
            return known if isinstance(known, Elements) and expr.fn is not operator.not_ else self._other(expr, type_)
        self.weak_matters = True
        kinds = frozenset("weak" if kind == "pybool" else kind for kind in known.kinds)
        if expr.fn is operator.neg:
            low, high = known.bounds
            negated = None if high is None else -high, None if low is None else -low
            return Number(kinds, negated, any(np.iinfo(k).bits < 64 for k in kinds & INTEGERS))
        if expr.fn is operator.not_:
            return of("pybool", bounds=(0, 1))
        return Number(kinds, known.bounds if expr.fn is operator.pos else (None, None))
