"""Random well-typed programs give on these ranks what the reference evaluator gives.

Hypothesis works on rank 0: it draws bytes, from which every rank makes the same program and arguments.  (Ranks that
draw on their own can differ: Hypothesis also takes constants from the source files that are loaded.)  The environment
variable ``FEDMPI_TEST_PROGRAMS`` says how many.  One in ``FEDMPI_TEST_FUSED`` of them runs its clients in compiled
loops, which take seconds to compile: ``FEDMPI_TEST_PROGRAMS=1000 FEDMPI_TEST_FUSED=1`` is for a night.
"""

from __future__ import annotations

import collections
import json
import os
import traceback
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.language.dtypes import kind
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
PROGRAMS = int(os.environ.get("FEDMPI_TEST_PROGRAMS", "60"))
FUSED = int(os.environ.get("FEDMPI_TEST_FUSED", "6"))

DTYPES = [
    np.float32, np.float32, np.int32, np.float64, np.int64, np.uint8, np.int8, np.uint64, np.bool_, np.str_,
    np.complex64, np.float16,
]  # fmt: skip
SHAPES = [(), (), (), (2,), (0,), (None,), (2, None)]
# Few types of sequences: each way to fold one is compiled.
ELEMENTS = [fm.to_type(np.float32), fm.to_type(np.int32), fm.to_type(collections.OrderedDict(a=np.float32, b=np.int32))]
NAMES = ["a", "b", "weights", "größe", "a.b", "class", "0"]
SPECIAL = [-0.0, float("inf"), float("-inf"), float("nan")]
TEXTS = ["", "a", "Grüße", "\0", "x" * 50]


class Draw:
    """Choices made by bytes, one after the other; zeros when they are used up."""

    def __init__(self, data):
        self._bytes = iter(data)

    def below(self, n):
        return next(self._bytes, 0) % n

    def one_of(self, things):
        return things[self.below(len(things))]

    def maybe(self):
        return self.below(2) == 1

    # --- types ---

    def tensor(self):
        dtype = self.one_of(DTYPES)
        return fm.TensorType(dtype, () if dtype is np.str_ else self.one_of(SHAPES))

    def member(self):
        match self.below(5):
            case 0 | 1:
                return self.tensor()
            case 2:
                return fm.SequenceType(self.one_of(ELEMENTS))
        return self.struct(2)

    def struct(self, depth):
        parts = [
            self.struct(depth - 1) if depth and self.below(4) == 0 else self.tensor() for _ in range(self.below(4))
        ]
        items = list(dict(zip([self.one_of(NAMES) for _ in parts], parts, strict=True)).items())
        return fm.to_type(
            self.one_of(
                [
                    parts,
                    fm.StructType([(None, part) for part in parts]),
                    dict(items),
                    collections.OrderedDict(items),
                    fm.StructType(items),
                ]
            )
        )

    # --- values ---

    def number(self, dtype):
        """Eighths: sums and products of a few are exact, so that the order of a sum cannot matter."""
        match dtype.kind:
            case "f":
                return self.one_of(SPECIAL) if self.below(12) == 0 else (self.below(129) - 64) / 8
            case "c":
                return complex(self.number(np.dtype(np.float32)), self.number(np.dtype(np.float32)))
            case "b":
                return self.maybe()
        limits = np.iinfo(dtype)
        return self.one_of([limits.max, limits.min]) if self.below(20) == 0 else self.below(10) - 3 * (limits.min < 0)

    def value(self, type_, size):
        """Return a value; ``size`` is that of open dimensions."""
        match type_:
            case fm.SequenceType(element):
                return [self.value(element, size) for _ in range(self.below(5))]
            case fm.StructType():
                parts = [self.value(part, size) for part in type_]
                return dict(zip(type_.fields(), parts, strict=True)) if type_.fields() else parts
        if type_.dtype.kind == "U":
            return self.one_of(TEXTS)
        shape = tuple(size if d is None else d for d in type_.shape)
        numbers = [self.number(type_.dtype) for _ in range(int(np.prod(shape)))]
        return np.array(numbers, type_.dtype).reshape(shape)[()]


