"""Which rank hosts which client: longest processing time first, the same on every rank, fast for a million clients."""

from __future__ import annotations

import heapq
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.runtime import ownership
from fedmpi.runtime.ownership import assign, homes, hosts

few_sizes = st.lists(st.integers(0, 4), max_size=120)
sizes_of_clients = few_sizes | st.lists(st.integers(0, 10**12), max_size=60)
numbers_of_ranks = st.integers(1, 9)


def by_definition(sizes, ranks):
    """The largest client that is left (the smallest index) to the rank with the least to do (the smallest number)."""
    loads = [(0, rank) for rank in ranks]
    owner = [0] * len(sizes)
    for client in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        load, rank = loads[0]
        owner[client] = rank
        heapq.heapreplace(loads, (load + max(int(sizes[client]), 1), rank))
    return owner


def loads_of(sizes, ranks):
    owner = assign(sizes, ranks)
    assert np.isin(owner, ranks).all()
    return np.array([np.asarray(sizes)[owner == rank].sum() for rank in ranks])


@settings(max_examples=200, deadline=None)
@given(sizes_of_clients, numbers_of_ranks, st.integers(0, 300), st.sampled_from([1, 3, 50]))
def test_is_longest_processing_time_first(sizes, count, first, long):
    """In pieces of any size, dealt one by one or a run of equal ones at once."""
    ranks = list(range(first, first + count))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ownership, "_CHUNK", 7)
        patch.setattr(ownership, "_LONG", long)
        owner = assign(sizes, ranks)
    assert owner.tolist() == by_definition(sizes, ranks)
    assert owner.dtype == (np.uint8 if max(ranks) < 256 else np.uint16)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=60), numbers_of_ranks)
def test_is_within_grahams_bound(sizes, count):
    makespan = loads_of(sizes, range(count)).max()
    second = sorted(sizes)[-count - 1] if len(sizes) > count else 0
    # No schedule is shorter: two of the count + 1 largest clients are on one rank.
    lower = max(sum(sizes) / count, max(sizes), second + sorted(sizes)[-count] if second else 0)
    assert makespan <= max((4 / 3 - 1 / (3 * count)) * lower, lower) * (1 + 1e-12)


def test_balance_of_many_clients():
    rng = np.random.default_rng(20)
    for _ in range(5):
        sizes = np.ceil(rng.lognormal(3, 1, 2000)).astype(int)
        loads = loads_of(sizes, range(1, 17))
        assert loads.max() <= 1.01 * sizes.sum() / 16
        for _ in range(20):
            cohort = rng.choice(sizes, 100, replace=False)
            ideal = max(cohort.sum() / 16, cohort.max())
            assert loads_of(cohort, range(1, 17)).max() <= 1.05 * ideal


def test_a_million_clients_of_many_sizes():
    sizes = np.random.default_rng(3).pareto(1.2, 1_000_000).astype(int)
    owner = assign(sizes, [1, 2, 3])
    loads = [sizes[owner == rank].sum() + np.count_nonzero(sizes[owner == rank] == 0) for rank in (1, 2, 3)]
    assert max(loads) - min(loads) <= 1


def test_empty_clients_are_spread_and_no_clients_are_fine():
    assert np.bincount(assign([0] * 9, [0, 1, 2])).tolist() == [3, 3, 3]
    assert len(assign([], [1])) == 0
    assert hosts(3, False) == [1, 2]
    assert hosts(3, True) == [0, 1, 2]
    assert hosts(1, False) == [0]


def test_the_hash_tells_owners_apart():
    assert homes(assign([1, 2, 3], [1, 2])) == homes(assign([1, 2, 3], [1, 2]))
    assert homes(assign([1, 2, 3], [1, 2])) != homes(assign([3, 2, 1], [1, 2]))


def test_needs_no_numba():
    code = "import sys, fedmpi.runtime.ownership as o; o.assign(range(1000), [1, 2]); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
