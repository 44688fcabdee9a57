"""`numba_computation`: the forms of structs and results, dtypes, shapes, aliases, calls of computations."""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections import OrderedDict, namedtuple
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.comparing import difference

F32, F64, I32 = np.float32, np.float64, np.int32
VECTOR, MATRIX = fm.TensorType(F32, [None]), fm.TensorType(F32, [None, None])
BATCH = OrderedDict(x=fm.TensorType(F32, [None, 2]), y=fm.TensorType(I32, [None]))
ODD_NAMES = OrderedDict([("a b", F32), ("class", I32), ("count", I32), ("index", F32), ("_x", F32), ("0", F32)])


class Model(NamedTuple):
    weights: Any
    bias: Any


@dataclasses.dataclass
class Point:
    x: Any
    y: Any


Pair = namedtuple("Pair", "left right")
MODEL = OrderedDict(weights=(F32, [2, 3]), bias=(F32, [3]))
model = {"weights": np.arange(6, dtype=F32).reshape(2, 3), "bias": np.ones(3, F32)}


def same(got, want):
    assert difference(got, want) == ""


# --- decorator forms -------------------------------------------------------------------------------------------------


def test_decorator_forms():
    @fm.numba_computation
    def no_parameter():
        return 2.5

    @fm.numba_computation()
    def no_parameter_either():
        return {"a": 1}

    @fm.numba_computation
    def any_type(x):
        return x + 1

    inline = fm.numba_computation(lambda x, y: x * y, F32, F32)
    same(no_parameter(), F32(2.5))
    same(no_parameter_either(), {"a": I32(1)})
    assert str(no_parameter.type_signature) == "( -> float32)"
    same(any_type(F32(1.0)), F32(2.0))
    same(any_type(np.arange(3, dtype=I32)), np.arange(1, 4, dtype=I32))
    assert str(inline.type_signature) == "(<x=float32,y=float32> -> float32)"
    same(inline(2.0, y=4.0), F32(8.0))


def test_what_functions_are_taken():
    partial = fm.numba_computation(functools.partial(lambda x, y, z: x * y + z, 2.0, z=1.0), F32)
    same(partial(3.0), F32(7.0))
    jitted = fm.numba_computation(numba.njit(lambda x: x + 1), F32)
    same(jitted(3.0), F32(4.0))

    class Holder:
        def method(self, x):
            return x

    with pytest.raises(TypeError, match="method: a numba_computation is made of a plain function, found a method"):
        fm.numba_computation(Holder().method, F32)


@pytest.mark.parametrize("names", [("user", "coerce", "accept"), ("T", "_user", "K1"), ("t2", "progress", "a0")])
def test_parameters_may_have_any_name(names):
    scope: dict[str, Any] = {}
    exec(f"def body({', '.join(names)}):\n    return {names[0]} - {names[1]} * {names[2]}\n", scope)
    computation = fm.numba_computation(F32, F32, F32)(scope["body"])
    same(computation(5.0, 2.0, 3.0), F32(-1.0))
    same(computation(**dict(zip(reversed(names), (3.0, 2.0, 5.0), strict=True))), F32(-1.0))


# --- structs ---------------------------------------------------------------------------------------------------------


def test_struct_parameter_by_attribute_name_index_and_unpacking():
    @fm.numba_computation(BATCH)
    def all_ways(batch):
        x, _y = batch
        return batch.x.sum(), batch["x"].sum(), batch[0].sum(), x.sum(), len(batch), batch[-1][0]

    got = all_ways({"y": np.array([7], I32), "x": np.full((1, 2), 3, F32)})
    same(got, (F32(6), F32(6), F32(6), F32(6), I32(2), I32(7)))


def test_names_that_are_no_attributes():
    @fm.numba_computation(ODD_NAMES)
    def read(s):
        return s["a b"], s["class"], s["count"], s["index"], s["_x"], s["0"], s.count, s.index

    value = {"a b": 1.0, "class": 2, "count": 3, "index": 4.0, "_x": 5.0, "0": 6.0}
    same(read(value), (F32(1), I32(2), I32(3), F32(4), F32(5), F32(6), I32(3), F32(4)))
    same(fm.numba_computation(lambda s: s, ODD_NAMES)(value)["class"], I32(2))


def test_homogeneous_structs():
    @fm.numba_computation(OrderedDict([("a b", F32), ("index", F32), ("c", F32)]))
    def read(s):
        total = 0.0
        for value in s:
            total += value
        return s["a b"] - s["index"], s.c, total, len(s)

    same(read({"a b": 1.0, "index": 2.0, "c": 4.0}), (F32(-1), F32(4), F32(7), I32(3)))


NAME = "b"


