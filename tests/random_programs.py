"""Random well-typed programs with arguments, drawn from bytes: the same bytes give the same on every rank."""

from __future__ import annotations

import collections
import functools

import numpy as np

import fedmpi as fm
from fedmpi.language.types.dtypes import kind

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
        often = [self.map, self.map, self.zip, self.reduce, self.reduce, self.down, self.part]
        grow = self.draw.one_of(
            [
                *often,
                self.extreme,
                self.aggregate,
                self.aggregate,
                self.collect,
                self.secure,
                self.eval,
                self.select,
                self.index,
                self.failing,
            ]
        )
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
        zero, step = FOLDS[str(element)]
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
        made += whole(member)
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
            if weight is not None and self.draw.below(4):
                weight = fm.federated_map(good_weight(weight.type_signature.member), weight)
            return fm.federated_mean(value, weight if self.draw.maybe() else None)
        if any(None in t.shape for t in leaves(value.type_signature)):
            return None
        return fm.federated_sum(value)

    def extreme(self):
        value = self.pick(lambda t: at(t, fm.CLIENTS) and all(kind(e.dtype) in ("int", "float") for e in leaves(t)))
        return None if value is None else self.draw.one_of([fm.federated_min, fm.federated_max])(value)

    def aggregate(self):
        value = self.pick(lambda t: at(t, fm.CLIENTS))
        if value is None:
            return None
        member = value.type_signature.member
        step = {fm.to_type(np.float32): decay_float, fm.to_type(np.int32): decay_int}.get(member)
        captured = self.pick(lambda t: not placed(t))
        extra = 1 if captured is None else captured
        report = fm.federated_computation(self.draw.one_of([same, lambda state: {"state": state, "extra": extra}]))
        if step is not None and self.draw.maybe():
            return fm.federated_aggregate(value, np.float32(0.25), step, decay_float, report)
        if member in map(fm.SequenceType, ELEMENTS) and self.draw.maybe():
            zero, step = FOLDS[str(member.element)]
            state = fm.to_type(type(zero))
            fold = fm.federated_computation(lambda s, q: fm.sequence_reduce(q, s, step), state, member)
            merge = decay_float if state == fm.to_type(np.float32) else add_int
            return fm.federated_aggregate(value, zero, fold, merge, report)
        match self.draw.below(3):
            case 0:  # a count
                count = fm.federated_computation(lambda n, x: n + 1, np.int32, member)
                return fm.federated_aggregate(value, 0, count, add_int, report)
            case 1:  # a struct
                pair = collections.OrderedDict(n=np.int32, tail=np.float64)
                count = fm.federated_computation(lambda s, x: {"n": s.n + 1, "tail": s.tail + 0.5}, pair, member)
                merge = fm.federated_computation(lambda a, b: {"n": a.n + b.n, "tail": a.tail - b.tail}, pair, pair)
                zero = collections.OrderedDict(n=0, tail=1.0)
                return fm.federated_aggregate(value, zero, count, merge, report)
        sized = fm.to_type((np.int32, [None]))
        longer = fm.python_computation(lambda s, x: np.append(s, np.int32(len(s))), sized, member, result=sized)
        return fm.federated_aggregate(value, np.zeros(0, np.int32), longer, joined, report)

    def collect(self):
        value = self.pick(lambda t: at(t, fm.CLIENTS) and not has_sequence(t.member))
        return None if value is None else fm.federated_collect(value)

    def index(self):
        return fm.federated_client_index()

    def failing(self):
        return fm.federated_map(fragile(2 + self.draw.below(6)), fm.federated_client_index())

    def secure(self):
        value = self.pick(lambda t: at(t, fm.CLIENTS) and all(kind(e.dtype) == "int" for e in leaves(t)))
        if value is None:
            return None
        if self.draw.below(4):
            value = fm.federated_map(small(value.type_signature.member), value)
        match self.draw.below(3):
            case 0:
                return fm.federated_secure_sum(value, self.draw.one_of([9, 300, np.int64(2**40)]))
            case 1:
                return fm.federated_secure_sum_bitwidth(value, self.draw.one_of([4, 10, 58, 62]))
        return fm.federated_secure_modular_sum(value, self.draw.one_of([1, 5, 1000, np.int64(2**50)]))

    def eval(self):
        captured = self.pick(lambda t: not placed(t))
        made = [lambda: 7, lambda: (np.float32(1.5), "text"), lambda: 1 if captured is None else captured]
        body = self.draw.one_of(made)
        return fm.federated_eval(fm.federated_computation(lambda: body()), self.draw.one_of([fm.CLIENTS, fm.SERVER]))

    def select(self):
        keys = self.pick(lambda t: at(t, fm.CLIENTS) and t.member == fm.to_type((np.int32, [2])))
        value = self.pick(lambda t: at(t, fm.SERVER) and not has_sequence(t.member))
        if keys is None or value is None:
            return None
        if self.draw.below(4):
            keys = fm.federated_map(small_keys, keys)
        chosen = self.draw.one_of([fm.federated_select, fm.federated_secure_select])
        make = self.draw.one_of([lambda v, k: k + k, lambda v, k: (k, v), lambda v, k: np.float32(2.0)])
        max_key = fm.federated_value(3, fm.SERVER)
        return chosen(
            keys,
            max_key,
            value,
            fm.federated_computation(lambda v, k: make(v, k), value.type_signature.member, np.int32),
        )

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


