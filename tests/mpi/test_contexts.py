"""Contexts on these ranks: asynchronous calls, threads, blocks; what is awaited is what a blocking call returns."""

from __future__ import annotations

import asyncio
import gc
import threading
import time

import numpy as np
import pytest

import fedmpi as fm
from tests import programs
from tests.programs import AT_CLIENTS, CASES, F32, assert_same

pytestmark = pytest.mark.mpi
fc = fm.federated_computation


@pytest.fixture
def begin():
    """Bodies that call `hold` wait in it until this is set."""
    _begin.clear()
    yield _begin
    _begin.set()


_begin = threading.Event()


@fm.python_computation(F32, result=F32)
def hold(x):
    assert _begin.wait(30)
    return x


@fm.python_computation(F32, result=F32)
def positive(x):
    if x < 0:
        raise KeyError("negative")
    return programs.plus(x, 1.0)  # what a body calls is part of the call, in no line


held = fc(lambda v: fm.federated_sum(fm.federated_map(hold, v)), AT_CLIENTS(F32))
raised = fc(lambda v: fm.federated_sum(fm.federated_map(positive, v)), AT_CLIENTS(F32))


@pytest.mark.parametrize("name", ["mean", "capture", "two trips", "structs", "no clients", "function argument"])
@pytest.mark.parametrize("inner", [fm.MpiContext, fm.ReferenceContext])
def test_awaited_results_are_those_of_the_reference(comm, name, inner):
    case = CASES[name]
    argument = case.arguments[0] if len(case.arguments) == 1 else case.arguments
    want = fm.ReferenceContext().invoke(case.computation, argument)
    with fm.AsyncContext(inner()):
        got = asyncio.run(case.computation(*case.arguments))
        assert_same(fm.replicate(got), want, bits=True)


def test_calls_run_in_the_order_in_which_they_are_made(comm, begin):
    fm.set_default_context(fm.AsyncContext())
    before = comm.call

    async def main():
        # The first has no placement: it is held on every rank, and the others behind it.
        calls = [hold(3.0), programs.total([3, 4]), programs.mean_temperature([5.0])]
        late = programs.plus(1.0, 2.0)
        assert not any("done" in repr(call) for call in (*calls, late))
        begin.set()
        results = await asyncio.gather(*reversed(calls))
        return [*reversed(results), await late]

    results = asyncio.run(main())
    assert comm.call == before + 2
    assert fm.replicate(results) == [F32(3.0), 7, F32(5.0), F32(3.0)]


def test_the_event_loop_goes_on(comm, begin):
    async def main():
        with fm.AsyncContext():
            call = held([1.0])
        for _ in range(100):
            await asyncio.sleep(0)
        begin.set()
        return await call

    assert fm.replicate(asyncio.run(main())) == F32(1.0)


def test_a_blocking_call_waits_for_those_in_line(comm, begin):
    with fm.AsyncContext():
        call = held([1.0, 2.0])
        threading.Timer(0.1, begin.set).start()
        assert fm.replicate([1, 2]) == [1, 2]
        assert "done" in repr(call)
        again = programs.total([1, 2])
    assert fm.replicate(programs.total([3, 4])) == 7  # in the default context, which is no asynchronous one
    assert fm.replicate(asyncio.run(again)) == 3


def test_a_blocking_context_works_where_a_loop_is_running(comm):
    async def main():
        return programs.total([1, 2]), fm.replicate(programs.mean_temperature([1.0, 2.0]))

    total, mean = asyncio.run(main())
    assert fm.replicate(total) == 3
    assert mean == F32(1.5)


def test_an_exception_comes_out_where_it_is_awaited(comm):
    fm.set_default_context(fm.AsyncContext())

    async def main():
        bad, good = raised([1.0, -2.0]), raised([1.0])
        with pytest.raises(KeyError, match=r"federated_map at test_contexts\.py:\d+: client 1 of v \(rank \d\)"):
            await bad
        with pytest.raises(TypeError, match=r"parameter values: expected a list(.|\n)*at test_contexts\.py:\d+"):
            await programs.total(5)
        with pytest.raises(TypeError, match="plus: the computation takes"):
            programs.plus(1.0, 2.0, 3.0)  # what is wrong with the call itself, where it is made
        results = await asyncio.gather(raised([-1.0]), raised([2.0]), return_exceptions=True)
        assert isinstance(results[0], KeyError)
        return await good, results[1]

    assert fm.replicate(asyncio.run(main())) == (F32(2.0), F32(3.0))


