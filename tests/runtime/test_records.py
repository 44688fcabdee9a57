"""The hash of a result: equal values have one hash, different ones differ, wherever the clients' values are."""

from __future__ import annotations

import collections
import json
import logging
import os
import subprocess
import sys

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.language.types import StructType, TensorType
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.comparing import difference, to_the_bit
from fedmpi.local.columns.values import normalise, present
from fedmpi.runtime import watch
from fedmpi.runtime.watch import sha256
from tests.mpijob import ROOT

F32, I32 = np.float32, np.int32
TEXTS = fm.to_type((np.str_, [None]))
Pair = collections.namedtuple("Pair", ["a", "b"])


def seq(type_):
    return fm.SequenceType(type_)


# Near misses: each pair has the same bytes in the leaves, in some order or cut.
DIFFERENT = [
    ((F32(0.0), F32), (F32(-0.0), F32)),
    ((F32(1.0), F32), (np.float64(1.0), np.float64)),
    ((F32(0.0), F32), (I32(0), I32)),
    ((np.int32(1), np.int32), (np.uint32(1), np.uint32)),
    ((np.zeros((2, 3), F32), (F32, [2, 3])), (np.zeros((3, 2), F32), (F32, [3, 2]))),
    ((np.zeros((2, 3), F32), (F32, [None, None])), (np.zeros((3, 2), F32), (F32, [None, None]))),
    ((np.zeros((1, 0), F32), (F32, [None, None])), (np.zeros((0, 1), F32), (F32, [None, None]))),
    ((np.zeros((1,), F32), (F32, [1])), (F32(0), F32)),
    ((np.zeros((1,), F32), (F32, [1])), (np.zeros((1,), F32), (F32, [None]))),
    (("ab", np.str_), ("a\0b", np.str_)),
    ((np.array(["ab", "c"], object), TEXTS), (np.array(["a", "bc"], object), TEXTS)),
    ((np.array(["", "a"], object), TEXTS), (np.array(["a", ""], object), TEXTS)),
    (([[1.0], [2.0, 3.0]], seq((F32, [None]))), ([[1.0, 2.0], [3.0]], seq((F32, [None])))),
    (([[], [1.0]], seq((F32, [None]))), ([[1.0], []], seq((F32, [None])))),
    (([], seq(F32)), ([], seq(I32))),
    (([], seq((F32, [None]))), ([[]], seq((F32, [None])))),
    (({"a": F32(1), "b": F32(2)}, [("a", F32), ("b", F32)]), ({"a": F32(2), "b": F32(1)}, [("a", F32), ("b", F32)])),
    (({"a": F32(1)}, StructType([("a", TensorType(F32))])), ({"b": F32(1)}, StructType([("b", TensorType(F32))]))),
    (({"a": F32(1)}, StructType([("a", TensorType(F32))])), ((F32(1),), StructType([TensorType(F32)]))),
    (
        # Their texts are one: <a=float32,b=float32>.
        ({"a": F32(1), "b": F32(1)}, StructType([("a", TensorType(F32)), ("b", TensorType(F32))])),
        ({"a=float32,b": F32(1)}, StructType([("a=float32,b", TensorType(F32))])),
    ),
    (([F32(1), F32(2)], fm.type_at_clients(F32)), ([F32(2), F32(1)], fm.type_at_clients(F32))),
    (([F32(1)], fm.type_at_clients(F32)), (F32(1), fm.type_at_server(F32))),
    (([[1.0], []], fm.type_at_clients(seq(F32))), ([[], [1.0]], fm.type_at_clients(seq(F32)))),
    ((F32(1), fm.type_at_server(F32)), (F32(1), F32)),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_near_misses_differ(one, other):
    hashes = [sha256(value, fm.to_type(type_)) for value, type_ in (one, other)]
    assert hashes[0] != hashes[1]
    assert hashes == [sha256(value, fm.to_type(type_)) for value, type_ in (one, other)]


def test_every_bit_of_a_nan_counts():
    quiet, payload = np.array([0x7FC00000, 0x7FC00001], np.uint32).view(F32)
    assert np.isnan(payload)
    assert sha256(quiet, fm.to_type(F32)) != sha256(payload, fm.to_type(F32))


def test_the_hash_does_not_change():
    """Other releases and machines shall find the same: this is SHA-256 of what the module's text says."""
    import hashlib

    value = np.array([[1, 2], [3, 4]], np.int16)
    expected = b'["int16", [2, 2]]\n' + np.array([2, 2, 2], "<u8").tobytes() + np.array([1, 2, 3, 4], "<i2").tobytes()
    assert sha256(value, fm.to_type((np.int16, [2, 2]))) == hashlib.sha256(expected).hexdigest()
    assert sha256(value.T.copy().T, fm.to_type((np.int16, [2, 2]))) == hashlib.sha256(expected).hexdigest()


def test_a_container_is_no_part_of_a_value():
    parts = [("a", F32), ("b", F32)]
    types = [
        fm.StructType(parts),
        fm.StructWithPythonType(parts, Pair),
        fm.StructWithPythonType(parts, dict),
    ]
    values = [collections.OrderedDict(b=F32(2), a=F32(1)), Pair(F32(1), F32(2)), {"a": F32(1), "b": F32(2)}]
    assert len({sha256(value, type_) for value, type_ in zip(values, types, strict=True)}) == 1


# Any values of some types.

leaf_types = st.sampled_from(
    [
        TensorType(np.float32),
        TensorType(np.float32, [None]),
        TensorType(np.int16, [2, None]),
        TensorType(np.complex64),
        TensorType(np.bool_, [2]),
        TensorType(np.str_),
        TensorType(np.str_, [None]),
    ]
)


def structs(parts):
    return st.lists(parts, min_size=1, max_size=3).flatmap(
        lambda made: st.sampled_from([StructType(made), StructType([(f"f{i}", part) for i, part in enumerate(made)])])
    )


elements = st.recursive(leaf_types, structs, max_leaves=4)
types = elements | elements.map(fm.SequenceType) | structs(elements | elements.map(fm.SequenceType))


def values(type_):
    """Return a strategy of normalised values."""
    match type_:
        case TensorType(dtype, shape):
            shapes = st.tuples(*(st.integers(0, 3) if size is None else st.just(size) for size in shape))
            if dtype.kind == "U":
                texts = st.text(max_size=3)
                if not shape:
                    return texts
                return shapes.flatmap(lambda s: hnp.arrays(object, s, elements=texts, fill=st.nothing()))
            return shapes.flatmap(lambda s: hnp.arrays(dtype, s)).map(lambda a: a[()] if not shape else a)
        case StructType():
            return st.tuples(*map(values, type_))
    return st.lists(values(type_.element), max_size=3)


@settings(deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), values(t), values(t))))
def test_hashes_are_equal_where_values_are(drawn):
    type_, one, other = drawn
    assert (sha256(one, type_) == sha256(other, type_)) == (difference(one, other, to_the_bit) == "")


