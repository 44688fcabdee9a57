"""What the bridge to ``federated_language`` promises beside the results of programs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import traceback

import numpy as np
import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import federated_language as fl
import ml_dtypes
from federated_language import framework
from federated_language.proto import computation_pb2, data_type_pb2

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop.programs import F32, I32, Foo, at_clients, at_server, fc, numba, plus, python

STACK = framework.get_context_stack()


@pytest.fixture(autouse=True)
def _context():
    with STACK.install(bridge.context(fm.ReferenceContext())):
        yield


def test_without_the_package_the_extra_is_named():
    code = "import sys; sys.modules['federated_language'] = None; import fedmpi.interop.federated_language"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ModuleNotFoundError: fedmpi.interop.federated_language needs the package" in done.stderr
    assert "pip install 'fedmpi[federated-language]'" in done.stderr


TYPES = [
    np.bool_, np.str_, np.float16, ml_dtypes.bfloat16, np.complex128, np.uint8, (I32, [None, 3]), (I32, None), [],
    [I32], (I32, F32), {"a": I32}, [("a", I32), F32], Foo, fl.SequenceType((I32, F32)), fl.FunctionType(None, I32),
    fl.FunctionType((I32, F32), I32), at_server([I32]), at_clients(F32), at_clients(F32, True), fl.AbstractType("T"),
    fl.PlacementType(), fl.FederatedType(I32, fl.SERVER, False),
]  # fmt: skip


@pytest.mark.parametrize("spec", TYPES, ids=str)
def test_types_go_there_and_back(spec):
    type_ = fl.to_type(spec)
    made = bridge.to_fedmpi(type_)
    assert str(made) == str(type_)
    assert bridge.from_fedmpi(made) == type_  # containers too
    assert made is bridge.to_fedmpi(type_)


def test_types_of_another_package_are_refused():
    with pytest.raises(TypeError, match="to_fedmpi: expected a type of federated_language, found"):
        bridge.to_fedmpi(fm.to_type(I32))
    with pytest.raises(TypeError, match="from_fedmpi: expected a type of fedmpi, found"):
        bridge.from_fedmpi(fl.to_type(I32))


def test_a_computation_is_translated_once():
    as_list, as_tuple = fc(lambda x: [x, x], F32), fc(lambda x: (x, x), F32)
    assert as_list == as_tuple  # by their serialised form, which knows no containers
    assert bridge.translate(as_list) is bridge.translate(as_list)
    assert as_list(1.0) == [1.0, 1.0]
    assert as_tuple(1.0) == (1.0, 1.0)
    with pytest.raises(TypeError, match="translate: expected a computation of federated_language"):
        bridge.translate(fm.federated_computation(lambda x: x, F32))


def test_one_bcast_and_one_reduce():
    @fc(at_server((F32, F32)), at_server(F32), at_clients(F32), at_clients(I32))
    def average(model, rate, values, weights):
        down = fl.federated_broadcast(model)
        moved = fl.federated_map(plus, (down[0], fl.federated_map(plus, (values, fl.federated_broadcast(rate)))))
        return fl.federated_mean(moved, weights), fl.federated_sum(weights)

    plan = str(fm.plan(bridge.translate(average)))
    assert plan.count("Bcast") == 1
    assert plan.count("Reduce") == 1
    assert "one compiled loop from 100 clients a call on" in plan
    assert ": federated_map of plus at average; federated_map of plus at average" in plan
    assert "at the clients" not in plan


# --- local computations ---


def test_local_computations_are_computations_of_federated_language():
    assert isinstance(plus, framework.ConcreteComputation)
    assert plus.to_proto().HasField("data")
    assert str(plus.type_signature) == "(<x=float32,y=float32> -> float32)"
    assert framework.ConcreteComputation.from_proto(plus.to_proto())(1.0, 2.0) == F32(3.0)

    @python([I32], I32)
    def documented(x):
        """What it does."""
        return x

    assert documented.__name__ == "documented"
    assert documented.__doc__ == "What it does."
    assert documented.type_signature == fl.FunctionType(I32, I32)
    unnamed = python([I32, F32], [I32, F32])(lambda x, y: [x, y])
    assert unnamed.type_signature == fl.FunctionType([I32, F32], [I32, F32])


def test_polymorphic_local_computations():
    @numba
    def twice(x):
        return x + x

    assert twice(1.5) == F32(3.0)
    assert twice(2) == I32(4)
    assert fc(lambda x: fl.federated_map(twice, x), at_clients(F32))([1.0, 2.0]) == [F32(2.0), F32(4.0)]
    native = bridge.wrap(fm.numba_computation(lambda x: x * x))
    assert fc(lambda x: fl.federated_map(native, x), at_clients(F32))([3.0]) == [F32(9.0)]


def test_local_computations_call_each_other():
    @numba(F32)
    def plus_two(x):
        return plus(x, np.float32(2.0))

    @python(F32, result=F32)
    def plus_four(x):
        return plus_two(x) + 2

    assert plus_two(1.0) == F32(3.0)
    assert plus_four(1.0) == F32(5.0)
    assert bridge.translate(plus_two).expression.impl.compilable
    with STACK.install(bridge.AsyncContext(fm.ReferenceContext())):
        assert asyncio.run(plus_four(1.0)) == F32(5.0)


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: python([I32], I32)(lambda: 1), ValueError, "0 parameters need as many parameter_types, found 1"),
        (lambda: python(None, I32)(lambda x: 1), ValueError, "1 parameters need as many parameter_types, found 0"),
        (lambda: python(I32), TypeError, "needs the type of its result: result="),
        (lambda: numba(at_clients(I32))(lambda x: x), TypeError, "a local computation handles tensors, structs"),
        (lambda: numba(I32)(lambda x: eval("1")), TypeError, "Numba cannot compile this"),
        (lambda: numba(I32)(lambda x, y: x), TypeError, "2 parameters"),
        (lambda: bridge.wrap(plus), TypeError, "wrap: expected a computation of fedmpi, found"),
        (lambda: bridge.context("mpi"), TypeError, "expected a context of fedmpi, such as fm.MpiContext"),
    ],
)
def test_refused_where_it_is_defined(make, error, text):
    with pytest.raises(error, match=text):
        make()


# --- arguments and results ---


class Unhappy(Exception):
    pass


def test_an_exception_of_the_users_comes_out_as_itself():
    @python(I32, result=I32)
    def fails_on_two(x):
        if x == 2:
            raise Unhappy(f"found {x}")
        return x

    with pytest.raises(Unhappy, match="found 2"):
        fails_on_two(2)
    mapped = fc(lambda x: fl.federated_map(fails_on_two, x), at_clients(I32))
    with pytest.raises(Unhappy, match="found 2") as caught:
        mapped([1, 2])
    assert "client 1 of argument (rank 0), in fails_on_two (test_bridge.py:" in str(caught.value)


@fc(at_clients(F32), at_server(I32))
def both(values, number):
    return fl.federated_mean(values), number


@pytest.mark.parametrize(
    ("arguments", "keywords", "text"),
    [
        (([1.0, "a"], 1), {}, r"both: parameter values, client 1: expected float32, found str 'a'"),
        (([1, 2], 1), {}, r"both: parameter values, client 0: expected float32, found int 1"),
        (([1.0], 1.5), {}, r"both: parameter number: expected int32, found float 1.5"),
        ((2.0, 1), {}, r"both: parameter values: expected a list with one value for each client"),
        (([1.0],), {}, "Missing argument|expected"),
        ((), {"values": [1.0]}, "Missing argument `number`"),
    ],
)
def test_wrong_arguments_are_type_errors_that_name_the_parameter(arguments, keywords, text):
    with pytest.raises(TypeError, match=text):
        both(*arguments, **keywords)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_says_where_the_program_called(asynchronous):
    with (
        STACK.install(bridge.context(fm.ReferenceContext(), asynchronous=asynchronous)),
        pytest.raises(TypeError) as caught,
    ):
        asyncio.run(both([1.0], "a"))  # this line
    (frame,) = [f for f in traceback.extract_tb(caught.tb) if f.line and f.line.endswith("# this line")]
    assert f"at test_bridge.py:{frame.lineno}" in str(caught.value)


def test_conflicting_cardinalities():
    two = fc(lambda x, y: fl.federated_zip((x, y)), at_clients(I32), at_clients(I32))
    with pytest.raises(ValueError, match="Conflicting cardinalities for CLIENTS: 1 vs 2"):
        two([1], [1, 2])


def test_what_is_not_read_counts_clients_only():
    """As in an example of ``federated_language``; only members None are taken for a value that is not read."""
    counted = fc(lambda x: fl.federated_sum(fl.federated_value(1, fl.CLIENTS)), at_clients([("a", I32), ("b", F32)]))
    assert counted([None, None, None]) == I32(3)
    with pytest.raises(TypeError, match="client 1"):
        counted([(1, 1.0), None])
    with pytest.raises(TypeError, match="client 0"):
        fc(lambda x: fl.federated_sum(x), at_clients(I32))([None, None])


def test_functions_go_in_and_come_out():
    make = fc(lambda by: fc(lambda x: plus(x, by), F32), F32)
    add_two = make(2.0)
    assert isinstance(add_two, framework.ConcreteComputation)
    assert add_two(1.0) == F32(3.0)
    assert fc(lambda x: fl.federated_map(add_two, x), at_clients(F32))([1.0]) == [F32(3.0)]
    twice = fc(lambda fs, x: fs.f(fs.g(x)), [("f", fl.FunctionType(F32, F32)), ("g", fl.FunctionType(F32, F32))], F32)
    polymorphic = fc(lambda x: plus(x, 1.0))
    assert twice({"f": add_two, "g": polymorphic}, 1.0) == F32(4.0)
    assert twice(x=1.0, fs=(add_two, add_two)) == F32(5.0)


def test_client_data_stays_with_the_clients():
    add = fc(lambda x, by: fl.federated_map(fc(lambda v: plus(v, by), F32), x), at_clients(F32), F32)
    data = fm.client_data([1.0, 2.0], bridge.to_fedmpi(fl.to_type(F32)))
    fm.set_default_context(fm.ReferenceContext())
    try:
        state = bridge.translate(add).resident(data, 1.0)
        assert add(state, 1.0) == [F32(3.0), F32(4.0)]
    finally:
        fm.set_default_context(None)


# --- trees that cannot run ---


def proto(result, **computation):
    """Return the computation without parameters that is written like this."""
    type_ = computation_pb2.Type(function=computation_pb2.FunctionType(result=result))
    made = computation_pb2.Computation(type=type_, **computation)
    return framework.ConcreteComputation(computation_proto=made, context_stack=STACK)


INT32 = computation_pb2.Type(tensor=computation_pb2.TensorType(dtype=data_type_pb2.DT_INT32))


@pytest.mark.parametrize(
    ("computation", "text"),
    [
        (
            {"tensorflow": computation_pb2.TensorFlow()},
            "a computation of the backend 'tensorflow' cannot run on fedmpi",
        ),
        ({"xla": computation_pb2.Xla()}, "a computation of the backend 'xla' cannot run on fedmpi"),
        (
            {
                "lambda": computation_pb2.Lambda(
                    result=computation_pb2.Computation(type=INT32, data=computation_pb2.Data())
                )
            },
            "a block of data must hold a local computation of this process, found nothing b'' of type int32",
        ),
    ],
    ids=["tensorflow", "xla", "data"],
)
def test_blocks_of_other_backends(computation, text):
    with pytest.raises(ValueError, match=text):
        proto(INT32, **computation)()


def test_unknown_intrinsics():
    intrinsic = framework.Intrinsic("federated_gossip", fl.FunctionType(at_clients(I32), at_clients(I32)))
    with pytest.raises(ValueError, match="fedmpi knows no intrinsic 'federated_gossip'"):
        fc(lambda x: intrinsic_value(intrinsic)(x), at_clients(I32))([1])


def intrinsic_value(intrinsic):
    return fl.to_value(intrinsic, None)


def test_leaked_values():
    leaked = []
    fc(lambda x: leaked.append(x) or x, I32)
    with pytest.raises(RuntimeError, match="the value <lambda>_arg of type int32 belongs to another computation"):
        fc(lambda: leaked[0])()


# --- contexts ---


@fc(at_clients(F32))
def mean(values):
    return fl.federated_mean(values)


def test_install():
    before = STACK._stack[0]
    with STACK.install(before), pytest.raises(RuntimeError, match="No default context installed"):
        mean([1.0])
    try:
        bridge.install()
        with STACK.install(STACK._stack[0]):
            assert mean([1.0, 2.0]) == F32(1.5)
        bridge.install(fm.ReferenceContext(), asynchronous=True)
        with STACK.install(STACK._stack[0]):
            assert asyncio.run(mean([1.0, 2.0])) == F32(1.5)
    finally:
        framework.set_no_default_context()


@framework.with_context(bridge.SyncContext)
def test_a_context_made_by_its_class():
    assert mean([1.0, 2.0]) == F32(1.5)


def test_asynchronous_calls():
    add = fc(lambda x, y: fl.federated_map(plus, (x, y)), at_server(F32), at_server(F32))

    @framework.with_context(bridge.AsyncContext)
    async def program():
        several = await asyncio.gather(mean([1.0]), mean([1.0, 2.0]), mean([4.0] * 3))
        return several, await add(await mean([1.0, 3.0]), 1.0), await fc(lambda x: x, at_server(F32))(mean([5.0]))

    assert asyncio.run(program()) == ([F32(1.0), F32(1.5), F32(4.0)], F32(3.0), F32(5.0))


def test_the_program_api():
    """The loop of the package's example program: state and metrics stay references until they are released."""

    @python([fl.SequenceType(I32)], I32)
    def sum_sequence(values):
        return sum(values)

    @fc(at_server(I32), at_clients(fl.SequenceType(I32)))
    def train(state, data):
        total = fl.federated_sum(fl.federated_map(sum_sequence, data))
        state = fl.federated_map(numba(I32, I32)(lambda x, y: x + y), (state, total))
        return state, fl.federated_zip({"total_sum": total})

    initialize = fc(lambda: fl.federated_value(0, fl.SERVER))

    @framework.with_context(lambda: fl.program.NativeFederatedContext(bridge.AsyncContext()))
    async def program():
        state = initialize()
        for _ in range(3):
            state, metrics = train(state, [list(range(10))] * 3)
        return await fl.program.materialize_value((state, metrics))

    assert asyncio.run(program()) == (I32(405), {"total_sum": I32(135)})
