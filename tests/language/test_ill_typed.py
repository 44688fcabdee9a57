"""A well-typed program is accepted; with one call broken it is refused, where it is defined, by an error of ours."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmpi.language as fm
from fedmpi.language.checking import check
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tree.expressions import free
from tests.language.written import C, S, Writer, f32, fc, identity, write
from tests.nightly import examples

few = settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
many = settings(deadline=None, max_examples=examples(300, 8000), suppress_health_check=[HealthCheck.too_slow])
OURS = (fm.TypingError, fm.ContextError, fm.ComputationReturnedNoneError)


class Broken(Exception):
    """The broken call was accepted."""


def function_at(args):
    return [i for i, arg in enumerate(args) if isinstance(arg, fm.Computation)]


def placed_at(args):
    return [i for i, arg in enumerate(args) if isinstance(arg, fm.Value)]


def replaced(args, index, new):
    return [*args[:index], new, *args[index + 1 :]]


def bare_function(writer, operator, args):
    """A Python function in the place of a computation."""
    return [replaced(args, i, lambda *_: 1) for i in function_at(args)]


def called_function(writer, operator, args):
    """What a function returns, in the place of the function."""
    return [replaced(args, i, fc(lambda: 1.0)()) for i in function_at(args)]


def other_parameter(writer, operator, args):
    """A function of something else."""
    strange = identity([np.int8, [np.int16]])
    return [replaced(args, i, strange) for i in function_at(args)]


def no_parameter(writer, operator, args):
    """A function that takes nothing; for federated_eval, one that takes something."""
    wrong = identity(np.int32) if operator == "federated_eval" else fc(lambda: 1)
    return [replaced(args, i, wrong) for i in function_at(args)]


def placed_result(writer, operator, args):
    """A function that returns something placed."""
    takes = [args[i].type_signature.parameter for i in function_at(args)]
    wrong = [
        fc(lambda: fm.federated_value(1, C)) if t is None else fc(lambda x: fm.federated_value(1, C), t) for t in takes
    ]
    return [replaced(args, i, fn) for i, fn in zip(function_at(args), wrong, strict=True)]


def captured(writer, operator, args):
    """A function that uses a placed value of the body."""
    around = writer.at(C)
    takes = [args[i].type_signature.parameter for i in function_at(args)]
    wrong = [fc(lambda: around) if t is None else fc(lambda x: around, t) for t in takes]
    return [replaced(args, i, fn) for i, fn in zip(function_at(args), wrong, strict=True)]


def swapped(writer, operator, args):
    """Two arguments of different kinds, changed for each other."""
    pairs = [(i, j) for i in function_at(args) for j in range(len(args)) if j not in function_at(args)]
    return [replaced(replaced(args, i, args[j]), j, args[i]) for i, j in pairs]


def too_few(writer, operator, args):
    """An argument is missing; federated_mean can do without its weight."""
    return ([args[:-1]] if operator != "federated_mean" else [[]]) if args else []


def too_many(writer, operator, args):
    """An argument too many."""
    return [[*args, args[-1] if args else 1]]


def unplaced(writer, operator, args):
    """An unplaced constant in the place of a placed value."""
    if operator.startswith("sequence_"):
        return [replaced(args, i, 1.0) for i in placed_at(args)]
    wrong = [replaced(args, i, new) for i in placed_at(args) for new in (1.0, [1.0, 2.0], "a")]
    return [*wrong, replaced(args, 0, None)]


def other_placement(writer, operator, args):
    """A value of the other placement."""
    out = []
    for i in placed_at(args):
        type_ = args[i].type_signature
        if isinstance(type_, fm.FederatedType) and operator not in (
            "federated_map",
            "sequence_map",
            "sequence_reduce",
            "sequence_sum",
        ):
            out.append(replaced(args, i, writer.at(S if type_.placement is C else C)))
    return out


def mixed_placement(writer, operator, args):
    """A struct of values at both placements."""
    mixed = (writer.at(C), writer.at(S))
    return [replaced(args, i, new) for i in placed_at(args) for new in (mixed, [mixed, mixed[0]], (mixed[0], 1.0))]


def wrong_member(writer, operator, args):
    """A text where numbers are reduced, an unknown size where one is added, a float where an integer is summed."""
    numbers = (
        operator in ("federated_sum", "federated_mean", "federated_min", "federated_max") or "secure_sum" in operator
    )
    return [
        replaced(args, 0, fm.federated_value("a", C)),
        replaced(args, 0, fm.federated_value((1, True), C)),
    ] * numbers


def wrong_limit(writer, operator, args):
    """A limit that is no integer, or is placed."""
    secure = "secure" in operator and "select" not in operator
    return [replaced(args, 1, new) for new in (1.5, "a", [1, 2, 3, 4], writer.at(S), identity(np.int32))] * secure


def wrong_placement(writer, operator, args):
    """Something that is no placement."""
    return [replaced(args, 1, new) for new in ("clients", None, 5, 1.0, C.__class__)] * (
        operator in ("federated_value", "federated_eval")
    )


def strangers(writer, operator, args):
    """Objects that are no values."""
    return [
        replaced(args, i, new)
        for i in range(len(args))
        for new in (object(), {1, 2}, {1: 2}, np.int32, fm.to_type(np.int32))
    ]


def leaked(writer, operator, args):
    """A value of another body."""
    kept = []
    fc(lambda x: kept.append(x) or x, fm.type_at_clients(np.float32))
    return [replaced(args, i, kept[0]) for i in placed_at(args)]


def wrong_zero(writer, operator, args):
    """A zero of another type than the state."""
    index = {"federated_aggregate": 1, "sequence_reduce": 1}.get(operator)
    return [] if index is None else [replaced(args, index, new) for new in (0.5, "a", (0, 0), True, {"a": 0})]


pair = fc(lambda x, y: x, np.float32, np.int32)
placed_mean = fc(lambda x: fm.federated_mean(x), fm.type_at_clients(f32))
deep = fc(lambda x: x, {"a": [f32, {"b": f32}]})
MISUSES = {
    "an element by a wrong name": lambda value: value.zz,
    "an element by a wrong key": lambda value: value["zz"],
    "an element out of range": lambda value: value[99],
    "an element from the end": lambda value: value[-1],
    "an element by a float": lambda value: value[1.5],
    "an empty slice": lambda value: value[99:],
    "truth": lambda value: bool(value),
    "a number": lambda value: float(value),
    "an index": lambda value: [1, 2][value],
    "a power": lambda value: value**2,
    "a function of NumPy": lambda value: np.exp(value),
    "an array": lambda value: np.asarray(value),
    "a sum with a text": lambda value: value + "a",
    "a comparison with None": lambda value: value == None,  # noqa: E711
    "a comparison of a comparison": lambda value: (value < value) < 1,
    "a call": lambda value: value(1),
    "a call by wrong names": lambda value: pair(x=value, z=1),
    "a call with too much": lambda value: pair(value, 1, 1),
    "a call with too little": lambda value: pair(x=1.0),
    "a call by a wrong key": lambda value: pair({"x": 1.0, "z": 1}),
    "a call of swapped arguments": lambda value: pair(1, 1.0),
    "a call of a function without parameters": lambda value: fc(lambda: 1)(value),
    "an int for a float": lambda value: fm.to_value(1, np.float32),
    "float64 for float32": lambda value: fm.to_value(np.float64(1), np.float32),
    "another length": lambda value: fm.to_value([1], [np.int32, np.int32]),
    "a list for a sequence": lambda value: fm.to_value([1, 2], fm.SequenceType(np.int32)),
    "a type of a value": lambda value: fm.to_type(value),
    "a sequence of something placed": lambda value: fm.SequenceType(fm.type_at_server(np.int32)),
    "an inner function without enough types": lambda value: fc(lambda x, y: x, np.int32),
    "an inner function with a default": lambda value: fc(lambda x=1: x, np.int32),
    "an inner function that returns a set": lambda value: fc(lambda x: {1}, np.int32),
    "an inner function that returns nothing": lambda value: fc(lambda x: None, np.int32),
    "a function without a known type": lambda value: fc(lambda: fc(lambda x: x)),
    "no arguments": lambda value: fc(lambda x: x)(),
    "a key of a dict": lambda value: {value: 1},
    "a text": lambda value: f"{value}",
    "an inner function that returns a text of a value": lambda value: fc(lambda x: str(x), np.int32),
    "an inner function that sums what is not placed": lambda value: fc(lambda x: fm.federated_sum(x), np.int32),
    "an inner function that captures where it maps": lambda value: fc(lambda x: fm.federated_map(x, value), np.int32),
    "a function of placed values in a map": lambda value: fm.federated_map(placed_mean, fm.federated_value(1.0, C)),
    "a result that is called": lambda value: fm.federated_value(1.0, C)(),
    "a wrong dtype deep inside": lambda value: deep({"a": [1.0, {"b": 2}]}),
    "a missing element": lambda value: deep({"a": [1.0]}),
    "an element too many": lambda value: deep({"a": [1.0, {"b": 2.0, "c": 3.0}]}),
    "a placement for a value": lambda value: fm.federated_broadcast(C),
    "an operator for a function": lambda value: fm.federated_map(fm.federated_sum, fm.federated_value(1.0, C)),
    "an operator of a type": lambda value: fm.federated_value(np.int32, C),
    "arguments where types are meant": lambda value: fc(lambda x: x, 1.0),
}
BREAKS = [
    *(bare_function, called_function, other_parameter, no_parameter, placed_result, captured, swapped, too_few),
    *(too_many, unplaced, other_placement, mixed_placement, wrong_member, wrong_limit, wrong_placement, strangers),
    *(leaked, wrong_zero),
]


class Breaker(Writer):
    """Breaks one of the calls that it writes, and stops when that was accepted; ``line`` is where that stands."""

    line = None

    def expect(self, line):
        Breaker.line = line

    def step(self):
        if self.draw(st.integers(0, 3)) == 0:
            what = self.draw(st.sampled_from(sorted(MISUSES)))
            value = self.one_of(self.values)
            self.expect(MISUSES[what].__code__.co_firstlineno)
            MISUSES[what](value)
            raise Broken(f"{what}: {value.type_signature}")
        super().step()

    def call(self, operator, *args):
        if self.draw(st.integers(0, 2)) == 0:
            how = self.draw(st.sampled_from(BREAKS))
            wrong = how(self, operator, list(args))
            if wrong:
                chosen = self.draw(st.sampled_from(wrong))
                self.expect(sys._getframe().f_lineno + 1)
                getattr(fm, operator)(*chosen)
                raise Broken(f"{how.__name__}: {operator}({', '.join(map(repr, chosen))})")
        return super().call(operator, *args)


@few
@given(st.data())
def test_well_typed_programs_are_accepted(data):
    made = write(data.draw)
    check(made.expression)
    assert not any(free(made.expression))


@many
@given(st.data())
def test_one_wrong_call_is_refused(data):
    Breaker.line = None
    try:
        write(data.draw, Breaker)
    except OURS as error:
        assert Breaker.line is not None
        assert re.search(rf"test_ill_typed\.py:{Breaker.line}\b", str(error))  # noqa: PT017
        assert re.search(r"at \w+\.py:\d+$|\w+\.py:\d+\)", str(error), re.MULTILINE)  # noqa: PT017 - or it was not broken


def test_all_operators_are_written_and_broken():
    """The programs and breaks reach every operator of the table."""
    seen = {}

    class Counter(Writer):
        def call(self, operator, *args):
            for how in BREAKS:
                for wrong in how(self, operator, list(args)):
                    with pytest.raises(OURS):
                        getattr(fm, operator)(*wrong)
                    seen.setdefault(operator, set()).add(how.__name__)
            return super().call(operator, *args)

    @settings(deadline=None, max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def run(data):
        write(data.draw, Counter, steps=8)

    run()
    named = {name for name in OPERATORS if name.startswith(("federated_", "sequence_"))}
    lacking = "each operator needs a method of `Writer` in tests/language/written.py, and that a place in STEPS"
    assert set(seen) == named, lacking
    assert {how.__name__ for how in BREAKS} == set().union(*seen.values())
