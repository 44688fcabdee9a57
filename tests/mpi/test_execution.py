"""Calls as language.md, section 4, has them: arguments in every form, cardinalities, results in their containers.

Each is tried in compiled loops, client by client, with clients on rank 0 too, and on the reference evaluator.
"""

from __future__ import annotations

import collections
import dataclasses
import typing

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import AT_CLIENTS, AT_SERVER, F32, I32, assert_same

pytestmark = pytest.mark.mpi
fc = fm.federated_computation
ALL_EQUAL = fm.FederatedType(F32, fm.CLIENTS, True)
FLOATS = fm.SequenceType(F32)
Named = collections.namedtuple("Named", "a b")
OD = collections.OrderedDict


class Typed(typing.NamedTuple):
    """A pair of scalars."""

    a: np.float32
    b: np.int32


@dataclasses.dataclass
class Data:
    """The same as a dataclass."""

    a: np.float32
    b: np.int32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keywords:
    """The same as a dataclass that takes keywords only."""

    a: np.float32
    b: np.int32


NAMED = {
    "dict": {"a": F32, "b": I32},
    "OrderedDict": OD(a=F32, b=I32),
    "namedtuple": Named(F32, I32),
    "NamedTuple": Typed,
}
NAMED |= {"dataclass": Data, "keywords": Keywords, "no container": fm.StructType([("a", F32), ("b", I32)])}
UNNAMED = {"list": [F32, I32], "tuple": (F32, I32), "neither": fm.StructType([F32, I32])}
VALUES = [[1.5, 2], (1.5, 2), Named(1.5, 2), Typed(1.5, 2)]
VALUES += [Data(1.5, 2), Keywords(a=1.5, b=2)]  # as a named tuple: its elements in their order
NAMED_VALUES = [{"b": 2, "a": 1.5}, OD(b=2, a=1.5)]


def contexts():
    yield fm.MpiContext(fuse=True)
    yield fm.MpiContext(fuse=False)
    yield fm.MpiContext(server_trains=True)
    yield fm.ReferenceContext()


def gives(program, *arguments, want, **keywords):
    """Assert what a program returns on every context, on every rank."""
    for context in contexts():
        fm.set_default_context(context)
        assert_same(plain(fm.replicate(program(*arguments, **keywords))), plain(want))


def plain(value):
    """Return a nest in which a dataclass is a pair of its class and its fields: `assert_same` compares containers."""
    if dataclasses.is_dataclass(value):
        return (type(value).__name__, {name: plain(part) for name, part in vars(value).items()})
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(map(plain, value))
    return value


def refuses(kind, program, *arguments, match, **keywords):
    """Assert what a program raises on every context, on every rank; the next call works."""
    for context in contexts():
        fm.set_default_context(context)
        with pytest.raises(kind, match=match):
            program(*arguments, **keywords)
        assert fm.replicate(1) == 1


def made(type_, a, b):
    """Return the pair in the container that a result of this type has."""
    container = fm.to_type(type_).python_container
    if container in (list, tuple):
        return container((a, b))
    if container is None:
        return OD(a=a, b=b) if fm.to_type(type_).fields() else (a, b)
    return container(a=a, b=b)


@pytest.mark.parametrize("name", [*NAMED, *UNNAMED])
def test_containers(comm, name):
    type_ = {**NAMED, **UNNAMED}[name]
    pair, member = made(type_, F32(1.5), I32(2)), fm.to_type(type_)
    for given in VALUES + (NAMED_VALUES if name in NAMED else []):
        gives(fc(lambda x: x, member), given, want=pair)
    given = VALUES[0]
    gives(fc(lambda x: x, AT_SERVER(member)), given, want=pair)
    gives(fc(lambda x: x, fm.FederatedType(member, fm.CLIENTS, True)), given, want=pair)
    values = VALUES + (NAMED_VALUES if name in NAMED else [])
    gives(fc(lambda x: x, AT_CLIENTS(member)), values, want=[pair] * len(values))
    gives(fc(lambda x: (x.a if name in NAMED else x[0], x), AT_CLIENTS(member)), [given], want=([F32(1.5)], [pair]))
    inside = made(type_, F32(1.5), I32(2))
    if isinstance(inside, list):
        inside = tuple(inside)  # which of the two it was, a sequence does not keep
    gives(fc(lambda x: x, fm.SequenceType(member)), [given, given], want=[inside, inside])
    gives(fc(lambda x: x, AT_CLIENTS(fm.SequenceType(member))), [[given], []], want=[[inside], []])


