"""More programs like those of `tests.interop.programs`: those with placements."""

import functools
from typing import NamedTuple

import federated_language as fl
import numpy as np

from tests.interop.programs import F32, I32, OD, add, add_one, at_clients, at_server, fc, numba, plus, python

CASES: dict = {}
case = functools.partial(add, CASES)
SEQUENCE = fl.SequenceType(F32)


def of(operator, *types):
    """Return the computation that applies an operator to its parameter."""
    return fc(lambda x: operator(x), *types)


# --- one operator each ---

case("mean", of(fl.federated_mean, at_clients(F32)), [68.5, 70.3, 69.8], expected=F32(69.53333))
case("sum", of(fl.federated_sum, at_clients(I32)), [1, 2, 3], expected=I32(6))
case("sum of none", of(fl.federated_sum, at_clients(I32)), [], expected=I32(0))
case("min", of(fl.federated_min, at_clients(I32)), [3, 1, 2], expected=I32(1))
case("max", of(fl.federated_max, at_clients(I32)), [1, 3, 2], expected=I32(3))
case(
    "min of a list",
    of(fl.federated_min, at_clients([I32, (F32, [2])])),
    [[2, [1.0, 5.0]], [7, [4.0, 0.0]]],
    expected=[I32(2), np.array([1.0, 0.0], F32)],
)
case("broadcast", of(fl.federated_broadcast, at_server(I32)), 1, expected=I32(1))
case("map", fc(lambda x: fl.federated_map(add_one, x), at_clients(I32)), [1, 2, 3], expected=[I32(2), I32(3), I32(4)])
case("map of none", fc(lambda x: fl.federated_map(add_one, x), at_clients(I32)), [], expected=[])
case("map at the server", fc(lambda x: fl.federated_map(add_one, x), at_server(I32)), 5, expected=I32(6))
case(
    "map of an equal value",
    fc(lambda x, y: fl.federated_map(add_one, x), at_clients(I32, True), at_clients(I32)),
    5,
    [0, 0],
    expected=[I32(6), I32(6)],
)
case(
    "weighted mean",
    fc(lambda x, w: fl.federated_mean(x, w), at_clients(F32), at_clients(I32)),
    [5.0, 2.0, 3.0],
    [10, 20, 30],
    expected=F32(3.0),
)
case(
    "mean of a struct",
    of(fl.federated_mean, at_clients(OD(a=F32, b=(F32, [2])))),
    [OD(a=1.0, b=[1.0, 2.0]), OD(b=[3.0, 4.0], a=3.0)],
    expected=OD(a=F32(2.0), b=np.array([2.0, 3.0], F32)),
)
case("value at the clients", fc(lambda: fl.federated_value([1, 2], fl.CLIENTS)), expected=[I32(1), I32(2)])
case("value at the server", fc(lambda: fl.federated_value([1, 2], fl.SERVER)), expected=[I32(1), I32(2)])
case("text at the server", fc(lambda: fl.federated_value("a", fl.SERVER)), expected=b"a")
case("texts at the clients", of(lambda x: x, at_clients(np.str_)), ["a", "ü"], expected=[b"a", "ü".encode()])
case(
    "eval at the server",
    fc(lambda: fl.federated_eval(python(None, [I32, I32])(lambda: [1, 2]), fl.SERVER)),
    expected=[I32(1), I32(2)],
)
case(
    "eval at the clients",
    fc(lambda x: (x, fl.federated_eval(numba(lambda: np.float32(0.5)), fl.CLIENTS)), at_clients(I32)),
    [7, 8],
    expected=([I32(7), I32(8)], [F32(0.5), F32(0.5)]),
)
case(
    "zip",
    of(fl.federated_zip, [at_clients(I32), at_clients(I32)]),
    [[1, 2, 3], [4, 5, 6]],
    expected=[[I32(1), I32(4)], [I32(2), I32(5)], [I32(3), I32(6)]],
)
case(
    "zip at the server",
    of(fl.federated_zip, (at_server((I32, [2])), [at_server(F32)])),
    ([1, 2], [3.0]),
    expected=(np.array([1, 2], I32), [F32(3.0)]),
)
case(
    "zip with names",
    fc(lambda x, y: fl.federated_zip(OD(b=x, a=y)), at_clients(I32), at_clients(I32)),
    [1, 2],
    [3, 4],
    expected=[OD(b=I32(1), a=I32(3)), OD(b=I32(2), a=I32(4))],
)
case(
    "zip of a nest",
    fc(lambda x, y: fl.federated_zip((x, {"y": [y, x]})), at_clients(I32), at_clients(F32)),
    [1],
    [2.0],
    expected=[(I32(1), {"y": [F32(2.0), I32(1)]})],
)
case(
    "zip with a broadcast",
    fc(lambda x, y: fl.federated_zip([x, fl.federated_broadcast(y)]), at_clients(I32), at_server(I32)),
    [1, 2, 3],
    10,
    expected=[[I32(1), I32(10)], [I32(2), I32(10)], [I32(3), I32(10)]],
)


