"""Programs of ``federated_language``, each with the arguments of one call and what the result must be.

They are modelled on the package's own examples and tests, and on the tutorials.  Written in its API alone, but for the
local computations, for which it leaves the choice to a backend.
"""

import collections
import functools
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import attrs
import federated_language as fl
import ml_dtypes
import numpy as np

from fedmpi.interop import federated_language as bridge

F32, I32, OD = np.float32, np.int32, collections.OrderedDict
fc, numba, python = fl.federated_computation, bridge.numba_computation, bridge.python_computation


def at_clients(member, all_equal=None):
    return fl.FederatedType(member, fl.CLIENTS, all_equal)


def at_server(member):
    return fl.FederatedType(member, fl.SERVER)


@dataclass
class Case:
    computation: Any
    arguments: tuple
    expected: Any
    keywords: dict = field(default_factory=dict)


CASES: dict[str, Case] = {}


def add(cases, name, computation, *arguments, expected, **keywords):
    assert name not in cases
    cases[name] = Case(computation, arguments, expected, keywords)


case = functools.partial(add, CASES)


# The annotations are read by `federated_language`, which takes no texts: no `from __future__ import annotations` here.
class Foo(NamedTuple):
    a: int
    b: float


class Pair(NamedTuple):
    left: Any
    right: Any


@attrs.define
class Settings:
    rate: Any
    steps: Any


# --- local computations ---


@numba(I32)
def add_one(x):
    return x + 1


@numba(F32, F32)
def plus(x, y):
    return x + y


@numba(F32)
def add_half(x):
    return x + np.float32(0.5)


@numba(I32, I32)
def int_plus(x, y):
    return x + y


@python(None, np.int32)
def constant():
    return 1


@python([np.int32, np.float32], [np.int32, np.float32])
def both_plus_one(x, y):
    return [x + 1, y + 1.0]


case("python: no parameter", constant, expected=I32(1))
case("python: no parameters", python([], np.int32)(lambda: 1), expected=I32(1))
case("python: one parameter", python([np.int32], np.int32)(lambda x: x + 1), 1, expected=I32(2))
case("numba: one parameter", add_one, 1, expected=I32(2))
case("numba: no parameter", numba(lambda: np.float32(2.5)), expected=F32(2.5))
case("numba: by name", plus, y=1.0, x=2.0, expected=F32(3.0))
case("numba: one tuple", plus, (1.0, 2.0), expected=F32(3.0))
case("python: unnamed parameters", both_plus_one, 1, 2.0, expected=[I32(2), F32(3.0)])
case(
    "python: named parameters",
    python({"x": np.int32, "y": np.float32}, [np.int32, np.float32])(lambda x, y: [x + 1, y + 1.0]),
    1,
    y=2.0,
    expected=[I32(2), F32(3.0)],
)
case(
    "python: a list",
    python([[np.int32, np.float32]], [np.int32, np.float32])(lambda x: [x[0] + 1, x[1] + 1.0]),
    [1, 2.0],
    expected=[I32(2), F32(3.0)],
)
case(
    "python: a dict",
    python([[("a", I32), ("b", F32)]], [("a", I32), ("b", F32)])(lambda x: {"a": x["a"] + 1, "b": x["b"] + 1.0}),
    {"a": 1, "b": 2.0},
    expected=OD(a=I32(2), b=F32(3.0)),
)
case(
    "python: a named tuple",
    python([Foo], Foo)(lambda x: Foo(x.a + 1, x.b + 1.0)),
    Foo(1, 2.0),
    expected=Foo(np.int64(2), np.float64(3.0)),
)
case("python: keyword result", python(F32, F32, result=F32)(lambda x, y: x * y), 2.0, 4.0, expected=F32(8.0))

# --- constants, structs, functions ---

