"""Programs that many tests run: each with arguments, and what NumPy or arithmetic says the result is."""

from __future__ import annotations

import collections
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

import fedmpi as fm
from fedmpi.local.columns.comparing import as_numbers, difference, to_the_bit

F32, I32 = np.float32, np.int32
AT_CLIENTS, AT_SERVER = fm.type_at_clients, fm.type_at_server


@dataclass
class Case:
    """A computation and the arguments of one call; ``expected`` is None where the reference evaluator alone decides."""

    computation: Any
    arguments: tuple = ()
    expected: Any = None
    keywords: dict = field(default_factory=dict)


class Pair(NamedTuple):
    left: Any
    right: Any


@fm.numba_computation(F32)
def half(x):
    return x / 2


@fm.numba_computation(F32, F32)
def plus(x, y):
    return x + y


@fm.numba_computation(fm.SequenceType(F32))
def local_mean(values):
    total, count = 0.0, 0
    for value in values:
        total += value
        count += 1
    return np.float32(total / count) if count else np.float32(0.0)


@fm.numba_computation(fm.to_type((F32, [None])), result=(F32, [None]))
def doubled(values):
    return values * 2


@fm.python_computation(F32, result=F32)
def as_text_and_back(x):
    return float(str(float(x)))


@fm.federated_computation(AT_CLIENTS(F32))
def mean_temperature(temperatures):
    return fm.federated_mean(temperatures)


@fm.federated_computation(AT_CLIENTS(F32), AT_CLIENTS(I32))
def weighted(values, counts):
    return fm.federated_mean(values, counts)


@fm.federated_computation(AT_CLIENTS(fm.SequenceType(F32)))
def mean_of_means(readings):
    return fm.federated_mean(fm.federated_map(local_mean, readings))


@fm.federated_computation(AT_CLIENTS(F32), AT_SERVER(F32))
def above(values, threshold):
    @fm.federated_computation(F32, F32)
    def difference(value, limit):
        return value - limit

    return fm.federated_map(difference, (values, fm.federated_broadcast(threshold)))


@fm.federated_computation(AT_CLIENTS((F32, F32)))
def pairs(values):
    return fm.federated_sum(values), fm.federated_mean(values[0])


@fm.federated_computation(AT_CLIENTS(F32), F32)
def shifted(values, by):
    @fm.federated_computation(F32)
    def shift(value):
        return plus(value, by)

    return fm.federated_map(shift, values)


@fm.federated_computation(AT_CLIENTS(I32))
def total(values):
    return fm.federated_sum(values)


@fm.federated_computation(AT_SERVER(F32), AT_CLIENTS(F32))
def two_trips(start, values):
    """Down, up, down, up: the second broadcast sends what the first reduction brought."""
    first = fm.federated_mean(fm.federated_map(plus, (values, fm.federated_broadcast(start))))
    second = fm.federated_map(plus, (values, fm.federated_broadcast(fm.federated_map(half, first))))
    return first, fm.federated_mean(second)


@fm.federated_computation(AT_CLIENTS((F32, [None])))
def mean_of_vectors(values):
    return fm.federated_mean(fm.federated_map(doubled, values))


@fm.federated_computation(AT_CLIENTS(F32))
def interpreted(values):
    return fm.federated_mean(fm.federated_map(as_text_and_back, values))


@fm.federated_computation(AT_CLIENTS(collections.OrderedDict(a=F32, b=(F32, [2]))))
def structs(values):
    return collections.OrderedDict(
        mean=fm.federated_mean(values), first=values.a, zipped=fm.federated_zip((values.b, values.a))
    )


@fm.federated_computation(AT_SERVER(F32))
def everywhere(x):
    return fm.federated_broadcast(x)


@fm.federated_computation(fm.FunctionType(F32, F32), AT_CLIENTS(F32))
def mapped_by(function, values):
    return fm.federated_map(function, values)


@fm.federated_computation(AT_CLIENTS(fm.SequenceType(F32)), AT_CLIENTS(F32))
def reduced(values, zeros):
    return fm.sequence_reduce(values, zeros, plus)


@fm.federated_computation(AT_CLIENTS(F32))
def each(values):
    return values


@fm.federated_computation(AT_SERVER(F32), AT_CLIENTS(F32))
def for_each(x, values):
    """A broadcast is equal everywhere, but the function that it goes through says that it returns one for each."""
    return each(fm.federated_broadcast(x)), fm.federated_sum(each(fm.federated_broadcast(x))), values