@pytest.mark.parametrize("given", NAMED_VALUES, ids=lambda v: type(v).__name__)
def test_names_for_elements_without_names(comm, given):
    match = r"(?s)p: expected <float32,int32>, found a \w+.*elements without names are given by a list or a tuple"
    refuses(TypeError, fc(lambda p: p, (F32, I32)), given, match=match)
    refuses(TypeError, fc(lambda p: p, AT_CLIENTS((F32, I32))), [given], match="client 0: expected <float32,int32>")


def test_containers_of_results(comm):
    def body(x):
        total = fm.federated_sum(x)
        return OD(l=[total, x], t=(total,), d={"x": 1.0}, n=Named(x, "text"), c=Data(total, 2), e=[(), {}, []])

    total, members = F32(3.0), [F32(1.0), F32(2.0)]
    gives(
        fc(body, AT_CLIENTS(F32)),
        [1.0, 2.0],
        want=OD(
            l=[total, members], t=(total,), d={"x": F32(1.0)}, n=Named(members, "text"), c=Data(total, I32(2)),
            e=[(), {}, []],
        ),
    )  # fmt: skip
    gives(fc(lambda x: fm.federated_zip(OD(b=x, a=x)), AT_CLIENTS(F32)), [1.0], want=[OD(b=F32(1.0), a=F32(1.0))])
    mixed = fc(lambda x: x, fm.StructType([F32, ("a", F32)]))
    refuses(ValueError, mixed, [1.0, 2.0], match="elements with and without names")


def test_calls(comm):
    pair = fc(lambda a, b: (a, b), F32, I32)
    want = (F32(1.5), I32(2))
    for arguments, keywords in [((1.5, 2), {}), ((1.5,), {"b": 2}), ((), {"b": 2, "a": 1.5})]:
        gives(pair, *arguments, **keywords, want=want)
    for whole in (*VALUES, *NAMED_VALUES):
        gives(pair, whole, want=want)
    sums = fc(lambda a, b: (fm.federated_sum(a), fm.federated_sum(b)), AT_CLIENTS(F32), AT_CLIENTS(I32))
    want = (F32(4.0), I32(7))
    for arguments, keywords in [
        (([1.5, 2.5], [3, 4]), {}),
        (([1.5, 2.5],), {"b": [3, 4]}),
        ((), {"b": (3, 4), "a": [1.5, 2.5]}),
    ]:
        gives(sums, *arguments, **keywords, want=want)
    gives(sums, {"b": [3, 4], "a": [1.5, 2.5]}, want=want)
    gives(sums, ([1.5, 2.5], [3, 4]), want=want)
    mixed = fc(lambda a, b, c, d, e: (a, b, c, d, e), AT_CLIENTS(F32), AT_SERVER(F32), ALL_EQUAL, I32, FLOATS)
    want = ([F32(1.0)], F32(2.0), F32(3.0), I32(4), [F32(5.0)])
    gives(mixed, [1.0], 2.0, 3.0, 4, [5.0], want=want)
    gives(mixed, [1.0], e=[5.0], d=4, c=3.0, b=2.0, want=want)
    gives(fc(lambda: fm.federated_value("text", fm.SERVER)), want="text")


@pytest.mark.parametrize(
    ("arguments", "keywords", "match"),
    [
        ((1.5,), {}, "expected <a=float32,b=int32>, found float 1.5"),
        ((), {}, "a of type float32 is missing"),
        ((1.5, 2, 3), {}, "takes 2 arguments, found 3"),
        ((1.5,), {"a": 1.5}, "a is given twice"),
        ((1.5, 2), {"c": 3}, "no parameter c; it has a, b"),
        ((2, 1.5), {}, "parameter a: expected float32, found int 2"),
    ],
    ids=str,
)
def test_calls_that_do_not_fit(comm, arguments, keywords, match):
    refuses(TypeError, fc(lambda a, b: (a, b), F32, I32), *arguments, **keywords, match=match)


@pytest.mark.parametrize(
    ("type_", "given", "want"),
    [
        (F32, np.float16(1.5), F32(1.5)),
        (F32, np.array(1.5, F32), F32(1.5)),
        (np.float64, np.float32(1.5), np.float64(1.5)),
        (I32, np.int16(3), I32(3)),
        (I32, np.uint16(3), I32(3)),
        (np.uint8, 255, np.uint8(255)),
        (np.bool_, True, np.True_),
        (np.complex64, 1j, np.complex64(1j)),
        (np.str_, "Grüße", "Grüße"),
        (np.str_, "Grüße".encode(), "Grüße"),
        ((F32, [2]), [1.0, 2.0], np.array([1, 2], F32)),
        ((F32, [2]), (F32(1), F32(2)), np.array([1, 2], F32)),
        ((F32, [None]), [], np.zeros(0, F32)),
        ((I32, [None, 2]), [[1, 2], [3, 4]], np.array([[1, 2], [3, 4]], I32)),
        (FLOATS, (1.0, 2.0), [F32(1.0), F32(2.0)]),
    ],
    ids=str,
)
def test_values_that_fit(comm, type_, given, want):
    gives(fc(lambda x: x, fm.to_type(type_)), given, want=want)
    gives(fc(lambda x: x, AT_SERVER(type_)), given, want=want)
    gives(fc(lambda x: x, AT_CLIENTS(type_)), (given, given), want=[want, want])