case("hello", fc(lambda: "Hello, World!"), expected=b"Hello, World!")
case("text", fc(lambda x: (x, "b"), np.str_), "Grüße", expected=("Grüße".encode(), b"b"))
case("texts", fc(lambda x: x, (np.str_, [2])), ["a", "b"], expected=np.array([b"a", b"b"], object))
case("integer", fc(lambda: 1), expected=I32(1))
case("large integer", fc(lambda: 2**40), expected=np.int64(2**40))
case("array", fc(lambda: np.array([1.5, 2.5])), expected=np.array([1.5, 2.5]))
case("bfloat16", fc(lambda x: x, ml_dtypes.bfloat16), 1.5, expected=ml_dtypes.bfloat16(1.5))
case("complex", fc(lambda x: (x, 1j), np.complex64), 2 + 1j, expected=(np.complex64(2 + 1j), np.complex128(1j)))
case("small dtypes", fc(lambda x: x, (np.bool_, np.uint8)), (True, 200), expected=(np.bool_(True), np.uint8(200)))
case("open shape", fc(lambda x: x, (I32, [None])), [1, 2], expected=np.array([1, 2], I32))
case("texts as a constant", fc(lambda: np.array([["a"], ["b"]])), expected=np.array([[b"a"], [b"b"]], object))
case("empty array", fc(lambda: np.zeros((2, 0), np.float16)), expected=np.zeros((2, 0), np.float16))
case("list of constants", fc(lambda: [1, 2.0, True]), expected=[I32(1), F32(2.0), np.bool_(True)])
case("dict", fc(lambda x: {"b": x, "a": 1}, F32), 2.0, expected={"b": F32(2.0), "a": I32(1)})
case("ordered dict", fc(lambda x: OD(A=x[1], B=x[0]), (I32, F32)), (1, 2.0), expected=OD(A=F32(2.0), B=I32(1)))
case("named tuple", fc(lambda x: Pair(x, [x]), I32), 1, expected=Pair(I32(1), [I32(1)]))
case(
    "attrs",
    fc(lambda x: Settings(x.steps, x.rate), Settings(F32, I32)),
    Settings(0.5, 3),
    expected=Settings(I32(3), F32(0.5)),
)
case("named pairs", fc(lambda x: x, [("a", I32), ("b", F32)]), (1, 2.0), expected=OD(a=I32(1), b=F32(2.0)))
case("empty struct", fc(lambda x: x, []), [], expected=[])
case("by index", fc(lambda x: x[0], [np.int32, np.float32]), [1, 2.0], expected=I32(1))
case("by name", fc(lambda x: x["a"], Foo), Foo(1, 2.0), expected=np.int64(1))
case("slice", fc(lambda x: x[::-1], (I32, F32)), (1, 2.0), expected=[F32(2.0), I32(1)])
case("unpacked", fc(lambda x: list(x), (I32, F32)), (1, 2.0), expected=[I32(1), F32(2.0)])
case("call", fc(lambda: constant()), expected=I32(1))
case("calls", fc(lambda x, y: plus(y=plus(x, y), x=x), F32, F32), 1.0, y=2.0, expected=F32(4.0))
case("struct for a call", fc(lambda p: plus(p), (F32, F32)), (1.0, 2.0), expected=F32(3.0))
case(
    "function argument",
    fc(lambda f, x: f(f(x)), fl.FunctionType(np.int32, np.int32), np.int32),
    add_one,
    5,
    expected=I32(7),
)
FUNCTION = fl.FunctionType(F32, F32)
case(
    "struct of functions",
    fc(lambda fs, x: fs.outer(fs.inner[0](x)), OD(outer=FUNCTION, inner=[FUNCTION]), F32),
    {"outer": add_half, "inner": [fc(lambda x: plus(x, x), F32)]},
    1.0,
    expected=F32(2.5),
)
case("polymorphic", fc(lambda x: (x, x)), 1.5, expected=(F32(1.5), F32(1.5)))
case("polymorphic by name", fc(lambda x, y: [y, x]), 1, y=True, expected=[np.bool_(True), I32(1)])
case(
    "capture",
    fc(lambda x, lr: fc(lambda v: (v, lr), F32)(x), F32, F32),
    1.0,
    2.0,
    expected=(F32(1.0), F32(2.0)),
)
case(
    "returned function",
    fc(lambda a, b: fc(lambda: fc(lambda x: plus(x, b), F32))()(a), F32, F32),
    1.0,
    2.0,
    expected=F32(3.0),
)
case(
    "one name in two bodies",  # both parameters are called lambda_arg in the tree
    fc(lambda x: fc(lambda x: fc(lambda x: x[1], (F32, I32))((1.0, x)), I32)(x), I32),
    3,
    expected=I32(3),
)

# --- sequences ---

INTS = fl.SequenceType(I32)
EXAMPLES = fl.SequenceType([("A", I32), ("B", I32)])


@numba(F32, F32)
def count_large(count, x):
    return count + np.float32(x > 0.5)


@numba((I32, I32), I32)
def sum_and_product(state, x):
    return state[0] + x, state[1] * x


@numba([("A", I32), ("B", I32)])
def product(example):
    return example.A * example.B


@fc(INTS, I32)
def squares_from(values, origin):
    @python(I32, I32, result=I32)
    def square_of_difference(a, b):
        return (a - b) ** 2

    captured = fc(lambda v: square_of_difference(origin, v), I32)
    return fl.sequence_sum(fl.sequence_map(captured, values))


case("sequence sum", fc(lambda s: fl.sequence_sum(s), INTS), [1, 2, 3], expected=I32(6))
case("sum of an empty sequence", fc(lambda s: fl.sequence_sum(s), INTS), [], expected=I32(0))
case(
    "sequence sum of pairs",
    fc(lambda s: fl.sequence_sum(s), fl.SequenceType((I32, I32))),
    [[1, 2], [3, 4], [5, 6]],
    expected=(I32(9), I32(12)),
)
case(
    "sequence map",
    fc(lambda s: fl.sequence_map(add_one, s), INTS),
    [1, 10, 3],
    expected=[I32(2), I32(11), I32(4)],
)
case("sequence reduce", fc(lambda s: fl.sequence_reduce(s, 0, int_plus), INTS), [1, 2, 3], expected=I32(6))
case(
    "count of a reduce",
    fc(lambda s: fl.sequence_reduce(s, 0.0, count_large), fl.SequenceType(F32)),
    [0.1, 0.6, 0.2, 0.4, 0.8],
    expected=F32(2.0),
)
case(
    "reduce to a pair",
    fc(lambda s: fl.sequence_reduce(s, (0, 1), sum_and_product), INTS),
    [1, 2, 3, 4, 5],
    expected=(I32(15), I32(120)),
)
case("captured in a map", squares_from, [11, 8, 13], 10, expected=I32(14))
case(
    "sum of products",
    fc(lambda s: fl.sequence_sum(fl.sequence_map(product, s)), EXAMPLES),
    [{"A": 2, "B": 3}, {"A": 4, "B": 5}],
    expected=I32(26),
)
case("a sequence", fc(lambda s: s, EXAMPLES), [(1, 2)], expected=[OD(A=I32(1), B=I32(2))])
case(
    "mapped to structs",
    fc(lambda s: fl.sequence_map(fc(lambda x: OD(twice=x, text="a"), I32), s), INTS),
    [5],
    expected=[OD(twice=I32(5), text=b"a")],
)
