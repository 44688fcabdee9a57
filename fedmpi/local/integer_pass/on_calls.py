"""What is known of what calls give: `integer_flow` with functions and methods."""

from __future__ import annotations

import functools
import operator
from typing import Any

import numpy as np
from numba import types

from fedmpi.local.integer_pass.flow import OPERATORS, PENDING, Flow, default
from fedmpi.local.integers.asked import called, found_of, sample
from fedmpi.local.integers.promotion import (
    DTYPES,
    INTEGERS,
    SIZE,
    WEAK,
    Elements,
    Iterated,
    Number,
    fits,
    joined,
    of,
    weak,
)

_BUILTINS = (int, bool, float, len, round, range, enumerate, zip, max, min, sum, abs)


class IntegerFlow(Flow):
    """What is known of the variables of a function, what calls give included."""

    def _call(self, expr: Any, type_: Any) -> Any:
        if expr.vararg is not None:
            return default(type_)
        owner, args = self.types[expr.func.name], [self[arg] for arg in expr.args]
        if isinstance(owner, types.BoundFunction):
            for arg in expr.args:
                self._put(owner.this, arg)
        if isinstance(owner, types.NumberClass) and isinstance(type_, types.Number):
            return self._converted(args, type_)
        if isinstance(owner, types.NamedTupleClass):
            named = {name: self[arg] for name, arg in expr.kws}
            return (*args, *(named[name] for name in owner.instance_class._fields[len(args) :]))
        if isinstance(owner, types.Dispatcher):
            if self.weak_arguments(expr, owner.dispatcher):
                return PENDING  # it will be another form of the helper
            facts = getattr(owner.dispatcher, "fedmpi_facts", {}).get(self.argument_types(expr))
            return default(type_) if facts is None else facts.returns
        obj = self.object(expr.func)
        if (gives := getattr(obj, "gives", None)) is not None:
            if gives == "wide":
                return self._numbers(getattr(operator, obj.op), *args)
            known = self._made(gives, args[0])
            return Elements(gives) if isinstance(type_, types.Array) and gives != "same" else known
        builtin = getattr(self, f"_{getattr(obj, '__name__', '')}_call", None) if obj in _BUILTINS else None
        if builtin is not None and not expr.kws:
            return builtin(expr, args, type_)
        if isinstance(getattr(obj, "__name__", None), str) and obj in OPERATORS and len(args) == 2:
            return self.binary(obj, expr.args[0], expr.args[1], type_)
        if any(map(self.unsettled, expr.list_vars())):
            return PENDING
        found = self.in_numpy(expr)
        return default(type_) if found is None else found

    def weak_arguments(self, expr: Any, dispatcher: Any) -> dict[str, Any]:
        """Return what a helper has to be told of its parameters, {} if its form knows it or it does not matter."""
        facts = getattr(dispatcher, "fedmpi_facts", {}).get(self.argument_types(expr))
        if facts is None or not facts.weak_matters or expr.vararg is not None:
            return {}
        names = dispatcher.py_func.__code__.co_varnames
        given = dict(zip(names, expr.args, strict=False)) | dict(expr.kws)
        known = {name: _plain(self[var]) for name, var in given.items()}
        weak = {n: k for n, k in known.items() if k is not None and k != default(self.types[given[n].name])}
        return {} if weak == dispatcher.fedmpi_weak else weak

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
            return Iterated(weak())
        bounds = [self._int_call(expr, [a], type_).bounds for a in args]
        start, stop = ((0, 0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        down = len(bounds) == 3 and (bounds[2][0] is None or bounds[2][0] < 0)
        lows, highs = (start[0], stop[0]), (start[1], stop[1])
        low = min(lows) if None not in lows else None
        high = max(highs) if None not in highs else None
        return Iterated(weak(low if down else start[0], high))

    def _enumerate_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = self._each(expr.args[0], type_)
        if not isinstance(each, Iterated):
            return each
        return Iterated((weak(*SIZE) if len(args) == 1 else weak(), each.element))

    def _zip_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = [self._each(arg, self.types[arg.name]) for arg in expr.args]
        if PENDING in each:
            return PENDING
        return (
            Iterated(tuple(e.element for e in each)) if all(isinstance(e, Iterated) for e in each) else default(type_)
        )

    def _max_call(self, expr: Any, args: Any, type_: Any) -> Any:
        parts = args
        if len(args) == 1:
            each = self._each(expr.args[0], type_)
            parts = [each.element] if isinstance(each, Iterated) else [each]
        if PENDING in parts:
            return PENDING
        found = functools.reduce(lambda a, b: joined(a, b, False), parts)
        return Number(found.kinds, found.bounds) if isinstance(found, Number) else default(type_)

    _min_call = _max_call

    def _sum_call(self, expr: Any, args: Any, type_: Any) -> Any:
        each = self._each(expr.args[0], type_) if len(args) == 1 else None
        if not isinstance(each, Iterated) or not isinstance(each.element, Number):
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
            (isinstance(i, Number) and i.integral) or (isinstance(i, Elements) and i.kind in DTYPES) for i in integers
        ):
            return None
        return found_of(called(obj, args, kws))


def _plain(known: Any) -> Any:
    """Return what a helper is told of an argument: bounds are left out, one form serves all."""
    if isinstance(known, Number):
        return Number(known.kinds)
    if isinstance(known, tuple):
        parts = tuple(map(_plain, known))
        return None if None in parts else parts
    return known if isinstance(known, Elements) else None
