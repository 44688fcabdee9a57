"""Random well-typed programs give on these ranks what the reference evaluator gives.

All ranks draw the same programs (no random seed, no database, no time limits).  A failure shows the program's tree; set
``FEDMPI_TEST_PROGRAMS`` to try more of them.
"""

from __future__ import annotations

import collections
import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.language.dtypes import kind
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
PROGRAMS = int(os.environ.get("FEDMPI_TEST_PROGRAMS", "60"))

DTYPES = [
    np.float32, np.float32, np.int32, np.float64, np.int64, np.uint8, np.int8, np.uint64, np.bool_, np.str_,
    np.complex64, np.float16,
]  # fmt: skip
# Few types of sequences: each way to fold one is compiled.
ELEMENTS = [fm.to_type(np.float32), fm.to_type(np.int32), fm.to_type(collections.OrderedDict(a=np.float32, b=np.int32))]
NAMES = ["a", "b", "weights", "größe", "a.b", "class", "0"]
# Eighths: sums and products of a few are exact, so that the order of a sum cannot matter.
FLOATS = st.one_of(st.integers(-64, 64).map(lambda n: n / 8), st.sampled_from([-0.0, np.inf, -np.inf, np.nan]))
TEXTS = st.sampled_from(["", "a", "Grüße", "\0", "x" * 50])

tensors = st.builds(
    lambda dtype, shape: fm.TensorType(dtype, () if dtype is np.str_ else shape),
    st.sampled_from(DTYPES),
    st.sampled_from([(), (), (), (2,), (0,), (None,), (2, None)]),
)
sequences = st.sampled_from(ELEMENTS).map(fm.SequenceType)


def structs(inner):
    named = st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=3, unique_by=lambda item: item[0])
    return st.one_of(
        st.lists(inner, max_size=3).map(fm.to_type),
        st.lists(inner, max_size=3).map(lambda parts: fm.to_type(tuple(parts)) if len(parts) != 1 else parts[0]),
        named.map(lambda items: fm.to_type(collections.OrderedDict(items))),
        named.map(lambda items: fm.to_type(dict(items))),
        named.map(fm.StructType),
    )


members = st.one_of(tensors, sequences, st.recursive(tensors, structs, max_leaves=5))


def value_of(draw, type_, size):
    """Draw a value; ``size`` is that of open dimensions."""
    match type_:
        case fm.SequenceType(element):
            return [value_of(draw, element, size) for _ in range(draw(st.integers(0, 4)))]
        case fm.StructType():
            parts = [value_of(draw, part, size) for part in type_]
            return parts if not type_.fields() else dict(zip(type_.fields(), parts, strict=True))
    dtype, shape = type_.dtype, tuple(size if d is None else d for d in type_.shape)
    if dtype.kind == "U":
        return draw(TEXTS)
    draws = {
        "b": st.booleans(),
        "f": FLOATS,
        "c": st.builds(complex, FLOATS, FLOATS),
        "i": st.one_of(st.integers(-3, 9), st.just(np.iinfo(dtype).max if dtype.kind in "iu" else 0)),
        "u": st.integers(0, 9),
    }
    numbers = [draw(draws[dtype.kind]) for _ in range(int(np.prod(shape)))]
    return np.array(numbers, dtype).reshape(shape)[()]