def test_a_call_may_be_awaited_more_than_once_and_as_a_task(comm):
    async def main():
        with fm.AsyncContext():
            call = programs.total([1, 2])
        first = await call
        task = asyncio.create_task(call)
        return first, await task, await asyncio.wait_for(call, 5)

    assert fm.replicate(asyncio.run(main())) == (3, 3, 3)


def test_cancelling_ends_the_waiting_alone(comm, begin):
    before = comm.call

    async def main():
        with fm.AsyncContext():
            waiting, next_ = hold(1.0), programs.total([1, 2])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting, 0.01)
        task = asyncio.create_task(next_)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        begin.set()
        return await waiting, await next_

    assert fm.replicate(asyncio.run(main())) == (F32(1.0), 3)
    assert comm.call == before + 2


def test_a_call_that_nobody_awaits_runs_and_its_error_is_not_lost(comm):
    with fm.AsyncContext():
        call = raised([-1.0])
        fm.replicate(None)
        text = r"the call of lambda at test_contexts\.py:\d+ was not awaited, and failed: KeyError"
        with pytest.warns(RuntimeWarning, match=text):
            del call
        before = comm.call
        programs.total([1])  # no error, no warning
        fm.replicate(None)
    gc.collect()
    assert comm.call == before + 2


def test_a_call_as_the_argument_of_a_later_one(comm):
    async def main():
        with fm.AsyncContext():
            total = programs.mean_temperature([1.0, 3.0])
            for _ in range(3):
                total = programs.two_trips(total, [1.0, 2.0])
                total = programs.everywhere(fm.federated_computation(lambda p: p[0], _PAIR)(total))
            failing = programs.two_trips(raised([-1.0]), [1.0])
        with pytest.raises(KeyError, match="negative"):
            await failing
        return await total

    total = fm.replicate(programs.mean_temperature([1.0, 3.0]))
    for _ in range(3):
        total = fm.replicate(programs.two_trips(total, [1.0, 2.0]))[0]
    assert fm.replicate(asyncio.run(main())) == total


_PAIR = fm.to_type((fm.type_at_server(F32), fm.type_at_server(F32)))


def test_resident_results(comm):
    async def main():
        with fm.AsyncContext():
            state = fm.client_data([1.0, 2.0, 3.0], F32)
            assert isinstance(state, fm.ClientData)
            for _ in range(2):
                state = programs.shifted.resident(state, 10.0)
            mean = programs.mean_temperature(state)
        assert isinstance(await state, fm.ClientData)
        return await mean

    assert fm.replicate(asyncio.run(main())) == F32(22.0)


def test_another_thread_runs_in_the_default_context(comm):
    results = []

    def call():
        results.append(programs.total([1, 2]))
        with fm.ReferenceContext():
            results.append(programs.total([3, 4]))

    with fm.AsyncContext():
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert fm.replicate(results[0]) == 3
    assert results[1] == 7


def test_no_collective_call_inside_a_call(comm):
    @fm.python_computation(F32, result=F32)
    def inner(x):
        return np.float32(fm.replicate(x))

    program = fc(lambda v: fm.federated_sum(fm.federated_map(inner, v)), AT_CLIENTS(F32))
    with fm.AsyncContext(), pytest.raises(fm.ContextError, match="replicate is collective"):
        asyncio.run(program([1.0]))
    assert fm.replicate(1) == 1


def test_an_asynchronous_context_is_what_it_wraps(comm):
    given = fm.MpiContext(reduction="float64")
    with given:
        wrapped = fm.AsyncContext()
    assert wrapped.context is given
    assert fm.AsyncContext(wrapped).context is given
    with wrapped:
        assert fm.is_server() == (comm.rank == 0)
        assert fm.plan(programs.mean_temperature).plan.options.mode == "float64"


def test_many_calls_in_line(comm):
    async def main():
        started = time.perf_counter()
        with fm.AsyncContext():
            calls = [programs.total([i, 1]) for i in range(200)]
        assert time.perf_counter() - started < 30
        return await asyncio.gather(*calls)

    assert fm.replicate(asyncio.run(main())) == [i + 1 for i in range(200)]
