"""Ranks that pass different values, and data of different clients: one error on all ranks, which then go on."""

from __future__ import annotations

import copy
import pickle
import re
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.samples import sample_hash
from tests.programs import F32

pytestmark = pytest.mark.mpi
AT_CLIENTS = fm.type_at_clients(F32)
ROWS = fm.type_at_clients(fm.SequenceType((F32, [None])))
PAIR = fm.type_at_clients({"a": (F32, [2]), "b": np.str_})
REFERENCE = fm.ReferenceContext()


@fm.federated_computation(AT_CLIENTS)
def mean(readings):
    return fm.federated_mean(readings)


@fm.federated_computation(AT_CLIENTS, AT_CLIENTS)
def both(first, second):
    return fm.federated_zip((first, second))


@fm.federated_computation(AT_CLIENTS, F32)
def scaled(readings, factor):
    return fm.federated_map(fm.federated_computation(lambda x: x * factor, F32), readings)


@fm.numba_computation(F32, (F32, [None]))
def add(n, row):
    return n + F32(len(row))


@fm.federated_computation(ROWS)
def lengths(rows):
    return fm.federated_map(fm.federated_computation(lambda r: fm.sequence_reduce(r, 0.0, add), ROWS.member), rows)


@fm.federated_computation(PAIR)
def texts(pairs):
    return pairs


@fm.federated_computation(fm.type_at_server(F32))
def everywhere(value):
    return fm.federated_sum(fm.federated_broadcast(value))


def arrays(value, offsets=(0, 4, 8)):
    return fm.client_data_from_arrays(np.full(8, value, F32), list(offsets), (F32, [None]))


def lists(odd):
    """Yield calls of which some are another one where ``odd``, and what the error says."""
    many = [float(i) for i in range(1000)]
    data = fm.client_data(many[:6], AT_CLIENTS)
    later = fm.client_data(many[:6], AT_CLIENTS)
    vectors = [np.full(5000, i, F32) for i in range(40)]
    other = [*vectors[:39], vectors[0]] if odd else vectors
    pairs = [{"a": [1.0, 2.0], "b": "x"}, OrderedDict(b="z" if odd else "y", a=[1.0, 2.0])]
    yield lambda: mean([1.0, 3.0 if odd else 2.0]), "readings, client 1: 2.0 on rank 0, 3.0 on rank"
    yield lambda: mean(many[::-1] if odd else many), r"readings, client 0: 0.0 on rank 0, 999.0 on rank"
    yield lambda: mean([1.0] * (3 if odd else 2)), "readings: a list of 2 clients on rank 0, a list of 3 clients on"
    yield (
        lambda: lengths([[vectors[0]], [vectors[0][: 3 + odd]]]),
        "rows, the size of client 1: 3 examples on rank 0, 4",
    )
    yield lambda: lengths([[v] for v in other]), r"rows, client 39: \[array\(\[39., .* on rank 0, \[array\(\[0., "
    yield lambda: texts(pairs), "pairs, client 1: .*'y'.* on rank 0, .*'z'.* on rank"
    yield (
        lambda: mean(data.select([0, 3] if odd else [0, 2])),
        "readings, number 1 of the cohort: client 2 on rank 0, c",
    )
    yield lambda: mean(data.select([0, 3 - odd]).renumbered()), "readings, what it was made of: a ClientData, and other"
    yield lambda: mean(later if odd else data), "parameter readings, what it was made of"
    yield lambda: mean(many[:6] if odd else data), "readings: a ClientData of 6 clients on rank 0, a list of 6 clients"
    yield lambda: both(data, data.select([1 - odd, odd, 2, 3, 4, 5]).renumbered()), "parameter second, "
    yield (
        lambda: scaled([1.0], 2.0 if odd else 3.0),
        r"parameter factor: np.float32\(3.0\) on rank 0, np.float32\(2.0\)",
    )
    yield lambda: fm.client_data([1.0, 3.0 if odd else 2.0], F32), "parameter values, client 1: 2.0 on rank 0, 3.0 on"
    yield lambda: arrays(2 if odd else 1), r"arrays, row 0 \(client 0\): np.float32\(1.0\) on rank 0, np.float32\(2.0\)"
    yield lambda: arrays(1, (0, 3 if odd else 4, 8)), "offsets, the size of client 0: 4 rows on rank 0, 3 rows on rank"
    with fm.MpiContext(num_clients=2 + odd):
        yield lambda: everywhere(1.0), r"the number of clients \(num_clients\): 2 on rank 0, 3 on rank"
    with fm.MpiContext(server_trains=bool(odd)):
        yield lambda: mean([1.0, 2.0, 3.0]), "server_trains: clients on rank 1.* on rank 0, clients on rank 0, rank 1"


