"""Client data on the ranks at hand: cohorts, arrays, forms, moves; each result is that of the reference evaluator."""

from __future__ import annotations

import itertools
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.column import form, leaves
from fedmpi.runtime.arguments.placing import moved
from fedmpi.runtime.mpi import comm as communication
from tests.programs import F32, assert_same

pytestmark = pytest.mark.mpi
BATCH = fm.to_type(OrderedDict(x=(F32, [None, 5]), y=(np.int32, [None])))
CLIENT = fm.SequenceType(BATCH)
SIZES = [3, 0, 25, 7, 7, 1, 12]
REFERENCE = fm.ReferenceContext()


@fm.numba_computation(BATCH)
def batch_score(batch):
    total = F32(0)
    for i in range(batch.x.shape[0]):
        for j in range(batch.x.shape[1]):
            total += batch.x[i, j] * F32(batch.y[i] + j)
    return total


@fm.federated_computation(CLIENT)
def score(batches):
    return fm.sequence_sum(fm.sequence_map(batch_score, batches))


@fm.federated_computation(fm.type_at_clients(CLIENT))
def scores(data):
    return fm.federated_map(score, data), fm.federated_sum(fm.federated_map(score, data))


@fm.federated_computation(fm.type_at_clients(CLIENT))
def echo(data):
    return data


@fm.federated_computation(fm.type_at_clients(F32), fm.type_at_clients(CLIENT))
def scaled(factors, data):
    product = fm.federated_computation(lambda f, d: f * score(d), F32, CLIENT)
    return fm.federated_map(product, [factors, data])


def arrays(kind="floats"):
    rng = np.random.default_rng(5)
    total = sum(SIZES)
    x = {
        "floats": rng.normal(size=(total, 5)).astype(F32),
        "pixels": (rng.integers(0, 256, (total, 5)) / 255.0).astype(F32),
        "sparse": np.where(rng.random((total, 5)) < 0.1, F32(0.3), F32(0)),
    }[kind]
    return OrderedDict(x=x, y=rng.integers(0, 10, total).astype(np.int32))


OFFSETS = np.concatenate([[0], np.cumsum(SIZES)])


def as_lists(given, size=4):
    """The same clients as lists of batches."""
    return [
        [OrderedDict((n, a[at : min(at + size, stop)]) for n, a in given.items()) for at in range(start, stop, size)]
        for start, stop in itertools.pairwise(OFFSETS)
    ]


def agrees(computation, *arguments, lists):
    """Check a computation of client data against the reference evaluator's of lists."""
    assert_same(fm.replicate(computation(*arguments)), REFERENCE.invoke(computation, lists))


COHORTS = [[2], [6, 0, 4], [5, 4, 3, 2, 1, 0], [1], list(range(7))]


@pytest.mark.parametrize("cohort", COHORTS, ids=str)
@pytest.mark.parametrize("storage", ["auto", "dense", "sparse", "density"])
@pytest.mark.parametrize("kind", ["floats", "pixels", "sparse"])
def test_cohorts(comm, kind, storage, cohort):
    given = arrays(kind)
    lists = as_lists(given)
    packed = fm.client_data(lists, CLIENT, storage=storage)
    shared = fm.client_data_from_arrays(given, OFFSETS, CLIENT, 4, storage=storage)
    expected = [lists[i] for i in cohort]
    for data in (packed, shared):
        for computation in (scores, echo):
            agrees(computation, data.select(cohort), lists=expected)
            agrees(computation, data, lists=lists)
    part = packed.select(cohort)
    assert part.column is packed.column
    assert part.owned == [j for j, i in enumerate(cohort) if i in packed.owned]


def test_the_reference_evaluator_takes_cohorts(comm):
    lists = as_lists(arrays())
    expected = REFERENCE.invoke(scores, [lists[i] for i in (4, 0, 2)])
    for data in (
        REFERENCE.client_data(lists, CLIENT),
        REFERENCE.client_data_from_arrays(arrays(), OFFSETS, CLIENT, 4),
        fm.client_data_from_arrays(arrays(), OFFSETS, CLIENT, 4),  # every rank can open all clients
    ):
        assert_same(REFERENCE.invoke(scores, data.select([4, 0, 2])), expected)
    packed = fm.client_data(lists, CLIENT).select([4, 0, 2])
    if not packed.complete:
        with pytest.raises(TypeError, match="found a ClientData of several ranks"):
            REFERENCE.invoke(scores, packed)


def test_forms_are_those_of_all_clients(comm):
    """One client's number that is no pixel makes the leaf dense on every rank."""

    def forms(storage, x):
        lists = as_lists(OrderedDict(arrays("pixels"), x=x))
        data = fm.client_data(lists, CLIENT, storage=storage)
        agrees(scores, data, lists=lists)
        return form(data.column.arrays[leaves(CLIENT)[0].at], leaves(CLIENT)[0].type)

    pixels = arrays("pixels")["x"]
    other = pixels.copy()
    other[-1, -1] = 0.3
    assert (forms("auto", pixels), forms("auto", other)) == ("bytes", "dense")
    assert (forms("bytes", pixels), forms("dense", pixels)) == ("bytes", "dense")
    thin = np.zeros_like(pixels)
    thin[-1] = 0.3  # the last client alone is dense
    assert (forms("density", thin), forms("density", pixels)) == ("sparse", "bytes")
    with pytest.raises(
        TypeError, match=r"client_data: parameter values, client 6, x: expected float32\[\?,5\] of"
    ) as e:
        fm.client_data(as_lists(OrderedDict(arrays(), x=other)), CLIENT, storage="bytes")
    assert "found float32 0.3" in str(e.value)
    with pytest.raises(ValueError, match=r"client_data: storage must be 'auto', .*, found 'zip'"):
        fm.client_data([], CLIENT, storage="zip")