def whole(member):
    """Return functions of a member as a whole: arithmetic of models."""
    tensors = list(leaves(member))
    if not tensors or any(kind(t.dtype) not in ("int", "float", "complex") for t in tensors):
        return []
    made = [lambda x: x - x, lambda x: x + x, lambda x: x * x]
    if all(t.dtype.kind in "ifc" for t in tensors):
        made.append(lambda x: -x)
    if any(t.shape is None or None in t.shape for t in tensors):
        return made
    made.append(lambda x: fm.model.zeros_like(x))
    if len({t.dtype for t in tensors}) > 1:
        return [*made, lambda x: fm.model.cast(x, np.complex128)]
    one = tensors[0].dtype.type(1)
    double = fm.federated_computation(lambda v: v + v, tensors[0].dtype.type)
    made += [
        lambda x: x - one, lambda x: fm.model.map(double, x), lambda x: fm.model.flatten(x),
        lambda x: fm.model.unflatten(fm.model.flatten(x) * one, x),
    ]  # fmt: skip
    if tensors[0].dtype in (np.float32, np.float64):
        made += [lambda x: fm.model.norm(x), lambda x: fm.model.dot(x, x) - one, lambda x: fm.model.cast(x, np.float64)]
    return made


@fm.federated_computation(np.float32, np.float32)
def add_float(total, x):
    return total + x


@fm.numba_computation(np.int32, np.int32)
def add_int(total, x):
    return total * 2 + x


@fm.numba_computation(np.float32, np.float32)
def decay_float(state, x):
    return state * np.float32(0.7) + x


@fm.numba_computation(np.float32, np.int32)
def decay_int(state, x):
    return state * np.float32(0.7) + np.float32(x)


@fm.numba_computation(fm.to_type((np.int32, [None])), fm.to_type((np.int32, [None])), result=(np.int32, [None]))
def joined(left, right):
    return np.concatenate((left, right))


@fm.numba_computation(fm.to_type((np.int32, [2])))
def small_keys(keys):
    return np.abs(keys) % 4


@functools.cache
def good_weight(member):
    """Return a function that makes 0 of numbers which are no weights."""
    zero = member.dtype.type(0)
    return fm.numba_computation(lambda x: x if 0 <= x < 100 else zero, member)


@functools.cache
def fragile(period):
    """Return a function of a client's index that fails at some clients."""

    @fm.numba_computation(np.int64, result=np.int32)
    def body(index):
        if index % period == 1:
            raise ValueError("one of those that fail")
        return np.int32(index)

    return body


def remainder(x):
    """Return x % 8 of integers, or of each in a struct of them: never negative."""
    if isinstance(x, dict):
        return {name: remainder(part) for name, part in x.items()}
    return tuple(map(remainder, x)) if isinstance(x, tuple | list) else x % 8


@functools.cache
def small(member):
    """Return a function that makes numbers of a member which secure sums take."""
    if isinstance(member, fm.TensorType) and None not in member.shape:
        eight = member.dtype.type(8)  # to Numba uint64 % int64 is a float
        return fm.numba_computation(lambda x: x % eight, member)
    return fm.python_computation(remainder, member, result=member)


def same(state):
    return state


def has_sequence(type_):
    return isinstance(type_, fm.SequenceType) or any(map(has_sequence, type_.children()))


@fm.federated_computation(np.float32, ELEMENTS[2])
def add_pair(total, pair):
    return total + pair.a


FOLDS = {  # of the sequences of ELEMENTS: zero and step
    "<a=float32,b=int32>": (np.float32(0.5), add_pair),
    "float32": (np.float32(0.5), add_float),
    "int32": (np.int32(7), add_int),
}


def program_of(data):
    """Return a computation, the argument of a call and the number of clients."""
    draw = Draw(data)
    clients, size = draw.below(13), draw.below(4)
    if draw.below(8) == 0:
        clients += 64  # more than there are blocks to fold
    types = [fm.type_at_clients(draw.member()) for _ in range(1 + draw.below(3))]
    types += [fm.type_at_clients((np.int32, [2])) for _ in range(draw.below(2))]
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
