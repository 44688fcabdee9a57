"""Parameters and elements may have any name that Python allows; a body may call itself."""

from __future__ import annotations

import functools
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest

import fedmpi as fm

f32: Any = np.float32
i32: Any = np.int32
WORDS = """
_ __ ___ _a __b ___c ____d progress client a0 t1 e1 K1 T1 L1 R1 Record coerce accept result own typed float64 np len
range self cls fn arg value match case type print größe __class__ __name__ _given0 _keyword_x _user exec zero where
"""
NAMES = WORDS.split()


def function(text, name):
    scope: dict[str, Any] = {}
    exec(compile(text, "names.py", "exec"), scope)
    return scope[name]


@pytest.mark.parametrize("decorator", ["numba_computation", "python_computation", "federated_computation"])
def test_parameters_of_any_name(decorator):
    words = [*NAMES[::4], "self"] if "numba" in decorator else NAMES  # what is compiled takes time
    for name in words:
        plain = function(f"def plain({name}, other): return {name} - other", "plain")
        result = {"result": f32} if decorator == "python_computation" else {}
        made = getattr(fm, decorator)(plain, f32, f32, **result)
        assert made(3.0, 2.0) == made(**{name: 3.0, "other": 2.0}) == 1.0, name


def test_many_underscores_at_once_in_each_kind_of_caller():
    body = fm.numba_computation(lambda _a, __b, ___c: _a + __b * ___c, f32, f32, f32)
    assert body(1.0, 2.0, 3.0) == body(___c=3.0, _a=1.0, __b=2.0) == 7.0
    given = fm.numba_computation(functools.partial(lambda _, __, ___: _ - __ * ___, f32(1), ___=f32(3)), f32)
    assert given(2.0) == -5.0
    caller = fm.numba_computation(lambda _x: body(_a=_x, __b=_x, ___c=_x), f32)
    assert caller(2.0) == 6.0
    step = fm.numba_computation(lambda _, __: _ + __, f32, f32)
    fold = fm.federated_computation(lambda q: fm.sequence_reduce(q, 0.0, step), fm.SequenceType(f32))
    total = fm.federated_computation(
        lambda x: fm.federated_sum(fm.federated_map(fold, x)), fm.type_at_clients(fm.SequenceType(f32))
    )
    assert total([[1.0, 2.0], [3.0]] * 60) == 360.0


ELEMENTS = ["_x", "__x", "count", "index", "element0_", "element_names", "container", "class", "", "0", "a b", "keys"]


@pytest.mark.parametrize("name", ELEMENTS)
def test_elements_of_any_name(name):
    type_ = fm.to_type(OrderedDict([(name, f32), ("element1_", f32)]))
    value = OrderedDict([(name, 1.0), ("element1_", 2.0)])
    bodies = [lambda x: x[name] + x["element1_"] * x.element1_]
    if name.isidentifier() and name != "class":
        bodies.append(function(f"def body(x): return x.{name} + x.element1_ * x[1]", "body"))
    for body in bodies:
        assert fm.federated_computation(body, type_)(value) == 5.0
        assert fm.python_computation(body, type_, result=f32)(value) == 5.0
        assert fm.numba_computation(body, type_)(value) == 5.0
    assert fm.numba_computation(lambda x: {name: x[0], "element1_": x[1]}, type_)(value) == value
    assert fm.python_computation(lambda x: x, type_, result=type_)(value) == value


def factorial(x):
    if x <= 1:
        return f32(1)
    return f32(x * factorial(x - f32(1)))


def even(n):
    return True if n == 0 else odd(n - i32(1))


def odd(n):
    return False if n == 0 else even(n - i32(1))


def power(base, n):
    return f32(1) if n <= 0 else f32(base * power(base, n - i32(1)))


def test_a_body_that_calls_itself():
    made = fm.numba_computation(factorial, f32)
    assert made(5.0) == 120.0
    assert fm.numba_computation(even, i32, result=np.bool_)(5) == np.False_
    assert fm.numba_computation(functools.partial(power, f32(3)), i32)(4) == 81.0
    summed = fm.federated_computation(lambda x: fm.federated_sum(fm.federated_map(made, x)), fm.type_at_clients(f32))
    assert summed([3.0, 4.0, 5.0] * 50) == 7500.0
    with fm.debug():
        assert made(5.0) == 120.0


def test_a_body_that_calls_itself_by_its_decorated_name():
    for n in (10, 11):  # the second time, the name stands for the first computation
        text = f"""
import numpy as np
import fedmpi as fm
@fm.numba_computation(np.int32, result=np.int32)
def fibonacci(n):
    return n if n < 2 else np.int32(fibonacci(n - 1) + fibonacci(n - 2) + {n - 10})
"""
        scope = {"fibonacci": fm.numba_computation(lambda n: n * 0, i32)} if n == 11 else {}
        exec(compile(text, "fibonacci.py", "exec"), scope)
        want = [0, 1]
        while len(want) < 11:
            want.append(want[-1] + want[-2] + n - 10)
        assert scope["fibonacci"](10) == want[10]

    @fm.numba_computation(i32, result=i32)
    def inner(n):
        return i32(1) if n <= 1 else i32(n * inner(n - i32(1)))

    assert inner(5) == math.factorial(5)


def test_a_recursion_without_an_end():
    def endless(x):
        return endless(x) + f32(1)

    with pytest.raises(TypeError, match=r"^endless: Numba cannot compile this: the recursion has no end that"):
        fm.numba_computation(endless, f32, result=f32)