@fm.federated_computation(AT_CLIENTS(np.str_))
def echo(texts):
    return texts


@fm.federated_computation(AT_CLIENTS(np.complex64))
def complex_mean(values):
    return fm.federated_mean(values)


CASES = {
    "mean": Case(mean_temperature, ([68.5, 70.3, 69.8],), F32(69.53333)),
    "mean of one": Case(mean_temperature, ([68.5],), F32(68.5)),
    "weighted": Case(weighted, ([5.0, 2.0, 3.0], [10, 20, 30]), F32(3.0)),
    "zero weights": Case(weighted, ([5.0, 2.0], [0, 0]), F32(np.nan)),
    "a weight of zero": Case(weighted, ([5.0, float("nan"), 2.0], [1, 0, 1]), F32(3.5)),
    "infinity": Case(mean_temperature, ([1.0, float("inf")],), F32(np.inf)),
    "infinities": Case(mean_temperature, ([float("-inf"), float("inf")],), F32(np.nan)),
    "nan": Case(mean_temperature, ([1.0, float("nan"), 3.0],), F32(np.nan)),
    "cancellation": Case(mean_temperature, ([1e30, 3.0, -1e30],), F32(1.0)),
    "tails": Case(mean_temperature, ([1e-30, 1e3, -1e3, 3e-30],), F32(1e-30)),
    "negative zero": Case(mean_temperature, ([-0.0, -0.0],), F32(0.0)),
    "sequences": Case(mean_of_means, ([[68.0, 70.0], [71.0], [68.0, 72.0, 70.0]],), F32(70.0)),
    "empty sequences": Case(mean_of_means, ([[], [3.0], []],), F32(1.0)),
    "threshold": Case(above, ([68.0, 70.0, 71.5], 70.0), [F32(-2.0), F32(0.0), F32(1.5)]),
    "pairs": Case(pairs, ([(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)],), ((F32(9.0), F32(12.0)), F32(3.0))),
    "capture": Case(shifted, ([1.0, 2.0], 10.0), [F32(11.0), F32(12.0)]),
    "integers": Case(total, ([1, -2, 2**31 - 1],), I32(2**31 - 2)),
    "no clients": Case(total, ([],), I32(0)),
    "map of no clients": Case(shifted, ([], 1.0), []),
    "many clients": Case(total, (list(range(100)),), I32(4950)),
    "two trips": Case(two_trips, (1.0, [1.0, 2.0, 6.0]), (F32(4.0), F32(5.0))),
    "open dimension": Case(
        mean_of_vectors, ([np.array([1.0, 2.0], F32), np.array([3.0, 6.0], F32)],), np.array([4.0, 8.0], F32)
    ),
    "interpreted": Case(interpreted, ([0.1, 0.2, 0.3, 0.4],), F32(0.25)),
    "structs": Case(structs, ([{"a": 1.0, "b": [1.0, 2.0]}, {"b": [3.0, 4.0], "a": 3.0}],)),
    "broadcast": Case(everywhere, (2.5,), F32(2.5)),
    "equal value as one for each": Case(
        for_each, (2.5, [1.0, 2.0]), ([F32(2.5), F32(2.5)], F32(5.0), [F32(1.0), F32(2.0)])
    ),
    "function argument": Case(mapped_by, (half, [1.0, 3.0]), [F32(0.5), F32(1.5)]),
    "federated reduce": Case(reduced, ([[1.0, 2.0], []], [0.0, 5.0]), [F32(3.0), F32(5.0)]),
    "texts": Case(echo, (["a", "", "Grüße"],), ["a", "", "Grüße"]),
    "complex": Case(complex_mean, ([1 + 2j, 3 - 1j],), np.complex64(2 + 0.5j)),
}


def within_one_unit(found, wanted):
    """Tell which elements are equal or, floats, one unit in the last place apart."""
    if found.dtype.kind != "f":
        return as_numbers(found, wanted)
    return as_numbers(found, wanted) | (np.isfinite(wanted) & (np.nextafter(found, wanted) == wanted))


def assert_same(got, want, *, bits=False):
    """Assert that two results agree: containers, dtypes, shapes, and numbers, to the last bit or to one unit there."""
    problem = difference(got, want, to_the_bit if bits else within_one_unit)
    assert not problem, problem
