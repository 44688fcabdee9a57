"""Random well-typed programs over all operators, at the level of the language, for tests of what is refused.

`Writer` adds steps to a body that is being traced.  Each step calls an operator with arguments that fit; a subclass can
change them in `call`.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import strategies as st

import fedmpi.language as fm
from fedmpi.language.types import contains
from fedmpi.language.types.dtypes import kind

fc = fm.federated_computation
C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32

TENSORS = [fm.to_type(t) for t in (f32, i32, np.float64, (f32, [3]), (i32, [2]), np.uint8, np.complex64)]
LEAVES = [*TENSORS, *map(fm.to_type, (np.str_, np.bool_, (f32, [None])))]
structs = st.lists(st.sampled_from(LEAVES), max_size=3).flatmap(
    lambda parts: st.sampled_from(
        [fm.to_type(parts), fm.StructType(parts), fm.to_type(OrderedDict(zip("abc", parts, strict=False)))]
    )
)
elements = st.sampled_from(LEAVES) | structs
members = elements | elements.map(fm.SequenceType)


def all_of(type_, kinds, known=False):
    if isinstance(type_, fm.StructType):
        return all(all_of(part, kinds, known) for part in type_)
    return isinstance(type_, fm.TensorType) and kind(type_.dtype) in kinds and not (known and None in type_.shape)


def identity(type_):
    return fc(lambda x: x, type_)


def second(first, other):
    """A function of two parameters that returns the first."""
    return fc(lambda x, y: x, first, other)


class Writer:
    """Writes a body; ``values`` are what it has so far.  `steps` maps a step's name to the method that takes it."""

    def __init__(self, draw, values):
        self.draw = draw
        self.values = list(values)

    def one_of(self, things):
        return self.draw(st.sampled_from(things))

    def pick(self, wanted):
        found = [value for value in self.values if wanted(value.type_signature)]
        return self.one_of(found) if found else None

    def at(self, placement, wanted=lambda member: True):
        """Pick a placed value whose member is ``wanted``, or place a constant."""
        value = self.pick(lambda t: isinstance(t, fm.FederatedType) and t.placement is placement and wanted(t.member))
        if value is None:
            constants = [c for c in (1.0, 2, (1.0, 2), np.zeros(2, np.int32)) if wanted(fm.infer_type(c))]
            value = fm.federated_value(self.one_of(constants), placement)
        return value

    def sequence(self):
        return self.pick(lambda t: isinstance(getattr(t, "member", t), fm.SequenceType))

    def call(self, operator, *args):
        """Add a call of the operator to the program."""
        return getattr(fm, operator)(*args)

    def step(self):
        result = self.one_of(STEPS)(self)
        if result is not None:
            self.values.append(result)

    def map(self):
        value = self.at(self.one_of([C, S]))
        return self.call("federated_map", identity(value.type_signature.member), value)

    def apply(self):
        value = self.at(S)
        return self.call("federated_apply", identity(value.type_signature.member), value)

    def broadcast(self):
        return self.call("federated_broadcast", self.at(S))

    def zip(self):
        placement = self.one_of([C, S])
        return self.call("federated_zip", self.one_of([tuple, list])([self.at(placement), self.at(placement)]))

    def sum(self):
        return self.call("federated_sum", self.at(C, lambda m: all_of(m, ("int", "float", "complex"), known=True)))

    def mean(self):
        value = self.at(C, lambda m: all_of(m, ("float", "complex")))
        weight = self.at(C, lambda m: isinstance(m, fm.TensorType) and m.shape == () and all_of(m, ("int", "float")))
        return self.call("federated_mean", value, weight)

    def extreme(self):
        name = self.one_of(["federated_min", "federated_max"])
        return self.call(name, self.at(C, lambda m: all_of(m, ("int", "float"))))

    def aggregate(self):
        value = self.at(C)
        count = fc(lambda n, x: n + 1, i32, value.type_signature.member)
        return self.call("federated_aggregate", value, 0, count, fc(lambda a, b: a + b, i32, i32), identity(i32))

    def collect(self):
        value = self.at(C, lambda m: not contains(m, fm.SequenceType))
        return self.call("federated_collect", value)

    def index(self):
        return self.call("federated_client_index")

    def value(self):
        return self.call("federated_value", self.one_of([1, 2.5, "a", (1, [2.0])]), self.one_of([C, S]))

    def eval(self):
        return self.call("federated_eval", self.one_of([fc(lambda: 1.0), fc(lambda: (1, "a"))]), self.one_of([C, S]))

    def select(self):
        keys, value = self.at(C, lambda m: m is fm.to_type((i32, [2]))), self.at(S)
        name = self.one_of(["federated_select", "federated_secure_select"])
        member = value.type_signature.member
        if not contains(member, fm.SequenceType):
            return self.call(name, keys, fm.federated_value(5, S), value, second(member, i32))
        return self.call(name, keys, fm.federated_value(5, S), value, fc(lambda x, y: y, member, i32))

    def secure(self):
        names = ["federated_secure_sum", "federated_secure_sum_bitwidth", "federated_secure_modular_sum"]
        return self.call(self.one_of(names), self.at(C, lambda m: all_of(m, ("int",))), self.one_of([8, 16]))

    def sequence_map(self):
        value = self.sequence()
        if value is None:
            return None
        element = getattr(value.type_signature, "member", value.type_signature).element
        return self.call("sequence_map", identity(element), value)

    def sequence_reduce(self):
        value = self.sequence()
        if value is None:
            return None
        element = getattr(value.type_signature, "member", value.type_signature).element
        return self.call("sequence_reduce", value, 0, fc(lambda n, x: n + 1, i32, element))

    def sequence_sum(self):
        value = self.pick(
            lambda t: (
                isinstance(m := getattr(t, "member", t), fm.SequenceType)
                and all_of(m.element, ("int", "float", "complex"), known=True)
            )
        )
        return None if value is None else self.call("sequence_sum", value)


STEPS = [
    *(Writer.map, Writer.apply, Writer.broadcast, Writer.zip, Writer.sum, Writer.mean, Writer.extreme),
    *(Writer.aggregate, Writer.collect, Writer.index, Writer.value, Writer.eval, Writer.select, Writer.secure),
    *(Writer.sequence_map, Writer.sequence_reduce, Writer.sequence_sum),
]


def parameters(draw):
    """Draw the types of a program's parameters."""
    placed = draw(st.lists(st.tuples(members, st.sampled_from([C, S])), min_size=1, max_size=3))
    bare = draw(st.lists(members, max_size=2))
    return [fm.FederatedType(member, placement) for member, placement in placed] + bare


def write(draw, writer=Writer, steps=4):
    """Return a computation of random steps, which returns all that they made."""
    types = parameters(draw)

    def body(x):
        pen = writer(draw, list(x))
        for _ in range(draw(st.integers(1, steps))):
            pen.step()
        return pen.values

    return fc(body, fm.StructType(types))
