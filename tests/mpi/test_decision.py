"""How clients are run is decided alike on all ranks, whichever clients they have."""

from __future__ import annotations

import pytest

import fedmpi as fm
from fedmpi.runtime.plan.decision import COMPILED_FROM, No
from fedmpi.runtime.stage import loop
from tests.mpi.test_operators import F32, clients, fc

pytestmark = pytest.mark.mpi


@fm.numba_computation(fm.SequenceType(F32))
def total_of(xs):
    total = F32(0)
    for x in xs:
        total += x
    return total


def total():
    return fc(lambda v: fm.federated_sum(fm.federated_map(total_of, v)), clients(fm.SequenceType(F32)))


def test_a_refused_loop_is_known_to_all_ranks(comm, monkeypatch):
    """Also to rank 0, which has no clients, and to those that have none in this call."""

    def refuse(*arguments, **options):
        raise AssertionError("no lowering")

    monkeypatch.setattr(loop.ClientLoop, "__init__", refuse)
    computation, context = total(), fm.MpiContext()
    with context:
        for _ in range(2):
            assert fm.replicate(computation([[1.0, 2.0]])) == 3
            why = "Numba refuses the loop (AssertionError: no lowering)"
            assert context.program(computation).stages[0].compiled == No(why)
            assert f"clients, client by client, for {why}: federated_map of total_of" in str(fm.plan(computation))


def test_the_clients_of_all_ranks_count(comm):
    doubled = fm.numba_computation(lambda x: x * F32(2), F32)
    computation, context = fc(lambda v: fm.federated_sum(fm.federated_map(doubled, v)), clients(F32)), fm.MpiContext()
    with context:
        for _ in range(3):
            computation([F32(1)] * (COMPILED_FROM - 1))
        assert not context.program(computation)._loops
        assert fm.replicate(computation([F32(1)] * COMPILED_FROM)) == 2 * COMPILED_FROM
        assert len(context.program(computation)._loops) == (comm.rank > 0 or comm.size == 1)