def test_a_list_is_a_value(comm):
    """What an ordinary call is given is not converted."""
    lists = as_lists(arrays("pixels"))
    result = scores.resident(lists)
    assert isinstance(result[0], fm.ClientData)
    kept = echo.resident(lists)
    assert form(kept.column.arrays[1], leaves(CLIENT)[0].type) == "dense"
    agrees(scores, kept.select([3, 2]), lists=[lists[3], lists[2]])


def test_resident_cohorts_are_client_data(comm):
    lists = as_lists(arrays("pixels"))
    for data in (fm.client_data(lists, CLIENT), fm.client_data_from_arrays(arrays("pixels"), OFFSETS, CLIENT, 4)):
        kept = echo.resident(data.select([6, 2, 0, 3])).select([3, 0])
        agrees(echo, kept, lists=[lists[3], lists[6]])
        agrees(scores, kept, lists=[lists[3], lists[6]])


def test_memory_maps(comm, tmp_path_factory):
    folder = fm.replicate(str(tmp_path_factory.mktemp("maps")) if comm.rank == 0 else None)
    given = arrays("pixels")
    u = np.rint(given["x"] * 255).astype(np.uint8)
    if comm.rank == 0:
        for name, array in (*given.items(), ("u", u), ("offsets", OFFSETS)):
            np.save(f"{folder}/{name}.npy", array)
    fm.replicate(None)  # the files are there
    maps = {name: np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("x", "y", "u", "offsets")}
    lists = as_lists(given)
    for x, storage in ((maps["x"], "auto"), (maps["u"], "bytes")):
        data = fm.client_data_from_arrays({"x": x, "y": maps["y"]}, maps["offsets"], CLIENT, 4, storage=storage)
        if data.owned:
            assert np.shares_memory(data.column.arrays[1], x)
        agrees(scores, data, lists=lists)
        agrees(scores, data.select([5, 2, 3]), lists=[lists[i] for i in (5, 2, 3)])


def test_one_value_for_each_client(comm):
    @fm.federated_computation(fm.type_at_clients(BATCH))
    def total(data):
        return fm.federated_sum(fm.federated_map(batch_score, data))

    given = arrays("pixels")
    values = [OrderedDict((n, a[i:j]) for n, a in given.items()) for i, j in itertools.pairwise(OFFSETS)]
    data = fm.client_data_from_arrays(given, OFFSETS, BATCH)
    agrees(total, data, lists=values)
    agrees(total, data.select([2, 1]), lists=[values[2], values[1]])


@pytest.mark.parametrize("storage", ["auto", "sparse", "dense"])
def test_arguments_of_different_homes_come_together(comm, storage):
    lists = as_lists(arrays("pixels"))
    factors = [float(i) for i in range(len(lists))]
    data = fm.client_data(lists, CLIENT, storage=storage)
    expected = REFERENCE.invoke(scaled, (factors, lists))
    for other in (data, fm.client_data_from_arrays(arrays("pixels"), OFFSETS, CLIENT, 4, storage=storage)):
        assert_same(fm.replicate(scaled(fm.client_data(factors, F32), other)), expected)
        assert_same(fm.replicate(scaled(factors, other)), expected)
        some = [6, 2, 3, 0]
        part = fm.replicate(scaled(fm.client_data(factors, F32).select(some), other.select(some)))
        assert_same(part, [expected[i] for i in some])


@pytest.mark.parametrize("storage", ["auto", "sparse", "dense"])
def test_moves_in_pieces(comm, storage, monkeypatch):
    """As it is with messages of more than 2 GiB, which go in pieces."""
    monkeypatch.setattr(communication, "PIECE", 100)
    lists = as_lists(arrays("pixels"))
    data = fm.client_data(lists, CLIENT, storage=storage)
    cohort = data.select([6, 5, 4, 3, 2, 1, 0])
    for owner in (np.arange(7) % comm.size, np.full(7, comm.size - 1), np.zeros(7, int), cohort.owner):
        cohort = moved(comm, cohort, owner.astype(np.uint8))
        assert cohort.owner.tolist() == owner.tolist()
        agrees(echo, cohort, lists=lists[::-1])
        agrees(scores, cohort, lists=lists[::-1])


def test_an_error_is_raised_on_all_ranks(comm):
    given = arrays()
    if comm.rank == comm.size - 1:
        given["y"] = given["y"].astype(np.int64)
    with pytest.raises(TypeError, match=r"client_data_from_arrays: parameter arrays, y: expected an array int32\[\?\]"):
        fm.client_data_from_arrays(given, OFFSETS, CLIENT, 4)


def test_a_number_that_is_no_byte_is_refused_on_all_ranks(comm):
    """On those without clients, too, which do not look."""
    given = arrays("pixels")
    given["x"][OFFSETS[4], 2] = 0.5
    with pytest.raises(
        TypeError, match=r"parameter arrays, client 4, x: expected float32\[\?,5\] of .* found float32 0.5"
    ):
        fm.client_data_from_arrays(given, OFFSETS, CLIENT, 4, storage="bytes")


def test_an_error_names_the_client_of_the_cohort(comm):
    @fm.python_computation(CLIENT, result=F32)
    def fails(batches):
        if len(batches) == 7:
            raise ValueError("seven")
        return 0.0

    failing = fm.federated_computation(lambda d: fm.federated_map(fails, d), fm.type_at_clients(CLIENT))
    data = fm.client_data(as_lists(arrays()), CLIENT)
    failing(data.select([1, 0]))
    with pytest.raises(ValueError, match="seven") as caught:
        failing(data.select([1, 2]))
    assert "client 2 of d (number 1 of the cohort)" in str(caught.value)