class Writer:
    """Writes the body of a program: ``known`` are the values that there are so far."""

    def __init__(self, draw, known):
        self.draw, self.known = draw, list(known)

    def pick(self, wanted):
        found = [v for v in self.known if wanted(v.type_signature)]
        return self.draw.one_of(found) if found else None

    def step(self):
        grow = self.draw.one_of([self.map, self.map, self.zip, self.reduce, self.reduce, self.down, self.part])
        grown = grow()
        if grown is not None:
            self.known.append(grown)

    def map(self):
        value = self.pick(placed)
        if value is None:
            return None
        if value.type_signature.member in map(fm.SequenceType, ELEMENTS) and self.draw.below(4):
            return self.fold(value)
        return fm.federated_map(self.function(value.type_signature.member), value)

    def fold(self, value):
        element = value.type_signature.member.element
        step = {"<a=float32,b=int32>": add_pair, "float32": add_float, "int32": add_int}[str(element)]
        zero = {"<a=float32,b=int32>": 0.5, "float32": 0.5, "int32": 7}[str(element)]
        match self.draw.below(4):
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
        body = self.draw.one_of(made)
        if self.draw.maybe():
            return fm.federated_computation(lambda x: body(x), member)
        return fm.python_computation(lambda x: x, member, result=member)

    def zip(self):
        first = self.pick(placed)
        if first is None:
            return None
        second = self.pick(lambda t: placed(t) and t.placement is first.type_signature.placement)
        both = self.draw.one_of([(first, second), [first], collections.OrderedDict(l=first, r=(second, first))])
        return fm.federated_zip(both)

    def reduce(self):
        def reducible(type_):
            return at(type_, fm.CLIENTS) and all(kind(t.dtype) in ("int", "float", "complex") for t in leaves(type_))

        value = self.pick(reducible)
        if value is None:
            return None
        floats = all(kind(t.dtype) in ("float", "complex") for t in leaves(value.type_signature))
        if floats and self.draw.maybe():
            weight = self.pick(
                lambda t: at(t, fm.CLIENTS) and t.member in map(fm.to_type, (np.int32, np.float32, np.uint8))
            )
            return fm.federated_mean(value, weight if self.draw.maybe() else None)
        if any(None in t.shape for t in leaves(value.type_signature)):
            return None
        return fm.federated_sum(value)

    def down(self):
        if self.draw.maybe():
            value = self.pick(lambda t: at(t, fm.SERVER))
            return None if value is None else fm.federated_broadcast(value)
        value = self.pick(lambda t: not placed(t))
        return fm.federated_value(2.5 if value is None else value, self.draw.one_of([fm.SERVER, fm.CLIENTS]))

    def part(self):
        value = self.pick(lambda t: placed(t) and isinstance(t.member, fm.StructType) and len(t.member) > 0)
        if value is None:
            return None
        index = self.draw.below(len(value))
        return value[index] if self.draw.maybe() else value[index:]


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


def program_of(data):
    """Return a computation, the argument of a call and the number of clients."""
    draw = Draw(data)
    clients, size = draw.below(13), draw.below(4)
    types = [fm.type_at_clients(draw.member()) for _ in range(1 + draw.below(3))]
    types += [fm.type_at_server(draw.member()) for _ in range(draw.below(3))]
    types += [fm.type_at_clients(draw.tensor(), all_equal=True) for _ in range(draw.below(2))]
    types += [draw.tensor() for _ in range(draw.below(3))]

    def body(whole):
        writer = Writer(draw, whole)
        for _ in range(1 + draw.below(10)):
            writer.step()
        results = writer.known[-1 - draw.below(4) :]
        return draw.one_of([results, tuple(results), {f"r{i}": value for i, value in enumerate(results)}])

    program = fm.federated_computation(body, fm.StructType(types))
    argument = []
    for type_ in types:
        member = type_.member if placed(type_) else type_
        if at(type_, fm.CLIENTS) and not type_.all_equal:
            argument.append([draw.value(member, size) for _ in range(clients)])
        else:
            argument.append(draw.value(member, size))
    return program, argument, clients


def outcome(context, program, argument):
    """Return the result, or the class of the error: which of several comes first is not laid down."""
    fm.set_default_context(context)
    try:
        return fm.replicate(program(argument))
    except (ValueError, OverflowError):
        return "refused"


def trouble_with(comm, data):
    """Return in which way one program fails on any of the ranks, "" if in none."""
    mine, program, argument = "", None, None
    try:
        program, argument, clients = program_of(data)
        fuse = True if zlib.crc32(data) % FUSED == 0 else None
        context = fm.MpiContext(server_trains=len(data) % 2 == 1, num_clients=clients, fuse=fuse)
        got = outcome(context, program, argument)
        want = outcome(fm.ReferenceContext(num_clients=clients), program, argument)
        mine = f"{got}\n{want}\n"
        assert_same(got, want, bits=True)
        mine = ""
    except Exception:
        mine += f"{program!r}\n{program}\n{argument}\n{traceback.format_exc()}"
    parts = comm.allgather_bytes(np.frombuffer(json.dumps(mine).encode(), np.uint8))
    return next(filter(None, (json.loads(part.tobytes()) for part in parts)), "")


def test_equals_the_reference(comm):
    @given(st.binary(min_size=150, max_size=700))
    @settings(
        max_examples=PROGRAMS, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def on_the_server(data):
        comm.bcast_bytes(np.frombuffer(data, np.uint8), root=0)
        trouble = trouble_with(comm, data)
        assert not trouble, trouble

    if comm.rank == 0:
        on_the_server()
        comm.bcast_bytes(np.empty(0, np.uint8), root=0)
        return
    while len(data := comm.bcast_bytes(None, root=0)):
        trouble_with(comm, data.tobytes())