@settings(deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), values(t))))
def test_a_value_is_hashed_alike_in_every_form(drawn):
    type_, value = drawn
    packed = pack(type_, [normalise(value, type_)])[0]
    assert sha256(value, type_) == sha256(packed, type_) == sha256(present(packed, type_), type_)


@settings(deadline=None)
@given(types.flatmap(lambda t: st.tuples(st.just(t), st.lists(values(t), max_size=4))))
def test_client_data_and_the_list_have_one_hash(drawn):
    type_, members = drawn
    data = ClientData(type_, np.zeros(len(members), np.int32), 0, pack(type_, [normalise(m, type_) for m in members]))
    placed = fm.type_at_clients(type_)
    assert sha256(data, placed) == sha256(members, placed)


def test_of_a_cohort_its_clients_are_hashed():
    type_, placed = fm.to_type(F32), fm.type_at_clients(F32)
    data = ClientData(type_, np.zeros(4, np.int32), 0, pack(type_, [F32(i) for i in range(4)]))
    assert sha256(data.select([2, 0]), placed) == sha256([F32(2), F32(0)], placed)


class FakeRanks:
    """What three ranks send, for the part of rank 0: a communicator that has it already."""

    size, rank = 3, 0

    def __init__(self, sent):
        self.sent = sent

    def gather_bytes(self, data):
        self.sent[0] = data
        return self.sent


class FakeRank:
    size = 3

    def gather_bytes(self, data):
        self.sent = data


def test_the_digests_of_all_ranks_stand_in_the_order_of_the_clients():
    type_, members = fm.to_type(F32), [F32(i) for i in range(7)]
    owner = np.array([2, 1, 2, 2, 0, 1, 2], np.int32)
    sent = [None, None, None]
    results = []
    for rank in range(3):
        mine = [m for m, r in zip(members, owner, strict=True) if r == rank]
        results.append(watch._Result(ClientData(type_, owner, rank, pack(type_, mine)), fm.type_at_clients(type_)))
        other = FakeRank()
        if rank:
            assert results[rank].client_digests(other) is None
            sent[rank] = other.sent
    digests = results[0].client_digests(FakeRanks(sent))
    assert results[0].sha256(digests) == sha256(members, fm.type_at_clients(type_))


# Functions.


def adder(number):
    @fm.federated_computation(F32)
    def make(x):
        return fm.federated_computation(lambda y: x + y, F32)

    return make(number)


