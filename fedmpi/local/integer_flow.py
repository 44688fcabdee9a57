"""What is known of the integers of a typed body: for each variable of Numba's intermediate code, its kind in NumPy.

Types are Numba's, which has one int64 for Python's integers and NumPy's and computes small ones in 64 bits.  What NumPy
would make of the same program is found by going through the statements until nothing changes.
"""

from __future__ import annotations

import functools
import operator
import warnings
from typing import Any

import numpy as np
from numba import types
from numba.core import ir

from fedmpi.local.in_place import resolved
from fedmpi.local.integer_rules import (
    INT64,
    INTEGERS,
    SIZE,
    WEAK,
    Each,
    Elements,
    Number,
    compute,
    constant,
    dtype_of,
    dtypes_of,
    fits,
    joined,
    of,
    weak,
)
from fedmpi.local.numba_types import SequenceValue
from fedmpi.local.records import element_names

COMPARISONS = (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
RING = (operator.add, operator.sub, operator.mul)  # right modulo 2 to the power of the bits, however wide the operands
BITWISE = (operator.and_, operator.or_, operator.xor)
ARITHMETIC = (*RING, *BITWISE, operator.floordiv, operator.mod, operator.pow, operator.lshift, operator.rshift)
PENDING = "made of an array whose dtype will change: known when types have been inferred again"
_UNSEEN = object()
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
            return Each(of("weak", "int64"))
        case types.List():
            return Each(default(type_.dtype))
        case types.IteratorType():
            return Each(default(type_.yield_type))
        case types.RangeType():
            return Each(weak())
        case SequenceValue():
            return Each(default(type_.iterator_type.yield_type))
    return None


class Flow:
    """What is known of the variables of a function, in ``known`` by name; ``given`` says it of its parameters."""

    def __init__(self, func_ir: Any, typemap: Any, calltypes: Any, given: dict[str, Any]) -> None:
        self.func_ir, self.types, self.signatures, self.given = func_ir, typemap, calltypes, given
        self.known: dict[str, Any] = {}
        self.weak_matters = False  # whether something would differ if a parameter were an integer of Python's
        sweeps = 0
        while self._sweep(sweeps):
            sweeps += 1

    def _sweep(self, number: int) -> bool:
        changed = False
        for _, block in sorted(self.func_ir.blocks.items()):
            for statement in block.body:
                if isinstance(statement, ir.Assign):
                    changed |= self._assign(statement, widen=number > 2)
        return changed

    def _assign(self, statement: Any, widen: bool) -> bool:
        name = statement.target.name
        new = self._value(statement.value, self.types[name])
        old = self.known.get(name, _UNSEEN)
        if new is _UNSEEN:
            return False
        if old is not _UNSEEN:
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

    # --- statements, by the name of the operation in Numba's intermediate code ---

    def _phi(self, expr: Any, type_: Any) -> Any:
        incoming = [self.known[v.name] for v in expr.incoming_values if getattr(v, "name", None) in self.known]
        if not incoming:
            return _UNSEEN
        return PENDING if PENDING in incoming else functools.reduce(lambda a, b: joined(a, b, False), incoming)

    def _cast(self, expr: Any, type_: Any) -> Any:
        return self[expr.value]

    _exhaust_iter = _cast

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
            case Each(element) if isinstance(self.types[expr.value.name], types.List):
                return element if not isinstance(type_, types.List) else Each(element)
        return self._other(expr, type_)

    _typed_getitem = _getitem

    def _getiter(self, expr: Any, type_: Any) -> Any:
        return self._each(expr.value, type_)

    def _each(self, var: Any, type_: Any) -> Any:
        known = self[var]
        if isinstance(known, Each):
            return known
        if isinstance(known, tuple) and known:
            return Each(functools.reduce(lambda a, b: joined(a, b, False), known))
        if self.unsettled(var):
            return PENDING
        inner = self.types[var.name]
        if isinstance(inner, types.Array):
            return Each(default(inner.dtype) if inner.ndim == 1 else Elements(str(inner.dtype)))
        return default(type_ if isinstance(type_, types.IteratorType) else inner)

    def _iternext(self, expr: Any, type_: Any) -> Any:
        known = self[expr.value]
        return (known.element, of("pybool", bounds=(0, 1))) if isinstance(known, Each) else known

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
                if fn in (*COMPARISONS, *ARITHMETIC, operator.truediv):
                    return self._numbers(fn, left, right)
            elif isinstance(type_, types.Array) and fn in ARITHMETIC:
                return Elements(self.elements(left, right))
        return default(type_)

    def elements(self, left: Elements | Number, right: Elements | Number) -> str:
        """Return the dtype of an operation with arrays, "" where it cannot be told."""
        sides = [{s.kind} if isinstance(s, Elements) else s.kinds for s in (left, right)]
        if {kind for side in sides for kind in side} & {"float", "pyfloat"} or not all(
            kind in INTEGERS | WEAK | {"bool"} for side in sides for kind in side
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

    # --- calls ---

    def _call(self, expr: Any, type_: Any) -> Any:
        if expr.vararg is not None:
            return default(type_)
        owner, args = self.types[expr.func.name], [self[arg] for arg in expr.args]
        if isinstance(owner, types.NumberClass) and isinstance(type_, types.Number):
            return self._converted(args, type_)
        if isinstance(owner, types.NamedTupleClass):
            named = {name: self[arg] for name, arg in expr.kws}
            return (*args, *(named[name] for name in owner.instance_class._fields[len(args) :]))
        if isinstance(owner, types.Dispatcher):
            facts = getattr(owner.dispatcher, "fedmpi_facts", {}).get(self.argument_types(expr))
            return default(type_) if facts is None else facts.returns
        obj = self.object(expr.func)
        if (gives := getattr(obj, "gives", None)) is not None:
            if gives == "wide":
                return self._numbers(_WRAPPING[obj.op], *args)
            known = self._made(gives, args[0])
            return Elements(gives) if isinstance(type_, types.Array) and gives != "same" else known
        builtin = getattr(self, f"_{getattr(obj, '__name__', '')}_call", None) if obj in _BUILTINS else None
        if builtin is not None and not expr.kws:
            return builtin(expr, args, type_)
        if isinstance(getattr(obj, "__name__", None), str) and obj in _OPERATORS and len(args) == 2:
            return self.binary(obj, expr.args[0], expr.args[1], type_)
        if any(map(self.unsettled, expr.list_vars())):
            return PENDING
        found = self.in_numpy(expr)
        return default(type_) if found is None else found

    def _converted(self, args: Any, type_: Any) -> Any:
        """Return what a class of NumPy's scalars gives; a constant keeps its bounds."""
        found = default(type_)
        known = args[0] if len(args) == 1 else None
        if isinstance(known, Number) and isinstance(found, Number) and found.strong and len(known.kinds) == 1:
            (kind,) = found.strong
            if not known.wide and known.integral and fits(known.bounds, kind):
                return Number(found.kinds, known.bounds)
        return found

    def _made(self, gives: str, first: Any) -> Any:
        """Return what one of `integer_operations` gives."""
        if gives == "same":
            return first
        if not gives.startswith("fitting "):
            return weak() if gives == "weak" else of(gives)
        limits, (low, high) = np.iinfo(gives.removeprefix("fitting ")), first.bounds
        low = int(limits.min) if low is None else max(low, int(limits.min))
        high = int(limits.max) if high is None else min(high, int(limits.max))
        return Number(first.kinds, (low, high))

    def _int_call(self, expr: Any, args: Any, type_: Any) -> Any:
        known = args[0] if len(args) == 1 else None
        if not isinstance(known, Number) or not known.integral:
            return weak()
        ranges = [(int(np.iinfo(kind).min), int(np.iinfo(kind).max)) for kind in known.strong]
        if known.kinds & {"bool"}:
            ranges.append((0, 1))
        alternatives = [weak(*r) for r in ranges] + [weak(*known.bounds)] * bool(known.kinds & WEAK)
        found = functools.reduce(lambda a, b: a.joined(b, False), alternatives)
        return found if fits(found.bounds, "int64") else weak(found.bounds[0])

    def _bool_call(self, expr: Any, args: Any, type_: Any) -> Any:
        return of("pybool", bounds=(0, 1))

    def _float_call(self, expr: Any, args: Any, type_: Any) -> Any:
        return of("pyfloat")

    def _len_call(self, expr: Any, args: Any, type_: Any) -> Any:
        return weak(*SIZE)

    def _round_call(self, expr: Any, args: Any, type_: Any) -> Any:
        return weak() if isinstance(type_, types.Integer) else default(type_)

    def _range_call(self, expr: Any, args: Any, type_: Any) -> Any:
        if not all(isinstance(a, Number) for a in args):
            return Each(weak())
        bounds = [self._int_call(expr, [a], type_).bounds for a in args]
        start, stop = ((0, 0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        down = len(bounds) == 3 and (bounds[2][0] is None or bounds[2][0] < 0)
        lows, highs = (start[0], stop[0]), (start[1], stop[1])
        low = min(lows) if None not in lows else None
        high = max(highs) if None not in highs else None
        return Each(weak(low if down else start[0], high))

    def _enumerate_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = self._each(expr.args[0], type_)
        if not isinstance(each, Each):
            return each
        return Each((weak(*SIZE) if len(args) == 1 else weak(), each.element))

    def _zip_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = [self._each(arg, self.types[arg.name]) for arg in expr.args]
        if PENDING in each:
            return PENDING
        return Each(tuple(e.element for e in each)) if all(isinstance(e, Each) for e in each) else default(type_)

    def _max_call(self, expr: Any, args: Any, type_: Any) -> Any:
        parts = args
        if len(args) == 1:
            each = self._each(expr.args[0], type_)
            parts = [each.element] if isinstance(each, Each) else [each]
        if PENDING in parts:
            return PENDING
        found = functools.reduce(lambda a, b: joined(a, b, False), parts)
        return Number(found.kinds, found.bounds) if isinstance(found, Number) else default(type_)

    _min_call = _max_call

    def _sum_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = self._each(expr.args[0], type_) if len(args) == 1 else None
        if not isinstance(each, Each) or not isinstance(each.element, Number):
            return PENDING if each is PENDING else default(type_)
        total = self._numbers(operator.add, each.element, each.element)
        return total.joined(weak(0, 0), False) if total.integral else default(type_)

    def _abs_call(self, expr: Any, args: Any, type_: Any) -> Any:
        known = args[0]
        if not isinstance(known, Number) or not known.integral:
            return self._other(expr, type_)
        kinds = frozenset("weak" if kind == "pybool" else kind for kind in known.kinds)
        bounds = (0, None) if None in known.bounds else (0, max(map(abs, known.bounds)))  # type: ignore[arg-type]
        return Number(kinds, bounds, any(np.iinfo(k).bits < 64 for k in kinds & INTEGERS))

    def in_numpy(self, expr: Any) -> Any:
        """Return what a function of NumPy or a method of an array gives, by trying it on small values; None if unknown.

        Only for arguments of which one is an integer.
        """
        obj, args = self.object(expr.func), [sample(self[arg], self.types[arg.name]) for arg in expr.args]
        kws = {name: sample(self[arg], self.types[arg.name]) for name, arg in expr.kws}
        integers = [self[arg] for arg in [*expr.args, *(arg for _, arg in expr.kws)]]
        owner = self.types[expr.func.name]
        if isinstance(owner, types.BoundFunction) and isinstance(owner.this, types.Array):
            getter = self.func_ir.get_definition(expr.func)
            this = sample(default(owner.this), owner.this)
            integers.append(default(owner.this))
            obj = None if this is None else getattr(this, getter.attr, None)
        elif not (getattr(obj, "__module__", None) or "numpy").startswith("numpy") or isinstance(obj, str):
            return None
        if obj is None or any(a is None for a in [*args, *kws.values()]):
            return None
        if not any(
            (isinstance(i, Number) and i.integral) or (isinstance(i, Elements) and i.kind in _DTYPES) for i in integers
        ):
            return None
        return _found(_called(obj, args, kws))


_WRAPPING = {"add": operator.add, "sub": operator.sub, "mul": operator.mul}
_BUILTINS = (int, bool, float, len, round, range, enumerate, zip, max, min, sum, abs)
_OPERATORS = (*COMPARISONS, *ARITHMETIC, operator.truediv)
_DTYPES = INTEGERS | {"bool"}


def _called(function: Any, args: Any, kws: Any) -> Any:
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            return function(*args, **kws)
    except Exception:  # such as an index outside of the small array
        return None


def _found(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_found, value))
    if isinstance(value, np.ndarray):
        return Elements(value.dtype.name)
    found = constant(value)
    return weak() if found is not None and "weak" in found.kinds else found


def sample(known: Any, type_: Any) -> Any:
    """Return a small value of which this is known; None if there is none."""
    match type_:
        case types.NumberClass():
            return getattr(np, f"{type_.instance_type}".replace("bool", "bool_"), None)
        case types.DType():
            return np.dtype(str(type_.dtype))
        case types.StringLiteral():
            return type_.literal_value
        case types.Array():
            kind = known.kind if isinstance(known, Elements) else str(type_.dtype)
            return np.ones((2,) * type_.ndim, kind) if kind in _DTYPES or "float" in kind else None
    match known:
        case Number(kinds) if kinds == {"weak"}:
            return known.bounds[0] if known.bounds[0] == known.bounds[1] is not None else 1
        case Number(kinds) if kinds == {"pybool"}:
            return True
        case Number(kinds) if len(kinds) == 1 and kinds <= _DTYPES:
            return np.dtype(next(iter(kinds))).type(1)
        case Number() if isinstance(type_, types.Float):
            return np.dtype(str(type_)).type(1)
        case tuple(parts) if isinstance(type_, types.BaseTuple):
            made = [sample(part, t) for part, t in zip(parts, type_, strict=True)]
            return None if any(m is None for m in made) else tuple(made)
        case Each(element) if isinstance(type_, types.List):
            made_one = sample(element, type_.dtype)
            return None if made_one is None else [made_one, made_one]
    return None