def test_names_from_constants():
    @fm.numba_computation(OrderedDict(a=F32, b=I32))
    def read(s):
        local = "a"
        return s[local], {NAME: s[NAME]}

    same(read((1.0, 2)), (F32(1), {"b": I32(2)}))


def test_unnamed_empty_and_partly_named_structs():
    same(fm.numba_computation(lambda p: (p[1], p[0]), (F32, I32))((1.0, 2)), (I32(2), F32(1)))
    same(fm.numba_computation(lambda p: 1.5, fm.StructType([]))(()), F32(1.5))
    same(fm.numba_computation(lambda p, x: (x, p), fm.StructType([]), F32)((), 2.0), (F32(2), ()))
    partly = fm.to_type([("a", F32), I32])
    same(fm.numba_computation(lambda p: (p.a, p[1], p["a"]), partly)([1.0, 2]), (F32(1), I32(2), F32(1)))


def test_nested_structs_and_the_order_of_a_declared_struct():
    @fm.numba_computation(OrderedDict(m=MODEL, inner=(F32, OrderedDict(k=I32))))
    def nested(p):
        return p["m"].weights[1, 2] * p.inner[0], p.inner[1]["k"], p.m["bias"]

    same(nested({"m": model, "inner": (2.0, {"k": 3})}), (F32(10), I32(3), np.ones(3, F32)))
    by_name = fm.numba_computation(lambda a, b: (a, b), OrderedDict(b=F32, a=I32))
    same(by_name({"a": 1, "b": 2.0}), (I32(1), F32(2)))
    same(by_name(2.0, 1), (I32(1), F32(2)))


# --- results ---------------------------------------------------------------------------------------------------------

RESULTS = {
    "tuple": (lambda x: (x, x * 2), (F32(1), F32(2))),
    "array of rank 0": (lambda x: np.array(x), F32(1)),
    "dict": (lambda x: {"b": x, "a b": 1}, {"b": F32(1), "a b": I32(1)}),
    "dict call": (lambda x: dict(q=x), {"q": F32(1)}),  # noqa: C408
    "dict of pairs": (lambda x: dict([("a", x), ("b c", x)]), {"a": F32(1), "b c": F32(1)}),  # noqa: C406
    "OrderedDict": (lambda x: OrderedDict(b=x, a=2), OrderedDict(b=F32(1), a=I32(2))),
    "OrderedDict of pairs": (
        lambda x: OrderedDict([("b c", x), ("a", 2)]),
        OrderedDict([("b c", F32(1)), ("a", I32(2))]),
    ),
    "collections.OrderedDict": (lambda x: collections.OrderedDict(a=x), OrderedDict(a=F32(1))),
    "named tuple": (lambda x: Pair(x, right=True), Pair(F32(1), np.bool_(True))),
    "typed named tuple": (lambda x: Model(bias=x, weights=2), Model(I32(2), F32(1))),
    "nested": (
        lambda x: {"p": Pair(x, {"r": (x, OrderedDict(s=x))})},
        {"p": Pair(F32(1), {"r": (F32(1), OrderedDict(s=F32(1)))})},
    ),
}


@pytest.mark.parametrize("name", RESULTS)
def test_containers_of_results(name):
    function, expected = RESULTS[name]
    same(fm.numba_computation(function, F32)(1.0), expected)


def test_the_declared_struct_comes_back_in_its_container():
    point = fm.numba_computation(lambda p: p, fm.to_type(Point(F32, I32)))
    same(point(Point(1.0, 2)), Point(F32(1), I32(2)))
    pair = fm.numba_computation(lambda p: {"again": p, "first": p.left}, fm.to_type(Pair(F32, I32)))
    same(pair(Pair(1.0, 2)), {"again": Pair(F32(1), I32(2)), "first": F32(1)})
    whole = fm.numba_computation(lambda p: {"m": p.m, "all": p}, OrderedDict(m=MODEL, k=I32))
    got = whole({"m": model, "k": 3})
    assert type(got["m"]) is OrderedDict
    np.testing.assert_array_equal(got["all"]["m"]["weights"], model["weights"])
    same(fm.numba_computation(lambda p: p, [F32, I32], result=[F32, I32])((1.0, 2)), [F32(1), I32(2)])


def test_dict_literals_in_two_branches_and_in_variables():
    @fm.numba_computation(F32)
    def branches(x):
        if x > 0:
            return {"sign": 1, "size": x}
        return {"sign": -1, "size": -x}

    @fm.numba_computation(F32)
    def variable(x):
        if x > 0:  # noqa: SIM108
            made = {"a": x, "b": 1}
        else:
            made = {"a": -x, "b": 2}
        return made, made["a"] + made["b"]

    same(branches(2.0), {"sign": I32(1), "size": F32(2)})
    same(branches(-3.0), {"sign": I32(-1), "size": F32(3)})
    same(variable(-3.0), ({"a": F32(3), "b": I32(2)}, F32(5)))


