"""Programs of ``federated_language`` on these ranks."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import federated_language as fl

import fedmpi as fm
from fedmpi import tutorial as native
from fedmpi.interop import federated_language as bridge
from tests.interop import tutorial
from tests.interop.larger_programs import CASES
from tests.interop.programs import F32, at_clients, fc, plus, python
from tests.mpi.test_tutorial import FEDERATED, LOCAL
from tests.programs import assert_same

pytestmark = pytest.mark.mpi

STACK = fl.framework.get_context_stack()


@pytest.fixture(autouse=True)
def _bridge():
    with STACK.install(bridge.context()):
        yield


@pytest.mark.parametrize("name", CASES)
def test_programs(comm, name):
    case = CASES[name]
    got = case.computation(*case.arguments, **case.keywords)
    if fm.is_server():
        assert_same(got, case.expected)


def test_first_part_of_the_tutorial(comm):
    for got, shown in tutorial.first_part():
        if fm.is_server() or isinstance(shown, str):
            assert_same(got, shown)


def test_second_part_of_the_tutorial(comm):
    """The published numbers, and the bits of the same program in fedmpi; the data are lists, as on the page."""
    mnist = fm.data.mnist()
    train, test = fm.data.by_digit(mnist.train), fm.data.by_digit(mnist.test)
    sample, model, numbers = train[5][-1], tutorial.initial_model, []
    numbers.append(tutorial.batch_loss(model, sample))
    for _ in range(5):
        model = tutorial.batch_train(model, sample, 0.1)
        numbers.append(tutorial.batch_loss(model, sample))
    local = tutorial.local_train(tutorial.initial_model, 0.1, train[5])
    numbers.append(tutorial.local_eval(tutorial.initial_model, train[5]))
    numbers += [tutorial.local_eval(local, train[digit]) for digit in (5, 0)]
    np.testing.assert_allclose(numbers, LOCAL, rtol=2e-6)

    numbers = [tutorial.federated_eval(start, train) for start in (tutorial.initial_model, local)]
    model, rate = tutorial.initial_model, 0.1
    for _ in range(5):
        model = tutorial.federated_train(model, rate, train)
        rate = rate * 0.9
        numbers.append(tutorial.federated_eval(model, train))
    numbers += [tutorial.federated_eval(start, test) for start in (tutorial.initial_model, model)]
    np.testing.assert_allclose([float(fm.replicate(number)) for number in numbers], FEDERATED, rtol=2e-6)
    want = [float(fm.replicate(number)) for _, number in native.federated_steps(train, test)]
    assert [float(fm.replicate(number)) for number in numbers] == want


def test_the_plan_is_that_of_the_same_program_in_fedmpi(comm):
    def lines(computation):
        return [line.partition(" at ")[0] for line in str(fm.plan(computation)).splitlines()]

    assert lines(bridge.translate(tutorial.federated_train)) == lines(native.federated_train)


def test_texts_are_replicated(comm):
    text = fc(lambda: fl.federated_value("Grüße", fl.SERVER))()
    assert fm.replicate(text) == "Grüße".encode()
    texts = fc(lambda x: x, fl.FederatedType((np.str_, [2]), fl.SERVER))(["a", "b"])
    assert fm.replicate(texts).tolist() == [b"a", b"b"]


def test_an_exception_at_a_client_is_raised_on_all_ranks(comm):
    @python(F32, result=F32)
    def fails_on_two(x):
        if x == 2:
            raise ArithmeticError("found two")
        return x

    mapped = fc(lambda x: fl.federated_map(fails_on_two, x), at_clients(F32))
    with pytest.raises(ArithmeticError, match="found two"):
        mapped([1.0, 2.0, 3.0])
    with pytest.raises(TypeError, match=r"client 2: expected float32, found str 'a'"):
        mapped([1.0, 3.0, "a"])


def test_state_stays_with_the_clients(comm):
    add = fc(lambda x, by: fl.federated_map(fc(lambda v: plus(v, by), F32), x), at_clients(F32), F32)
    state = fm.client_data([1.0, 2.0, 3.0], bridge.to_fedmpi(fl.to_type(F32)))
    for _ in range(2):
        state = bridge.translate(add).resident(state, 1.0)
    result = add(state, 1.0)
    if fm.is_server():
        assert result == [F32(4.0), F32(5.0), F32(6.0)]


def test_asynchronous_calls(comm):
    mean = fc(lambda x: fl.federated_mean(x), at_clients(F32))

    @fl.framework.with_context(bridge.AsyncContext)
    async def program():
        return await asyncio.gather(mean([1.0]), mean([1.0, 2.0]), mean([4.0] * 3))

    assert [fm.replicate(got) for got in asyncio.run(program())] == [F32(1.0), F32(1.5), F32(4.0)]