@pytest.mark.parametrize("debug", [False, True])
def test_what_ranks_give_must_be_alike(comm, debug):
    if comm.size == 1:
        return
    with fm.debug(debug):
        for call, said in lists(int(comm.rank == comm.size - 1)):
            with pytest.raises(ValueError, match=f"the ranks differ in .*{said}") as caught:
                call()
            assert re.search(r"\n  at test_alike\.py:\d+\n  hint: every rank must give the same", str(caught.value))
            told = np.frombuffer(str(caught.value).encode(), np.uint8)
            assert len({part.tobytes() for part in comm.allgather_bytes(told)}) == 1
        assert fm.replicate(mean([1.0, 3.0])) == 2.0


def test_lines_that_differ_are_both_named(comm):
    if comm.size == 1:
        return
    calls = [
        lambda: mean([2.0]),
        lambda: mean([1.0]),
    ]
    call = calls[comm.rank == comm.size - 1]
    with pytest.raises(ValueError, match=r"\n  at test_alike.py:\d+ on rank 0, test_alike.py:\d+ on rank \d"):
        call()


def test_what_is_the_same_may_be_given_in_many_ways(comm):
    """Containers, dtypes that fit, the order of keys and the order in memory are no differences."""
    odd = comm.rank % 2
    rows = np.arange(6000, dtype=F32).reshape(2, 3000)
    given = [np.asfortranarray(rows), list(rows), rows.astype(">f4")] if odd else [rows, rows.tolist(), rows]
    twice = fm.federated_computation(lambda v: fm.federated_sum(v), fm.type_at_clients((F32, [2, 3000])))
    assert np.array_equal(np.asarray(fm.replicate(twice(given))), 3 * rows)
    numbers = (F32(1.5), np.array(2.5, F32), np.float16(0.5)) if odd else [1.5, 2.5, 0.5]
    assert fm.replicate(mean(numbers)) == 1.5
    text = [{"b": "x", "a": (1, 2.0)}] if odd else [OrderedDict(a=np.array([1, 2], F32), b=b"x")]
    if not odd:
        text[0]["b"] = "x"
    text[0]["a"] = [1.0, 2.0] if odd else np.array([1, 2], F32)
    assert fm.replicate(texts(text))[0]["b"] == "x"


def test_what_is_not_in_memory_is_not_compared(comm, tmp_path_factory):
    path = tmp_path_factory.mktemp("maps") / f"{comm.rank}.npy"
    np.save(path, np.full(5, comm.rank, F32))
    mapped = np.load(path, mmap_mode="r")
    assert sample_hash([mapped], fm.to_type((F32, [None]))) is None
    assert sample_hash([mapped[1:].view(np.ndarray)], fm.to_type((F32, [None]))) is None
    assert sample_hash([np.array(mapped)], fm.to_type((F32, [None]))) is not None
    fm.replicate(lengths([[mapped], [np.zeros(2, F32)]]))
    fm.client_data_from_arrays(mapped, [0, 2, 5], (F32, [None]))


# --- which clients ---


def contexts():
    yield fm.MpiContext()
    yield fm.MpiContext(server_trains=True)
    yield fm.ReferenceContext()


def test_clients_keep_their_indices(comm):
    for context in contexts():
        with context:
            packed = fm.client_data([float(i) for i in range(7)], F32)
            shared = fm.client_data_from_arrays(np.arange(7, dtype=F32), np.arange(8), (F32, [None]))
            for data in (packed, shared):
                assert data.indices.tolist() == list(range(7))
                assert not data.indices.flags.writeable
                assert data.select([3, 5]).select([1]).indices.tolist() == [5]
                assert data.select([3, 5]).select([1]).renumbered().indices.tolist() == [0]
                assert not data.select([3, 5]).indices.flags.writeable
            kept = scaled.resident(packed.select([6, 2, 4]), 2.0)
            assert kept.indices.tolist() == [6, 2, 4]
            assert fm.replicate(scaled(kept.select([2, 0]), 1.0)) == [8.0, 12.0]
            assert scaled.resident([1.0, 2.0], 2.0).indices.tolist() == [0, 1]
            assert both.resident([1.0, 2.0], packed.select([4, 1])).indices.tolist() == [4, 1]
            again = kept.renumbered().select([1])
            assert again.indices.tolist() == [1]
            assert fm.replicate(scaled(again, 1.0)) == [4.0]


def test_the_same_value_for_all_clients_of_a_cohort(comm):
    @fm.federated_computation(AT_CLIENTS)
    def ones(values):
        return fm.federated_value(1.0, fm.CLIENTS), values

    for context in contexts():
        with context:
            one, values = ones.resident(fm.client_data([1.0, 2.0, 3.0], F32).select([2, 1]))
            assert values.indices.tolist() == [2, 1]
            assert isinstance(one, fm.ClientData) is False or one.indices.tolist() == [2, 1]


