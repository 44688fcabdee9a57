"""`python_computation`: any Python code, the same types at its edges."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

import fedmpi as fm

F32, I32 = np.float32, np.int32
VECTOR = fm.TensorType(F32, [None])
ODD = OrderedDict([("a b", F32), ("class", I32), ("count", VECTOR)])


class Pair(NamedTuple):
    left: object
    right: object


def test_forms():
    @fm.python_computation(result=F32)
    def nothing():
        return 2.5

    @fm.python_computation(F32, VECTOR, result=(VECTOR, F32))
    def two(x, y):
        assert type(x) is F32
        return [y * x, float(x)]

    inline = fm.python_computation(lambda s: s["a b"] + s["class"] * s.count.sum(), ODD, result=F32)

    class Holder:
        factor = 2

        def method(self, x):
            return x * self.factor

    assert nothing() == 2.5
    got = two(2.0, y=np.ones(2, F32))
    assert type(got) is tuple
    np.testing.assert_array_equal(got[0], [2, 2])
    assert type(got[1]) is F32
    assert inline({"class": 2, "count": np.ones(2, F32), "a b": 1.0}) == 5
    assert fm.python_computation(Holder().method, F32, result=F32)(3.0) == 6
    assert str(two.type_signature) == "(<x=float32,y=float32[?]> -> <float32[?],float32>)"


def test_result_is_required():
    with pytest.raises(
        TypeError, match=r"f: python_computation needs the type of its result: result=…\n  at test_python"
    ):

        @fm.python_computation(F32)
        def f(x):
            return x


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (np.float16, np.float16(1.5)),
        (np.str_, "Grüße"),
        (fm.TensorType(np.str_, [None]), np.array(["a", "bc"], dtype=object)),
        (fm.TensorType(np.float16, [2]), np.ones(2, np.float16)),
        (fm.TensorType(F32, None), np.ones((2, 3), F32)),
        (np.bool_, np.bool_(True)),
        (np.complex128, np.complex128(1j)),
    ],
)
def test_types_without_a_compiled_form(type_, value):
    got = fm.python_computation(lambda x: x, type_, result=type_)(value)
    assert type(got) is type(value)
    np.testing.assert_array_equal(got, value)


def test_containers_in_and_out():
    @fm.python_computation(ODD, result=fm.to_type(Pair([F32, I32], OrderedDict(k=VECTOR))))
    def packed(s):
        return Pair(right={"k": s.count}, left=(s["a b"], s["class"]))

    got = packed({"a b": 1.0, "class": 2, "count": np.ones(2, F32)})
    assert type(got) is Pair
    assert got.left == [1.0, 2]
    assert type(got.right) is OrderedDict


def test_sequences_are_lists_of_records():
    batch = OrderedDict(x=VECTOR, y=I32)

    @fm.python_computation(fm.SequenceType(batch), result=fm.SequenceType(batch))
    def doubled(batches):
        assert type(batches) is list
        assert all(b["x"] is b.x is b[0] for b in batches)
        return [{"y": b.y, "x": b.x * 2} for b in batches]

    got = doubled([{"x": np.ones(2, F32), "y": 3}, (np.zeros(1, F32), 4)])
    assert [type(b) for b in got] == [OrderedDict, OrderedDict]
    np.testing.assert_array_equal(got[0]["x"], [2, 2])
    assert doubled([]) == []


def test_results_are_checked():
    for returned, text in [
        (3, r"f: result: expected float32\[\?\], found int 3"),
        (None, r"f: result: expected float32\[\?\], found None"),
        (np.ones((2, 2)), r"expected float32\[\?\], found float64\[2,2\]"),
        (np.ones(2, int), r"expected float32\[\?\], found int64\[2\]"),
    ]:
        with pytest.raises(TypeError, match=text):
            fm.python_computation(_named(returned), F32, result=VECTOR)(1.0)


def _named(returned):
    def f(x):
        return returned

    return f


def test_arguments_are_read_only_and_results_are_copies():
    kept = np.ones(3, F32)

    @fm.python_computation(VECTOR, result=VECTOR)
    def write(x):
        x[0] = 2
        return x

    @fm.python_computation(VECTOR, result=VECTOR)
    def part(x):
        return x[1:]

    with pytest.raises(ValueError, match="read-only"):
        write(kept)
    assert np.all(kept == 1)
    got = part(kept)
    got[:] = 5
    assert np.all(kept == 1)
    assert kept.flags.writeable


def test_random_numbers_and_exceptions_are_the_users():
    assert fm.python_computation(lambda x: float(np.random.default_rng(0).normal()), F32, result=F32)(1.0) != 0

    def failing(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fm.python_computation(failing, F32, result=F32)(1.0)


def test_python_computations_call_computations():
    plus = fm.numba_computation(lambda x, y: OrderedDict(sum=x + y), F32, F32)

    @fm.python_computation(F32, result=F32)
    def f(x):
        return plus(x, x)["sum"]

    assert f(2.0) == 4
