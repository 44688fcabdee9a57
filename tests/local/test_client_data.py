"""`ClientData` of one rank among several: cohorts, who owns what, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.local.columns.client_data import ClientData
from fedmpi.local.columns.column import pack
from fedmpi.local.columns.shared_arrays import SharedArrays, batch_offsets
from fedmpi.runtime.arguments.ownership import assign

F32 = np.float32


def packed(owner, rank):
    """Client k has the value k."""
    owner = np.array(owner, np.uint8)
    mine = np.flatnonzero(owner == rank)
    return ClientData(fm.to_type(F32), owner, rank, pack(fm.to_type(F32), [F32(k) for k in mine]))


def shared(sizes, rank, ranks):
    """Client k has the value k in all of its rows."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    data = np.repeat(np.arange(len(sizes)), sizes).astype(F32)
    type_ = fm.TensorType(F32, [None])
    source = SharedArrays(type_, (data,), offsets, None, lambda sizes: assign(sizes, ranks))
    return ClientData(type_, source.balance(source.sizes()), rank, shared=source)


def values(data):
    """Return what this rank has of each of its clients."""
    return {int(i): data.column[int(p)] for i, p in zip(data.mine, data.positions, strict=True)}


@st.composite
def cohorts(draw):
    count = draw(st.integers(1, 12))
    owner = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    cohort = draw(st.lists(st.integers(0, count - 1), unique=True))
    return owner, cohort, draw(st.permutations(range(len(cohort)))), draw(st.integers(0, len(cohort)))


@settings(max_examples=200, deadline=None)
@given(cohorts())
def test_a_cohort_is_computed_where_its_clients_live(drawn):
    owner, cohort, order, count = drawn
    homes = set()
    for rank in range(3):
        data = packed(owner, rank)
        part = data.select(cohort)
        assert part.column is data.column
        assert len(part) == len(cohort)
        assert part.owner.tolist() == [owner[i] for i in cohort]
        assert values(part) == {j: i for j, i in enumerate(cohort) if owner[i] == rank}
        assert part.complete == (len(part.owned) == len(cohort))
        again = part.select(np.array(order[:count], int))  # a cohort of a cohort
        assert values(again) == {j: cohort[i] for j, i in enumerate(order[:count]) if owner[cohort[i]] == rank}
        homes.add(again.homes)
    assert len(homes) == 1


@settings(max_examples=200, deadline=None)
@given(cohorts(), st.data())
def test_what_every_rank_can_open_is_balanced_again(drawn, draw):
    owner, cohort, order, count = drawn
    sizes = draw.draw(st.lists(st.integers(0, 5), min_size=len(owner), max_size=len(owner)))
    everyone = [shared(sizes, rank, [0, 1, 2]) for rank in range(3)]
    for clients, chosen in ((cohort, [d.select(cohort) for d in everyone]), (range(len(owner)), everyone)):
        found = {}
        for data in chosen:
            assert data.complete
            assert data.anywhere
            assert data.owner.tolist() == assign([sizes[i] for i in clients], [0, 1, 2]).tolist()
            found |= values(data)
            assert [v.tolist() for v in data.members()] == [[i] * sizes[i] for i in clients]
        assert {j: v.tolist() for j, v in found.items()} == {j: [i] * sizes[i] for j, i in enumerate(clients)}
    again = [d.select(cohort).select(order[:count]) for d in everyone]
    assert [v.tolist() for v in again[0].members()] == [[cohort[i]] * sizes[cohort[i]] for i in order[:count]]
    assert len({d.homes for d in again}) == 1
    elsewhere = everyone[1].select(cohort).at(np.ones(len(cohort), np.uint8))
    assert list(values(elsewhere)) == list(range(len(cohort)))
    assert [v.tolist() for v in elsewhere.members()] == [[i] * sizes[i] for i in cohort]


def test_the_hash_tells_cohorts_apart():
    """Of the same owners, too: ranks that select other clients must not go on together."""
    data = packed([1, 1, 1, 2], 1)
    same = {data.select([0, 1]).homes, data.select([1, 0]).homes, data.select([1, 2]).homes, data.homes}
    assert len(same) == 4


@pytest.mark.parametrize(
    ("indices", "error", "text"),
    [
        ([0, 3, 1, 3, 3, 1], ValueError, "indices must be different clients, found client 3 3 times"),
        ([0, 5], IndexError, "indices must be from 0 to 4, there are 5 clients, found 5"),
        ([-1], IndexError, "indices must be from 0 to 4, there are 5 clients, found -1"),
        ([0.0, 1.0], TypeError, r"indices must be a list of clients' indices, whole numbers, found float64\[2\]"),
        (np.array([True] * 5), TypeError, r"whole numbers, found bool\[5\]"),
        ([[0, 1]], TypeError, r"whole numbers, found int64\[1,2\]"),
        (np.array(3), TypeError, "whole numbers, found int64"),
        (["a"], TypeError, r"whole numbers, found str\[1\]"),
        ([[0], [1, 2]], TypeError, "whole numbers, found a list of 2"),
        ({0, 1}, TypeError, "whole numbers, found a set"),
        (3, TypeError, "whole numbers, found int 3"),
    ],
)
def test_what_is_no_cohort(indices, error, text):
    with pytest.raises(error, match=rf"ClientData\.select: .*{text}") as caught:
        packed([0, 1, 0, 1, 2], 0).select(indices)
    assert "test_client_data.py" in str(caught.value)


def test_a_number_that_is_no_client_of_a_cohort():
    cohort = packed([0, 1, 0, 1, 2], 0).select([3, 4])
    with pytest.raises(IndexError, match=r"(?s)from 0 to 1, there .*hint: .* whose client number 0 is client 3$"):
        cohort.select([3])
    with pytest.raises(IndexError, match=r"found 0\n  at .*$"):
        cohort.select([]).select([0])


def test_cohorts_of_other_integers():
    data = packed([0, 1, 0], 0)
    for indices in ((2, 0), range(2, -1, -2), np.array([2, 0], np.uint8), [np.int64(2), np.int32(0)]):
        assert values(data.select(indices)) == {0: F32(2), 1: F32(0)}
    assert len(data.select([])) == 0
    assert data.select([]).complete


def test_properties():
    data = packed([0, 1, 0], 0)
    assert data.owned == [0, 2]
    assert not data.complete
    assert not data.anywhere
    assert repr(data) == "<ClientData {float32}@CLIENTS: 3 clients, 2 on rank 0, 8 bytes>"
    everywhere = shared([2, 1], 1, [1])
    assert "2 clients, 2 on rank 1, of arrays that every rank can open" in repr(everywhere)
    column, positions = everywhere.select([1]).as_type(fm.TensorType(F32, [None]))
    assert (len(column), positions.tolist()) == (2, [1])


def test_nothing_is_computed_for_a_rank_without_clients():
    data = shared([2, 1], 0, [1])
    assert data.column.count == 0
    assert "column" not in vars(data.shared)
    assert [len(v) for v in data.members()] == [2, 1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 5), st.integers(0, 4))
def test_batches(sizes, size, first):
    offsets = first + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    batches, rows = batch_offsets(offsets, size)
    at = first
    for k, n in enumerate(sizes):
        lengths = np.diff(rows[batches[k] : batches[k + 1] + 1]).tolist()
        assert lengths == [size] * (n // size) + [n % size] * (n % size > 0)
        assert not lengths or rows[batches[k]] == at
        at += n
    assert rows[-1] == at