@pytest.mark.parametrize("debug", [False, True])
def test_arguments_must_have_the_same_clients(comm, debug):
    for context in contexts():
        with context, fm.debug(debug):
            data = fm.client_data([float(i) for i in range(6)], F32)
            states = scaled.resident(data, 10.0)
            pairs = [tuple(pair) for pair in fm.replicate(both(data.select([3, 5]), states.select([3, 5])))]
            assert pairs == [(3.0, 30.0), (5.0, 50.0)]
            with pytest.raises(ValueError, match="both: parameters first and second must have") as caught:
                both(data.select([3, 5]), states.select([5, 3]))
            assert re.fullmatch(
                r"both: parameters first and second must have the same clients in the same order, found at position 0 "
                r"client 3 of first and client 5 of second\n  at test_alike\.py:\d+\n  hint: where they are meant to "
                r"be paired as they stand, give first\.renumbered\(\) and second\.renumbered\(\)",
                str(caught.value),
            )
            with pytest.raises(
                ValueError, match=r"(?s)position 1 client 5 of first and client 1 of second.*give first\.ren"
            ):
                both(data.select([0, 5]), fm.client_data([1.0, 2.0], F32))
    with pytest.raises(ValueError, match=r"(?s)position 1 .*give first\.renumbered\(\)$"):
        both(fm.client_data([1.0, 2.0, 3.0], F32).select([0, 2]), fm.client_data([1.0, 2.0], F32))
    data = fm.client_data([float(i) for i in range(6)], F32)
    meant = both(data.select([3, 5]).renumbered(), data.select([5, 3]).renumbered())
    assert [tuple(pair) for pair in fm.replicate(meant)] == [(3.0, 5.0), (5.0, 3.0)]
    assert [tuple(pair) for pair in fm.replicate(both([1.0, 2.0], data.select([5, 3])))] == [(1.0, 5.0), (2.0, 3.0)]
    everyone = data.select(list(range(6)))
    assert len(fm.replicate(both(everyone, data))) == 6


def test_errors_name_a_client_by_its_index(comm):
    @fm.python_computation(F32, result=F32)
    def checked(x):
        if x == 4.0:
            raise ValueError("four")
        return x

    checking = fm.federated_computation(lambda values: fm.federated_map(checked, values), AT_CLIENTS)
    for context in contexts():
        with context:
            data = fm.client_data([float(i) for i in range(6)], F32)
            with pytest.raises(ValueError, match=r"client 4 of values \(number 1 of the cohort\)"):
                checking(data.select([5, 4]))
            with pytest.raises(ValueError, match=r"client 4 of values \(rank"):
                checking(data)
            with pytest.raises(
                TypeError, match=r"second, client 5 \(number 1 of the cohort\): expected float32, found i"
            ):
                both(data.select([4, 5]), [1.0, 2])
    data = fm.client_data([1.0, float("inf"), 3.0], F32)
    with (
        fm.MpiContext(nonfinite="raise"),
        pytest.raises(ValueError, match=r"client 1 \(number 0 of the cohort\) has inf"),
    ):
        mean(data.select([1, 2]))


def test_data_of_other_ranks_is_refused(comm):
    alone = fm.MpiContext(comm.mpi.COMM_SELF)
    data = fm.client_data([1.0, 3.0], F32)
    by_itself, in_one_process = alone.client_data([1.0, 3.0], F32), REFERENCE.client_data([1.0, 3.0], F32)
    assert alone.invoke(mean, by_itself) == alone.invoke(mean, in_one_process) == 2.0
    if comm.size == 1:
        assert mean(by_itself) == mean(in_one_process) == alone.invoke(mean, data) == 2.0
        return
    for given in (by_itself, in_one_process):
        with pytest.raises(
            TypeError, match=r"readings: expected .* of this context, found ClientData of .* of another"
        ):
            mean(given)
    with pytest.raises(TypeError, match=r"of another context, whose clients live on other ranks\n  at test_alike.py"):
        alone.invoke(mean, data)
    assert fm.replicate(mean(data)) == 2.0


def test_client_data_is_copied_as_itself_and_not_pickled(comm):
    data = fm.client_data([1.0, 3.0], F32)
    assert copy.copy(data) is data
    assert copy.deepcopy([data])[0] is data
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(
            TypeError, match=r"(?s)a ClientData .* cannot be pickled: .*\n  at .*\n  hint: keep the list"
        ):
            pickle.dumps({"data": data}, protocol)
    result = mean(data)
    assert fm.replicate(copy.deepcopy(result)) == fm.replicate(copy.copy(result)) == 2.0
    if comm.rank:
        with pytest.raises(TypeError, match=r"pickling of <float32@SERVER, on rank 0>: .*fm\.replicate\(value\)"):
            pickle.dumps(result)


def test_contexts_are_copied_with_their_options(comm):
    context = fm.MpiContext(reduction="float64", num_clients=3)
    context.invoke(mean, [1.0, 2.0])
    for made in (pickle.loads(pickle.dumps(context)), copy.deepcopy(context), copy.copy(context)):
        assert (made.reduction, made.num_clients) == ("float64", 3)
        assert fm.replicate(made.invoke(mean, [1.0, 2.0])) == 1.5
