"""Which rank hosts which client: longest processing time first, the same on every rank, fast for a million clients."""

from __future__ import annotations

import heapq
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.runtime.arguments import ownership
from fedmpi.runtime.arguments.ownership import assign, assign_evenly, hosts
from fedmpi.runtime.plan.folding import blocks_of, homes_of, is_whole, merged

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


def test_needs_no_numba():
    code = (
        "import sys; from fedmpi.runtime.arguments.ownership import assign; assign(range(9), [1, 2]); "
        "sys.exit('numba' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_blocks_stay_together_where_that_costs_no_balance():
    for clients, ranks in ((10, 3), (64, 5), (1000, 2), (1000, 4), (6400, 8)):
        blocks = blocks_of(clients)
        owner = assign_evenly(np.full(clients, 7), blocks, list(range(1, ranks + 1)))
        assert is_whole(owner, blocks)
        loads = np.bincount(owner)[1:]
        assert loads.max() <= 1.02 * max(clients / ranks, 1) + (clients <= 64)
    uneven = np.ones(1000, np.int64)
    uneven[:16] = 100  # all in the first block
    owner = assign_evenly(uneven, blocks_of(1000), [0, 1])
    loads = np.bincount(owner, weights=uneven)
    assert loads.max() - loads.min() <= 1
    assert not is_whole(owner, blocks_of(1000))
    assert len(assign_evenly(np.empty(0, np.int64), blocks_of(0), [0])) == 0


@given(st.integers(0, 400))
def test_blocks_are_runs_of_about_one_length(clients):
    blocks = blocks_of(clients)
    lengths = np.bincount(blocks) if clients else np.empty(0)
    assert len(blocks) == clients
    assert len(lengths) == min(clients, 64)
    assert (np.diff(blocks) >= 0).all()
    assert not clients or lengths.max() - lengths.min() <= 1
    homes = homes_of(np.arange(clients) % 7, blocks)
    assert all(len(set(homes[blocks == b].tolist())) == 1 for b in set(blocks.tolist()))


def test_neighbours_are_merged_first():
    def merge(pair):
        return f"({pair[0]}{pair[1]})"

    assert [merged(list("abcdefg")[:n], merge) for n in range(1, 8)] == [
        "a", "(ab)", "((ab)c)", "((ab)(cd))", "(((ab)(cd))e)", "(((ab)(cd))(ef))", "(((ab)(cd))((ef)g))",
    ]  # fmt: skip