@pytest.mark.parametrize(
    ("type_", "given", "found"),
    [
        (F32, 1, "int 1"),
        (F32, True, "bool True"),
        (F32, np.float64(1.5), "float64 1.5"),
        (F32, [1.0], r"float64\[1\]"),
        (F32, 1e39, r"float 1e\+39, which is too large"),
        (F32, None, "None"),
        (I32, 1.0, "float 1.0"),
        (I32, 2**31, "int 2147483648"),
        (I32, np.int64(1), "int64 1"),
        (np.bool_, 1, "int 1"),
        (np.complex64, 1.0, "float 1.0"),
        (np.str_, 1, "int 1"),
        (np.str_, b"\xff", "bytes that are no UTF-8 text"),
        ((F32, [2]), np.array([1.0, 2.0]), r"float64\[2\]"),
        ((F32, [2]), [1.0], r"float64\[1\]"),
        ((F32, [None]), np.zeros((1, 1), F32), r"float32\[1,1\]"),
        (FLOATS, np.zeros(2, F32), r"float32\[2\]"),
        (FLOATS, "ab", "str 'ab'"),
    ],
    ids=str,
)
def test_values_that_do_not_fit(comm, type_, given, found):
    expected = str(fm.to_type(type_)).translate({ord(c): "\\" + c for c in "[?]*"})
    match = rf"lambda: parameter x: expected {expected}, found {found}"
    refuses(TypeError, fc(lambda x: x, fm.to_type(type_)), given, match=match)
    refuses(TypeError, fc(lambda x: x, AT_SERVER(type_)), given, match=match)
    match = rf"lambda: parameter x, client 0: expected {expected}, found {found}"
    refuses(TypeError, fc(lambda x: x, AT_CLIENTS(type_)), [given], match=match)


@pytest.mark.parametrize(
    "given",
    [1.0, {0: 1.0}, {1.0}, np.ones(2, F32), iter([1.0]), None, "ab", range(2)],
    ids=lambda given: repr(type(given)),
)
def test_what_is_no_list_of_clients(comm, given):
    match = r"parameter x: expected a list with one value for each client for \{float32\}@CLIENTS, found"
    refuses(TypeError, fc(lambda x: x, AT_CLIENTS(F32)), given, match=match)


def test_cardinalities(comm):
    sums = fc(lambda a, b: (fm.federated_sum(a), fm.federated_sum(b)), AT_CLIENTS(F32), AT_CLIENTS(I32))
    refuses(ValueError, sums, [1.0], [2, 3], match="Conflicting cardinalities for CLIENTS: 1 vs 2")
    refuses(ValueError, sums, [], [2], match="Conflicting cardinalities for CLIENTS: 0 vs 1")
    gives(sums, [], [], want=(F32(0.0), I32(0)))
    gives(fc(lambda x: x, AT_CLIENTS(F32)), [], want=[])
    lonely = fc(lambda x: fm.federated_sum(x), ALL_EQUAL)
    refuses(ValueError, lonely, 2.0, match="the number of clients is not known")
    for make in (fm.MpiContext, fm.ReferenceContext):
        with make(num_clients=3):
            assert fm.replicate(lonely(2.0)) == F32(6.0)
            assert fm.replicate(fc(lambda: fm.federated_eval(fc(lambda: 1.0), fm.CLIENTS))()) == [F32(1.0)] * 3
            assert fm.replicate(fc(lambda x: fm.federated_sum(x), AT_CLIENTS(F32))([1.0])) == F32(1.0)


def test_a_tensor_of_unknown_rank(comm):
    unknown = fm.TensorType(F32, None)
    gives(fc(lambda x: x, unknown), [[1.0]], want=np.array([[1.0]], F32))
    fm.set_default_context(fm.MpiContext())
    for type_ in (AT_SERVER(unknown), AT_CLIENTS(unknown), fm.FederatedType(unknown, fm.CLIENTS, True)):
        with pytest.raises(
            TypeError, match=r"lambda: a tensor of unknown rank, 'float32'\(shape=None\), cannot be sent"
        ):
            fc(lambda x: x, type_)([1.0])
    assert fm.replicate(1) == 1