def constant(*numbers):
    @fm.federated_computation(fm.SequenceType(F32))
    def make(values):
        return fm.federated_computation(lambda: values)

    return make(list(numbers))


@pytest.mark.parametrize("make", [adder, constant])
def test_functions_by_their_program_and_what_they_captured(make):
    one, again, other = make(1.0), make(1.0), make(2.0)
    assert one is not again
    assert sha256(one, one.type_signature) == sha256(again, again.type_signature)
    assert sha256(one, one.type_signature) != sha256(other, other.type_signature)


# Watching.


@fm.python_computation(F32, result=F32)
def inner(x):
    return x + F32(1)


@fm.python_computation(F32, result=F32)
def outer(x):
    return inner(inner(x))


@fm.federated_computation(fm.type_at_clients(F32))
def total(values):
    return fm.federated_sum(fm.federated_map(outer, values))


@pytest.fixture
def reference():
    fm.set_default_context(fm.ReferenceContext())
    yield
    fm.set_default_context(None)


@pytest.fixture
def recorded(tmp_path, monkeypatch, reference):
    path = tmp_path / "record"
    monkeypatch.setattr(watch, "_file", str(path))
    monkeypatch.setattr(watch, "_numbers", iter(range(1, 100)))
    return lambda: [json.loads(line) for line in path.read_text().splitlines()]


def test_what_returns_to_the_program_is_recorded_in_order(recorded):
    outer(1.0)
    total([1.0, 2.0])
    with pytest.raises(TypeError):
        outer("text")
    inner(3.0)
    lines = recorded()
    assert [(line["number"], line["name"], line["type"]) for line in lines] == [
        (1, "outer", "float32"),
        (2, "total", "float32@SERVER"),
        (3, "inner", "float32"),
    ]
    assert [line["sha256"] for line in lines] == [
        sha256(F32(3), fm.to_type(F32)),
        sha256(F32(7), fm.type_at_server(F32)),
        sha256(F32(4), fm.to_type(F32)),
    ]
    assert all(line["where"].startswith("test_records.py:") for line in lines)


def test_a_process_that_this_one_forked_does_not_record(recorded, monkeypatch, tmp_path):
    monkeypatch.setattr(watch, "_pid", -1)
    inner(1.0)
    assert not (tmp_path / "record").exists()


def test_processes_that_a_rank_starts_do_not_see_where_to_record(tmp_path):
    program = "import os, fedmpi; from fedmpi.runtime import watch; print(watch._file, 'FEDMPI_RECORD' in os.environ)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FEDMPI_RECORD": "here"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "here False\n"


def test_a_computation_watched_again_after_an_error_in_it(recorded):
    @fm.python_computation(F32, result=F32)
    def fails(x):
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        fails(1.0)
    inner(1.0)
    assert [line["name"] for line in recorded()] == ["inner"]


def test_federated_calls_are_logged(reference, caplog):
    with caplog.at_level(logging.INFO, "fedmpi"):
        outer(1.0)
        total([1.0, 2.0])
    (message,) = [record.getMessage() for record in caplog.records]
    digest = sha256(F32(7), fm.type_at_server(F32))[:16]
    assert message.startswith("call 1 total at test_records.py:")
    assert message.endswith(f" ms, sha256 {digest}")


def test_nothing_is_hashed_unless_somebody_asks(reference, monkeypatch, caplog):
    monkeypatch.setattr(watch, "_Result", None)
    with caplog.at_level(logging.WARNING, "fedmpi"):
        assert not watch.watching()
        assert total([1.0]) == 3.0
    assert caplog.records == []


class Forgetful(dict):
    """A mapping that a struct goes into but does not come back from, once it is used as a type."""

    forgets = False

    def __init__(self, pairs):
        super().__init__(list(dict(pairs).items())[: 1 if self.forgets else None])


def test_a_result_that_cannot_be_read_is_said_to_be_so(recorded, caplog, tmp_path, monkeypatch):
    type_ = fm.StructWithPythonType([("a", F32), ("b", F32)], Forgetful)

    @fm.python_computation(F32, result=type_)
    def forgets(x):
        return {"a": x, "b": x}

    monkeypatch.setattr(Forgetful, "forgets", True)
    with caplog.at_level(logging.WARNING, "fedmpi"):
        assert forgets(1.0) == {"a": 1.0}
    assert not (tmp_path / "record").exists()
    assert "forgets at test_records.py:" in caplog.text
    assert "the result cannot be hashed: expected <a=float32,b=float32>, found a Forgetful" in caplog.text


def test_what_is_in_the_environment_says_whether_the_server_trains(monkeypatch):
    from fedmpi.runtime.context import default_context

    assert not default_context().server_trains
    monkeypatch.setenv("FEDMPI_SERVER_TRAINS", "1")
    assert default_context().server_trains