def test_a_dict_binds_by_name_to_the_declared_result():
    @fm.numba_computation(F32, result=OrderedDict(b=F32, a=np.int64))
    def swapped(x):
        return {"a": 1, "b": x}

    same(swapped(5.0), OrderedDict(b=F32(5), a=np.int64(1)))
    with pytest.raises(TypeError, match=r"other: result: expected <b=float32,a=int32>, found <a=int\d*,c=float32>"):

        @fm.numba_computation(F32, result=OrderedDict(b=F32, a=I32))
        def other(x):
            return {"a": 1, "c": x}


def helper(x):
    return {"twice": twice(x), "one": 1}


def twice(x):
    return x * 2


def test_plain_helpers_and_inner_functions_are_compiled():
    @fm.numba_computation(F32)
    def with_inner(x):
        def inner(y):
            return {"a": y, "b": 2}

        return inner(x), (lambda z: z + 1)(x)

    same(fm.numba_computation(lambda x: helper(x), F32)(3.0), {"twice": F32(6), "one": I32(1)})
    same(with_inner(3.0), ({"a": F32(3), "b": I32(2)}, F32(4)))


def test_recursive_helper():
    def factorial(n):
        if n <= 1:
            return 1
        return n * factorial(n - 1)

    same(fm.numba_computation(lambda n: factorial(n), I32, result=I32)(5), I32(120))


def test_branches_with_other_dtypes_are_one_struct():
    @fm.numba_computation(VECTOR)
    def chosen(x):
        if x[0] > 0:
            return {"x": x, "n": 1.0}
        return {"x": x * 2, "n": 2}

    got = chosen(np.array([-1], F32))
    assert got["n"] == 2
    assert got["x"][0] == -2


# --- calls -----------------------------------------------------------------------------------------------------------


@fm.numba_computation(MODEL, F32)
def scaled(model, by):
    return OrderedDict(weights=model.weights * by, bias=model.bias + by)


@fm.numba_computation(fm.SequenceType(F32))
def total(values):
    result = 0.0
    for value in values:
        result += value
    return result


def test_computations_call_computations():
    @fm.numba_computation(MODEL)
    def by_keyword(m):
        return scaled(by=2.0, model=m)

    @fm.numba_computation(MODEL)
    def with_a_literal(m):
        first = scaled({"bias": m.bias, "weights": m.weights}, 2.0)
        return scaled(Model(first.weights, first["bias"]), 0.5)

    @fm.numba_computation(OrderedDict(s=fm.SequenceType(F32), k=F32))
    def with_a_sequence(p):
        return total(p.s) * p.k

    for computation in (scaled(model, 2.0), by_keyword(model)):
        np.testing.assert_array_equal(computation["weights"], model["weights"] * 2)
        np.testing.assert_array_equal(computation["bias"], np.full(3, 3, F32))
    np.testing.assert_array_equal(with_a_literal(model)["weights"], model["weights"])
    same(with_a_sequence({"s": [1.0, 2.0], "k": 3.0}), F32(9))


def test_defined_and_called_inside_a_federated_computation():
    @fm.federated_computation(fm.type_at_clients(F32), F32)
    def program(values, by):
        @fm.numba_computation(F32, F32)
        def multiplied(value, factor):
            return add_one(value) * factor

        @fm.federated_computation(F32)
        def inner(value):
            return multiplied(value, by)

        return fm.federated_map(inner, values)

    same(fm.ReferenceContext().invoke(program, ([1.0, 2.0], 10.0)), [F32(20), F32(30)])


@fm.numba_computation(F32)
def add_one(x):
    return x + 1


def test_several_lambdas_on_one_line():
    first, second = fm.numba_computation(lambda x: x + 1, F32), fm.numba_computation(lambda x: x + 2, F32)
    same((first(0.0), second(0.0)), (F32(1), F32(2)))


def test_defined_where_there_is_no_file():
    scope: dict[str, Any] = {"__name__": "__main__", "fm": fm, "np": np}
    text = (
        "K = 3\ndef helper(x):\n    return x * K\n@fm.numba_computation(np.float32)\ndef f(x):\n    return helper(x)\n"
    )
    exec(compile(text, "<ipython-input-1>", "exec"), scope)
    same(scope["f"](2.0), F32(6))
    with pytest.raises(TypeError, match="Numba knows no attribute 'nothing'"):
        exec(
            compile("fm.numba_computation(lambda x: x.nothing, np.float32, result=np.float32)", "<string>", "exec"),
            scope,
        )
