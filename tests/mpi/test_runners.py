"""Every runner gives the same bits: the compiled loop, client by client, and one that another engineer might add."""

from __future__ import annotations

import pytest

import fedmpi as fm
from fedmpi.runtime.collective.failures import ClientError
from fedmpi.runtime.runners import clients
from fedmpi.runtime.runners.each import Each
from fedmpi.runtime.runners.fused import Fused
from fedmpi.runtime.runners.one_by_one import OneByOne
from tests.mpijob import ROOT
from tests.programs import F32, I32, assert_same

pytestmark = pytest.mark.mpi
fc, at_clients, at_server = fm.federated_computation, fm.type_at_clients, fm.type_at_server


class Backwards:
    """All clients are computed before the first is committed, the last one first."""

    def run(self, work):
        if work.stage.folds:
            return False
        one_by_one, computed, failed = OneByOne(work), {}, None
        for position in reversed(range(len(work.call.mine))):
            try:
                computed[position] = one_by_one.compute(position)
            except ClientError as error:
                failed = error
        if failed is not None:
            raise failed
        for position in sorted(computed):
            one_by_one.commit(position, computed[position])
        one_by_one.end()
        return True


@fm.numba_computation(F32, F32)
def third(x, y):
    if x < 0:
        raise ValueError("negative")
    return x / 3 + y


def weighted(model, values):
    scaled = fm.federated_map(third, (values, fm.federated_broadcast(model)))
    return fm.federated_mean(scaled, values), fm.federated_max(scaled), scaled


def twice(model, values):
    mean = fm.federated_mean(fm.federated_map(third, (values, fm.federated_broadcast(model))))
    return fm.federated_sum(fm.federated_map(third, (values, fm.federated_broadcast(mean))))


@fm.federated_computation(I32, F32)
def count(n, x):
    return n + 1


def folded(model, values):
    add = fc(lambda a, b: a + b, I32, I32)
    counted = fm.federated_aggregate(values, 0, count, add, fc(lambda n: n, I32))
    return counted, fm.federated_collect(values), model


PROGRAMS = [fc(body, at_server(F32), at_clients(F32)) for body in (weighted, twice, folded)]
VALUES = [F32(n * 0.1) for n in range(7)]


@pytest.fixture(params=[Fused(), Each(), Backwards()], ids=lambda runner: type(runner).__name__)
def context(request, monkeypatch):
    monkeypatch.setattr(clients, "RUNNERS", (request.param, Each()))
    return fm.MpiContext(fuse=True if isinstance(request.param, Fused) else None)


@pytest.mark.parametrize("values", [VALUES, VALUES[:1], []], ids=len)
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.name)
def test_the_same_bits(comm, context, program, values):
    if not values and program.name == "weighted":
        return  # a maximum of nothing is refused before any runner
    try:
        with fm.ReferenceContext():
            want = program(F32(0.1), values)
    except (ValueError, ZeroDivisionError) as error:
        with context, pytest.raises(type(error)):
            program(F32(0.1), values)
        return
    with context:
        got = fm.replicate(program(F32(0.1), values))
    assert_same(got, want, bits=True)


def test_the_first_client_that_fails_is_told(comm, context):
    values = [*VALUES, F32(-2), F32(1), F32(-3)]
    with context, pytest.raises(ValueError, match="client 7 of values"):
        PROGRAMS[0](F32(0.1), values)


def test_the_page_tells_of_every_runner():
    page = (ROOT / "docs" / "new-runner.md").read_text()
    for runner in clients.RUNNERS:
        assert f"{type(runner).__module__.replace('.', '/')}.py" in page