class Writer:
    """Writes the body of a program: ``known`` are the values that there are so far."""

    def __init__(self, draw, known):
        self.draw, self.known = draw, list(known)

    def pick(self, wanted):
        found = [v for v in self.known if wanted(v.type_signature)]
        return self.draw(st.sampled_from(found)) if found else None

    def step(self):
        grow = self.draw(
            st.sampled_from([self.map, self.map, self.zip, self.reduce, self.reduce, self.down, self.part])
        )
        grown = grow()
        if grown is not None:
            self.known.append(grown)

    def map(self):
        value = self.pick(placed)
        if value is None:
            return None
        if value.type_signature.member in map(fm.SequenceType, ELEMENTS) and self.draw(st.integers(0, 3)):
            return self.fold(value)
        return fm.federated_map(self.function(value.type_signature.member), value)

    def fold(self, value):
        element = value.type_signature.member.element
        step = {"<a=float32,b=int32>": add_pair, "float32": add_float, "int32": add_int}[str(element)]
        zero = {"<a=float32,b=int32>": 0.5, "float32": 0.5, "int32": 7}[str(element)]
        match self.draw(st.integers(0, 3)):
            case 0:
                return fm.sequence_reduce(value, zero, step)
            case 1:
                return fm.sequence_map(fm.federated_computation(lambda x: (x, 1), element), value)
            case 2:
                double = fm.federated_computation(lambda x: x + x, element)
                return fm.sequence_reduce(fm.sequence_map(double, value), zero, step)
        return fm.sequence_sum(value)

    def function(self, member):
        """Draw a function of a member."""
        captured = self.pick(lambda t: not placed(t))
        made = [
            lambda x: (x, x),
            lambda x: collections.OrderedDict(old=x, new=3),
            lambda x: fm.federated_computation(lambda y: [y, x, "text"], member)(x),
            lambda x: {"x": x, "captured": captured} if captured is not None else x,
        ]
        if isinstance(member, fm.TensorType) and kind(member.dtype) in ("int", "float", "complex"):
            one = member.dtype.type(1)
            made += [lambda x: x + one, lambda x: x * (one + one), lambda x: (x - x, one - x), lambda x: x == one]
        if isinstance(member, fm.StructType) and len(member):
            made += [lambda x: x[0], lambda x: tuple(reversed(list(x)))]
        body = self.draw(st.sampled_from(made))
        if self.draw(st.booleans()):
            return fm.federated_computation(lambda x: body(x), member)
        return fm.python_computation(lambda x: x, member, result=member)

    def zip(self):
        first = self.pick(placed)
        if first is None:
            return None
        second = self.pick(lambda t: placed(t) and t.placement is first.type_signature.placement)
        both = self.draw(
            st.sampled_from([(first, second), [first], collections.OrderedDict(l=first, r=(second, first))])
        )
        return fm.federated_zip(both)

    def reduce(self):
        def reducible(type_):
            return at(type_, fm.CLIENTS) and all(kind(t.dtype) in ("int", "float", "complex") for t in leaves(type_))

        value = self.pick(reducible)
        if value is None:
            return None
        if all(kind(t.dtype) in ("float", "complex") for t in leaves(value.type_signature)) and self.draw(
            st.booleans()
        ):
            weight = self.pick(
                lambda t: at(t, fm.CLIENTS) and t.member in map(fm.to_type, (np.int32, np.float32, np.uint8))
            )
            return fm.federated_mean(value, weight if self.draw(st.booleans()) else None)
        if any(None in t.shape for t in leaves(value.type_signature)):
            return None
        return fm.federated_sum(value)

    def down(self):
        if self.draw(st.booleans()):
            value = self.pick(lambda t: at(t, fm.SERVER))
            return None if value is None else fm.federated_broadcast(value)
        value = self.pick(lambda t: not placed(t))
        return fm.federated_value(2.5 if value is None else value, self.draw(st.sampled_from([fm.SERVER, fm.CLIENTS])))

    def part(self):
        value = self.pick(lambda t: placed(t) and isinstance(t.member, fm.StructType) and len(t.member) > 0)
        if value is None:
            return None
        index = self.draw(st.integers(0, len(value) - 1))
        return value[index] if self.draw(st.booleans()) else value[index:]


def placed(type_):
    return isinstance(type_, fm.FederatedType)


def at(type_, placement):
    return placed(type_) and type_.placement is placement


def leaves(type_):
    """Yield the tensors in a type, and for a sequence a text, which nothing can be done with."""
    match type_:
        case fm.FederatedType(member):
            yield from leaves(member)
        case fm.StructType():
            for part in type_:
                yield from leaves(part)
        case fm.TensorType():
            yield type_
        case _:
            yield fm.TensorType(np.str_)


@fm.federated_computation(np.float32, np.float32)
def add_float(total, x):
    return total + x


@fm.numba_computation(np.int32, np.int32)
def add_int(total, x):
    return total * 2 + x


@fm.federated_computation(np.float32, ELEMENTS[2])
def add_pair(total, pair):
    return total + pair.a


@st.composite
def programs(draw):
    """Draw a computation, the argument of a call and the number of clients."""
    clients = draw(st.integers(0, 12))
    size = draw(st.integers(0, 3))
    types = [fm.type_at_clients(t) for t in draw(st.lists(members, min_size=1, max_size=3))]
    types += [fm.type_at_server(t) for t in draw(st.lists(members, max_size=2))]
    types += [fm.type_at_clients(t, all_equal=True) for t in draw(st.lists(tensors, max_size=1))]
    types += draw(st.lists(tensors, max_size=2))
    steps = draw(st.integers(1, 8))
    wanted = draw(st.integers(1, 4))

    def body(whole):
        writer = Writer(draw, whole)
        for _ in range(steps):
            writer.step()
        results = writer.known[-wanted:]
        return draw(st.sampled_from([results, tuple(results), {f"r{i}": value for i, value in enumerate(results)}]))

    program = fm.federated_computation(body, fm.StructType(types))
    argument = []
    for type_ in types:
        if placed(type_) and not type_.all_equal:
            argument.append([value_of(draw, type_.member, size) for _ in range(clients)])
        else:
            argument.append(value_of(draw, type_.member if placed(type_) else type_, size))
    return program, argument, clients


def outcome(context, program, argument):
    """Return the result, or the class of the error: which of several comes first is not laid down."""
    fm.set_default_context(context)
    try:
        return fm.replicate(program(argument))
    except (ValueError, OverflowError):
        return "refused"


@given(programs(), st.booleans())
@settings(
    max_examples=PROGRAMS,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_equals_the_reference(comm, drawn, server_trains):
    program, argument, clients = drawn
    got = outcome(fm.MpiContext(server_trains=server_trains, num_clients=clients), program, argument)
    want = outcome(fm.ReferenceContext(num_clients=clients), program, argument)
    fm.set_default_context(fm.MpiContext())
    trouble = ""
    try:
        assert_same(got, want)
    except AssertionError as error:
        trouble = f"{program.type_signature}\n{program}\n{argument}\n{got}\n{want}\n{error}"
    # All ranks fail if one does: they go on to the same program.
    everyone = comm.allgather_bytes(np.frombuffer(json.dumps(trouble).encode(), np.uint8))
    assert all(json.loads(part.tobytes()) == "" for part in everyone), trouble