class Total(NamedTuple):
    sum: float
    count: int


@python(None, Total)
def no_total():
    return Total(sum=0.0, count=0)


@python([Total, np.float32], Total)
def accumulate(total, value):
    return Total(sum=total.sum + value, count=total.count + 1)


@python([Total, Total], Total)
def merge(a, b):
    return Total(sum=a.sum + b.sum, count=a.count + b.count)


@python([Total], np.float32)
def report(total):
    return total.sum / total.count


@numba([("sum", F32), ("n", F32)], F32)
def numba_accumulate(state, value):
    return {"sum": state.sum + value, "n": state.n + np.float32(1.0)}


@numba([("sum", F32), ("n", F32)], [("sum", F32), ("n", F32)])
def numba_merge(a, b):
    return {"sum": a.sum + b.sum, "n": a.n + b.n}


@numba([("sum", F32), ("n", F32)])
def numba_report(state):
    return state.sum / state.n


case(
    "aggregate",
    fc(lambda x: fl.federated_aggregate(x, no_total(), accumulate, merge, report), at_clients(F32)),
    [1.0, 2.0, 3.0],
    expected=F32(2.0),
)
case(
    "compiled aggregate",
    fc(
        lambda x: fl.federated_aggregate(x, OD(sum=0.0, n=0.0), numba_accumulate, numba_merge, numba_report),
        at_clients(F32),
    ),
    [float(n) for n in range(1, 8)],
    expected=F32(4.0),
)


@python([(F32, [4]), I32], F32)
def pick(table, key):
    return table[key]


def selection(select):
    types = at_clients((I32, [2])), at_server(I32), at_server((F32, [4]))
    return fc(lambda keys, most, table: select(keys, most, table, pick), *types)


for select in (fl.federated_select, fl.federated_secure_select):
    case(
        select.__name__,
        selection(select),
        [[0, 3], [3, 1]],
        4,
        [0.5, 1.5, 2.5, 3.5],
        expected=[[F32(0.5), F32(3.5)], [F32(3.5), F32(1.5)]],
    )
case("secure sum", fc(lambda x: fl.federated_secure_sum(x, 10), at_clients(I32)), [1, 10, 0], expected=I32(11))
case(
    "secure sum of a struct",
    fc(lambda x: fl.federated_secure_sum(x, OD(a=5, b=100)), at_clients(OD(a=I32, b=(np.int64, [2])))),
    [OD(a=1, b=[3, 4]), OD(a=5, b=[100, 0])],
    expected=OD(a=I32(6), b=np.array([103, 4])),
)
case(
    "secure sum of bits",
    fc(lambda x: fl.federated_secure_sum_bitwidth(x, 3), at_clients((I32, I32))),
    [(1, 7), (0, 3)],
    expected=(I32(1), I32(10)),
)

case(
    "eval of what is captured",
    fc(lambda x, y: fl.federated_eval(fc(lambda: plus(y, y)), fl.CLIENTS), at_clients(I32), F32),
    [1, 2],
    3.0,
    expected=[F32(6.0), F32(6.0)],
)
case(
    "aggregate with what is captured",
    fc(
        lambda x, by: fl.federated_aggregate(
            x, 0.0, fc(lambda a, b: plus(a, plus(b, by)), F32, F32), plus, fc(lambda r: (r, by), F32)
        ),
        at_clients(F32),
        F32,
    ),
    [1.0, 2.0],
    10.0,
    expected=(F32(23.0), F32(10.0)),
)

# --- parts of placed structs ---

AB = OD(a=I32, b=F32)
case("element at the clients", fc(lambda x: x.a, at_clients(AB)), [(1, 2.0), (3, 4.0)], expected=[I32(1), I32(3)])
case("element at the server", fc(lambda x: x["b"], at_server(AB)), (1, 2.0), expected=F32(2.0))
case("element of a broadcast", fc(lambda x: fl.federated_broadcast(x)[0], at_server(AB)), (1, 2.0), expected=I32(1))
case(
    "slice of a broadcast",
    fc(lambda x: fl.federated_broadcast(x)[::-1], at_server(AB)),
    (1, 2.0),
    expected=OD(b=F32(2.0), a=I32(1)),
)
case(
    "slice at the clients",
    fc(lambda x: x[1:], at_clients((I32, F32, I32))),
    [(1, 2.0, 3)],
    expected=[(F32(2.0), I32(3))],
)
case("sum of an element", fc(lambda x: fl.federated_sum(x.a), at_clients(AB)), [(1, 2.0), (3, 4.0)], expected=I32(4))
case(
    "parts in turn",
    fc(lambda x: [fl.federated_sum(part) for part in x], at_clients((I32, F32))),
    [(1, 2.0), (3, 4.0)],
    expected=[I32(4), F32(6.0)],
)
case(
    "an element of an element",
    fc(lambda x: fl.federated_mean(x.inner[1]), at_clients([("inner", (I32, F32)), ("rest", I32)])),
    [((1, 2.0), 0), ((3, 4.0), 0)],
    expected=F32(3.0),
)
