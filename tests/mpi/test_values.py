"""Values at the server and at the clients: placeholders, replicate, client data, local computations."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import json
import pathlib
from collections import OrderedDict
from typing import NamedTuple

import ml_dtypes  # noqa: F401 - NumPy knows "bfloat16"
import numpy as np
import pytest

import fedmpi as fm
from tests import programs
from tests.programs import F32, assert_same

pytestmark = pytest.mark.mpi
MODEL = fm.to_type(collections.OrderedDict(w=(F32, [2]), b=F32))


@fm.federated_computation(fm.type_at_clients(MODEL))
def mean_model(models):
    return fm.federated_mean(models)


@fm.federated_computation(fm.type_at_server(MODEL), fm.type_at_clients(MODEL))
def next_model(model, models):
    return fm.federated_mean(fm.federated_zip((models, fm.federated_broadcast(model))))


MODELS = [{"w": [1.0, 2.0], "b": 3.0}, {"w": [3.0, 6.0], "b": 5.0}]


def test_a_result_at_the_server_goes_into_the_next_call(comm):
    model = mean_model(MODELS)
    pair = fm.replicate(next_model(model, MODELS))
    assert_same(pair[0], collections.OrderedDict(w=np.array([2.0, 4.0], F32), b=F32(4.0)))
    assert_same(pair[1], pair[0])


def test_placeholder(comm):
    model = mean_model(MODELS)
    number = programs.mean_temperature([1.0, 2.0])
    assert f"{number:.3f} {number!s} {number!r} {model}"  # texts never raise
    if fm.is_server():
        return
    assert str(number) == "<float32@SERVER, on rank 0>"
    assert str(model.type_signature) == "<w=float32[2],b=float32>@SERVER"
    assert str(model.w) == str(model["w"]) == str(model[0]) == str(model[-2]) == "<float32[2]@SERVER, on rank 0>"
    w, b = model
    assert len(model) == 2
    assert (str(w), str(b)) == (str(model.w), str(model.b))
    assert str(model[0:1]) == f"({w},)"
    for use in (
        lambda: float(number), lambda: bool(number), lambda: number + 1, lambda: 1 - number, lambda: number == 1,
        lambda: number < 1, lambda: np.asarray(number), lambda: np.sqrt(number), lambda: -number, lambda: hash(number),
        lambda: len(number), lambda: number[0], lambda: list(number), lambda: int(number), lambda: round(number),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"fm\.replicate\(value\) brings it to every rank"):
            use()
    with pytest.raises(AttributeError, match="no element 'zz'"):
        _ = model.zz
    with pytest.raises(KeyError):
        _ = model["zz"]
    with pytest.raises(IndexError):
        _ = model[2]
    with pytest.raises(AttributeError, match="cannot be changed"):
        model.w = 1


def test_anything_may_stand_for_a_server_value_on_other_ranks(comm):
    given = 70.0 if fm.is_server() else None
    assert fm.replicate(programs.above([68.0, 71.0], given)) == [F32(-2.0), F32(1.0)]


def test_a_struct_of_server_values_is_not_looked_at_on_other_ranks(comm):
    @fm.federated_computation((fm.type_at_server(F32), fm.type_at_server(F32)), fm.type_at_clients(F32))
    def program(state, values):
        return state[0], fm.federated_mean(values)

    state = (1.0, 2.0) if fm.is_server() else None
    assert fm.replicate(program(state, [3.0])) == (F32(1.0), F32(3.0))


def test_a_result_that_is_a_container_is_a_container_of_placeholders(comm):
    sums, mean = programs.pairs([(1.0, 2.0), (3.0, 4.0)])
    if not fm.is_server():
        assert str(sums) == "<<float32,float32>@SERVER, on rank 0>"
        assert str(mean) == "<float32@SERVER, on rank 0>"
    result = programs.structs([{"a": 1.0, "b": [1.0, 2.0]}])
    assert type(result) is collections.OrderedDict
    assert list(result) == ["mean", "first", "zipped"]


@pytest.mark.parametrize(
    "value",
    [
        3, 2.5, "text", None, True, 1 + 2j, F32(1.5), np.arange(6.0).reshape(2, 3), np.array([], np.int32), [], (), {},
        [1, (2.0, "a"), {"b": np.zeros(2), "c": [None]}], collections.OrderedDict(z=1, a=2), np.array(5), np.True_,
    ],
    ids=str,
)  # fmt: skip
def test_replicate(comm, value):
    got = fm.replicate(value if fm.is_server() else "something else")
    assert_same(got, value)
    assert type(got) is type(value)


def test_replicate_keeps_containers_of_placeholders(comm):
    @fm.federated_computation(fm.type_at_clients(F32))
    def program(x):
        return programs.Pair(fm.federated_mean(x), fm.federated_sum(x))

    assert_same(fm.replicate(program([1.0, 3.0])), programs.Pair(F32(2.0), F32(4.0)))
    at_server = fm.federated_computation(lambda x: fm.federated_zip(programs.Pair(x, x)), fm.type_at_server(F32))
    assert_same(fm.replicate(at_server(1.0)), programs.Pair(F32(1.0), F32(1.0)))


class Colour(enum.IntEnum):
    RED = 3


class Texts(str):
    pass


class Numbers(list):
    pass


class Keyed(dict):
    pass


class Point(NamedTuple):
    x: object
    y: object


@dataclasses.dataclass(frozen=True)
class Model:
    weights: object
    bias: float = 0.0


@dataclasses.dataclass
class Derived:
    x: int
    twice: int = dataclasses.field(init=False)

    def __post_init__(self):
        self.twice = 2 * self.x


class Units(np.ndarray):
    pass


STRUCTURED = np.array([(1, 2.0, "ab"), (3, 4.0, "c")], [("a", "<i4"), ("b", ">f8"), ("c", "U2")])
REPLICATED = [
    np.array([1.0, 2.0], ">f4"), np.array([1, 2], ">i8"), np.array(["abc", "é"], ">U3"), np.array([b"ab", b"c"]),
    STRUCTURED, STRUCTURED[0], STRUCTURED["b"],
    np.zeros(2, {"names": ["a", "b"], "formats": ["i1", ("f8", (2, 2))], "offsets": [0, 8], "itemsize": 48}),
    np.array(["2024-01-01", "NaT"], "M8[D]"), np.timedelta64(5, "ms"), np.array(5), np.zeros((3, 0, 2), np.int8),
    np.arange(12.0).reshape(3, 4).T, np.asfortranarray(np.arange(6).reshape(2, 3))[:, ::2], np.float16(1.5),
    np.array([1.5, -2], "bfloat16"), np.longdouble(1) / 3, np.array([1 + 2j], ">c8"),
    np.array([[b"a", None], ["x", [1]]], object),
    np.bytes_(b"a\0"), np.str_("a\0"), np.void(b"abc"), np.array([b"", b""]), np.bool_(True), np.array([True]),
    {1: 2.0, 2: 3.0}, {(1, 2): 3}, {None: 1}, {1: "a", "1": "b"}, {True: 1, 2.5: 2, b"k": 3, np.int32(4): 5},
    {"b": 1, "a": 2},
    OrderedDict(b=1, a=2), [], (), {}, "", b"", bytearray(b"ab"), 10**5000, -(2**70), -0.0, float("inf"), 1 - 0.0j,
    "\ud83d\ude00 \udcff \0", True, 1, 1.0, Point(1, np.zeros(2)), Model(np.ones(2)), [Model(Point({"a": (1,)}, None))],
    Numbers([1, Numbers()]), Keyed(a=1), pathlib.PurePosixPath("a/b"),
]  # fmt: skip


@pytest.mark.parametrize("value", REPLICATED, ids=lambda value: type(value).__name__)
def test_replicate_gives_all_ranks_the_same_value_and_class(comm, value):
    want = json.dumps(_told(value)).encode()
    for context in (fm.MpiContext(), fm.ReferenceContext()):
        with context:
            got = fm.replicate(value if fm.is_server() else object())
        assert json.dumps(_told(got)).encode() == want
        assert got is not value or not isinstance(value, np.ndarray | list | dict)
        assert not isinstance(got, np.ndarray) or got.flags.writeable
    if isinstance(value, dict):
        assert list(got) == list(value)


def _told(value):
    """Return a description of a value that differs wherever values or classes do."""
    name = type(value).__qualname__
    if isinstance(value, np.ndarray):
        items = _told(value.tolist()) if value.dtype == object else value.tobytes().hex()
        return [name, str(value.dtype), value.shape, items]
    if isinstance(value, np.generic):
        return [name, str(value.dtype), np.asarray(value).tobytes().hex(), ascii(value)]
    if dataclasses.is_dataclass(value):
        return [name, _told(dataclasses.astuple(value))]
    if isinstance(value, dict):
        return [name, [[_told(k), _told(v)] for k, v in value.items()]]
    if isinstance(value, list | tuple):
        return [name, [_told(part) for part in value]]
    return [name, f"{value:x}" if type(value) is int else ascii(value)]


CYCLE: list[object] = [1]
CYCLE.append({"a": CYCLE})
DEEP: list[object] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (np.ma.array([1.0, 2.0], mask=[0, 1]), r"a MaskedArray of float64\[2\]\n.*\n  hint: .*np\.ma\.getmaskarray"),
        (np.array([[1, 2]]).view(np.matrix), r"a matrix of int64\[1, 2\]\n.*\n  hint: give a plain array: np\.asarray"),
        (np.zeros(2).view(Units), "a Units of float64"),
        (np.rec.array([(1, 2)], "i4,i4"), "a recarray of"),
        (np.array(["a"], np.dtypes.StringDType()), "an array of dtype StringDType"),
        (np.array([(1, "a")], [("a", "i4"), ("b", "O")]), "an array of dtype"),
        ({"a": [1, {"b": Colour.RED}]}, r"a Colour in value\['a'\]\[1\]\['b'\]\n.*\n  hint: give its value"),
        (Texts("a"), r"a Texts\n.*\n  hint: give a plain str"),
        (collections.Counter("aab"), r"a Counter .*\n.*\n  hint: give a plain dict"),
        (collections.defaultdict(list, a=1), "a defaultdict"),
        ({Colour.RED: 1}, r"a Colour in value \(a key\)"),
        (Derived(2), "a Derived"),
        (collections.namedtuple("Local", "x")(1), "a Local, whose class is not to be found"),
        ({1, 2}, r"a set\n.*\n  hint: give a list"),
        (memoryview(b"a"), "a memoryview"),
        (datetime.date(2024, 1, 1), "a date"),
        (range(3), "a range"),
        (np.float32, "a type"),
        (programs.total, "a "),
        (fm.SequenceType(np.float32), "a SequenceType"),
        (fm.SERVER, "a PlacementLiteral"),
        (CYCLE, r"a container that holds itself in value\[1\]\['a'\]"),
        (DEEP, "a nest that is too deep"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_replicate_refuses_with_the_kind_and_a_hint(comm, value, text):
    wanted = "replicate: value must be made of arrays, numbers, texts, bytes and .*, found "
    if text.startswith("a Local") and comm.size == 1:
        return  # known here
    for context in (fm.MpiContext(), fm.ReferenceContext()):
        with context, pytest.raises(TypeError, match=wanted + text if "Local" not in text else text):
            fm.replicate(value if fm.is_server() else None)
        if "Local" in text:
            break
    assert fm.replicate(5) == 5


def test_replicate_of_client_data_and_placeholders(comm):
    with pytest.raises(TypeError, match="found ClientData"):
        fm.replicate([fm.client_data([1.0], F32)])
    got = fm.replicate(np.memmap(__file__, np.uint8, "r")[:5])
    assert type(got) is np.ndarray


def test_replicate_refuses_what_it_cannot_send(comm):
    with pytest.raises(TypeError, match="replicate: value must be made of arrays"):
        fm.replicate(object())


def test_client_data_is_packed_once_and_owned_once(comm):
    lengths = [3, 0, 5, 1, 1, 8, 2]
    readings = [[float(i) for i in range(n)] for n in lengths]
    data = fm.client_data(readings, fm.type_at_clients(fm.SequenceType(F32)))
    assert len(data) == len(lengths)
    everyone = sorted(
        int(i)
        for part in comm.allgather_bytes(np.array(data.owned, np.int64).view(np.uint8))
        for i in part.view(np.int64)
    )
    assert everyone == list(range(len(lengths)))
    if comm.size > 1:
        assert (comm.rank == 0) == (not data.owned) or len(lengths) < comm.size
    expected = fm.replicate(programs.mean_of_means(readings))
    for _ in range(2):
        assert fm.replicate(programs.mean_of_means(data)) == expected
    assert "ClientData" in repr(data)


def test_client_data_that_lives_on_different_ranks_comes_together(comm):
    texts = ["a" * n for n in (1, 50, 2, 40, 3)]
    long_first = fm.client_data([[float(j) for j in range(n)] for n in (9, 1, 1, 1, 1)], fm.SequenceType(F32))
    long_last = fm.client_data([float(n) for n in range(5)], F32)
    assert fm.replicate(programs.reduced(long_first, long_last)) == [F32(36.0), F32(1.0), F32(2.0), F32(3.0), F32(4.0)]
    assert fm.replicate(programs.echo(fm.client_data(texts, np.str_))) == texts


def test_local_computations_run_on_every_rank(comm):
    assert programs.plus(1.0, 2.0) == F32(3.0)
    if not fm.is_server():
        with pytest.raises(TypeError, match="a placeholder for float32@SERVER"):
            programs.plus(programs.mean_temperature([1.0]), 1.0)
    else:
        programs.mean_temperature([1.0])


def test_more_ranks_than_clients_and_ranks_without_clients(comm):
    for count in range(1, 6):
        values = [float(i) for i in range(count)]
        assert fm.replicate(programs.total(list(range(count)))) == sum(range(count))
        assert fm.replicate(programs.mean_temperature(values)) == F32(np.mean(values))


def test_plan(comm):
    from fedmpi import tutorial

    text = str(fm.plan(tutorial.federated_train))
    assert text.count("Bcast") == text.count("Reduce") == 1
    assert "Bcast 31,404 B" in text


def test_resident_results_stay_with_their_clients(comm):
    """Client state travels from call to call as a `ClientData`; nothing is gathered."""
    state = fm.client_data([1.0, 2.0, 3.0, 4.0], F32)
    for _ in range(3):
        state = programs.shifted.resident(state, 10.0)
        assert isinstance(state, fm.ClientData)
        assert len(state) == 4
    assert fm.replicate(programs.mean_temperature(state)) == F32(32.5)
    result = programs.structs.resident([{"a": 1.0, "b": [1.0, 2.0]}, {"a": 3.0, "b": [5.0, 6.0]}])
    assert fm.replicate(programs.mean_temperature(result["first"])) == F32(2.0)
    assert fm.ReferenceContext().invoke(programs.shifted, ([1.0], 1.0), resident=True).column[0] == F32(2.0)


def test_an_equal_value_stays_as_one_for_each_client(comm):
    both = programs.for_each.resident(2.5, [1.0, 2.0, 3.0])
    assert fm.replicate(programs.each(both[0])) == [F32(2.5)] * 3
    with pytest.raises(ValueError, match=r"the number of clients is not known"):
        fm.federated_computation(lambda x: programs.each(fm.federated_broadcast(x)), fm.type_at_server(F32))(1.0)
