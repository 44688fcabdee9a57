"""Programs that are right but unusual: mixed layouts, odd names and sizes, calls inside calls, other threads."""

from __future__ import annotations

import collections
import threading

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import AT_CLIENTS, AT_SERVER, F32, I32, assert_same, half, mean_temperature, plus

pytestmark = pytest.mark.mpi
fc = fm.federated_computation
OPEN, FIXED = fm.TensorType(F32, [None]), fm.TensorType(F32, [2])
INF, NAN = float("inf"), float("nan")


@fm.numba_computation(fm.SequenceType((F32, [None, 3])))
def rows(batches):
    total = np.float32(0)
    for batch in batches:
        total += batch.shape[0] + batch.sum()
    return np.float32(total)


@fm.python_computation((F32, [2, 3]), result=(F32, [2, 3]))
def unchanged(batch):
    return batch


def same(program, *arguments, want, reference=True):
    """Assert that a program gives ``want`` here and, unless its arguments live on these ranks, in the reference."""
    contexts = [fm.MpiContext(), fm.MpiContext(server_trains=True)]
    for context in (*contexts, *([fm.ReferenceContext()] if reference else [])):
        fm.set_default_context(context)
        assert_same(fm.replicate(program(*arguments)), want)


def test_sequences_of_known_sizes_where_open_ones_are_wanted(comm):
    """The two are stored in different ways."""
    known = fm.SequenceType((F32, [2, 3]))
    batch = np.ones((2, 3), F32)
    same(fc(lambda v: fm.federated_map(rows, v), AT_CLIENTS(known)), [[batch], []], want=[F32(8.0), F32(0.0)])
    same(fc(lambda v: rows(v), known), [batch, batch], want=F32(16.0))
    same(fc(lambda v: rows(fm.sequence_map(unchanged, v)), known), [batch], want=F32(8.0))
    down = fc(lambda s, v: fm.federated_map(rows, fm.federated_broadcast(s)), AT_SERVER(known), AT_CLIENTS(I32))
    same(down, [batch], [1, 2], want=[F32(8.0), F32(8.0)])


def test_client_data_of_known_sizes_where_open_ones_are_wanted(comm):
    ones, zeros = np.ones(2, F32), np.zeros(2, F32)
    data = fm.client_data([ones, zeros, ones], FIXED)
    texts = ["a", "b", "c"]
    both = fc(lambda v, w: (v, w), AT_CLIENTS(OPEN), AT_CLIENTS(np.str_))
    same(both, data, texts, want=([ones, zeros, ones], texts), reference=False)
    weighted = fc(lambda v, w: fm.federated_mean(v, w), AT_CLIENTS(OPEN), AT_CLIENTS(I32))
    same(weighted, data, [1, 1, 2], want=np.array([0.75, 0.75], F32), reference=False)
    batches = fm.client_data([[np.ones((2, 3), F32)], [], [np.zeros((2, 3), F32)] * 2], fm.SequenceType((F32, [2, 3])))
    wanted = AT_CLIENTS(fm.SequenceType((F32, [None, 3])))
    same(fc(lambda v: fm.federated_map(rows, v), wanted), batches, want=[F32(8), F32(0), F32(4)], reference=False)
    widened = fc(lambda v: v, AT_CLIENTS(OPEN))
    resident = fc(lambda v: widened(v), AT_CLIENTS(FIXED)).resident(data)
    assert_same(fm.replicate(widened(resident)), [ones, zeros, ones])


def test_client_data_of_three_homes_and_a_list(comm):
    floats = fm.SequenceType(F32)
    first = fm.client_data([[1.0] * 9, [1.0], [1.0]], floats)
    last = fm.client_data([[1.0], [1.0], [2.0] * 9], floats)
    numbers = fm.client_data([1.0, 2.0, 3.0], F32)
    program = fc(
        lambda a, b, c, d: fm.federated_zip((fm.sequence_sum(a), fm.sequence_sum(b), c, d)),
        AT_CLIENTS(floats), AT_CLIENTS(floats), AT_CLIENTS(F32), AT_CLIENTS(F32),
    )  # fmt: skip
    want = [tuple(map(F32, row)) for row in ((9, 1, 1, 7), (1, 1, 2, 8), (1, 18, 3, 9))]
    same(program, first, last, numbers, [7.0, 8.0, 9.0], want=want, reference=False)
    with pytest.raises(TypeError, match="parameter d, client 2: expected float32, found str 'x'"):
        program(last, first, numbers, [7.0, 8.0, "x"])
    with pytest.raises(ValueError, match="Conflicting cardinalities for CLIENTS: 3 vs 1"):
        program(last, first, numbers, [7.0])


@pytest.mark.parametrize(
    "name", ["a b", "class", "ü", "0", "a.b", "", "_x", "keys", "comp", "_type", "element0_", "'\n"]
)
def test_odd_names_of_elements(comm, name):
    type_ = fm.StructType([(name, F32), ("other", I32)])
    value, want = {"other": 2, name: 1.5}, collections.OrderedDict([(name, F32(1.5)), ("other", I32(2))])
    same(
        fc(lambda x: (fm.federated_sum(x), fm.federated_mean(x[name])), AT_CLIENTS(type_)),
        [value],
        want=(want, F32(1.5)),
    )
    same(fm.python_computation(lambda x: x[name], type_, result=F32), value, want=F32(1.5))
    fm.set_default_context(fm.MpiContext())
    assert fm.replicate(fc(lambda x: fm.federated_sum(x), AT_CLIENTS(type_))([value])[name]) == F32(1.5)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64, np.uint64])
def test_extreme_integers(comm, dtype):
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    same(fc(lambda v: v, AT_CLIENTS(dtype)), [low, high], want=[dtype(low), dtype(high)])
    total = fc(lambda v: fm.federated_sum(v), AT_CLIENTS(dtype))
    same(total, [high, 0, low], want=dtype(high + low))
    same(total, [high], want=dtype(high))
    with pytest.raises(OverflowError, match=f"the sum does not fit {np.dtype(dtype).name}: it is {high + 1}"):
        total([high, 1])


def test_the_parts_of_a_complex_number_do_not_mix(comm):
    """As complex products and quotients, inf + 1j times or over a real number would have NaN in it."""
    c64 = np.complex64
    program = fc(
        lambda v, w: (fm.federated_sum(v), fm.federated_mean(v), fm.federated_mean(v, w)),
        AT_CLIENTS(c64),
        AT_CLIENTS(I32),
    )
    want = (c64(complex(INF, 2)), c64(complex(INF, 1)), c64(complex(INF, 1)))
    same(program, [complex(INF, 1), 1j], [2, 2], want=want)
    same(
        program, [complex(NAN, 1), 1j], [2, 2], want=(c64(complex(NAN, 2)), c64(complex(NAN, 1)), c64(complex(NAN, 1)))
    )


def test_what_the_result_does_not_need_is_not_computed(comm):
    @fc(AT_CLIENTS(F32))
    def program(v):
        fm.federated_mean(v)
        return fm.federated_sum(v)

    assert "federated_mean" not in str(program)
    same(program, [], want=F32(0.0))


def test_all_equal_values(comm):
    everyone = AT_CLIENTS(fm.to_type((F32, I32, I32)), all_equal=True)
    program = fc(lambda v, n: (v[0:2], v[1], fm.federated_sum((v[1], n))), everyone, AT_CLIENTS(I32))
    same(program, (1.0, 2, 3), [5, 6], want=((F32(1.0), I32(2)), I32(2), (I32(4), I32(11))))
    same(fc(lambda v: v[::2], everyone), (1.0, 2, 3), want=(F32(1.0), I32(3)))


def test_a_result_like_no_container_is_refused_on_all_ranks(comm):
    for make in (lambda x: x, lambda x: fm.federated_sum(fm.federated_broadcast(x))):
        with pytest.raises(ValueError, match="<float64,a=int32> has elements with and without names"):
            fc(make, AT_SERVER([np.float64, ("a", I32)]))((1.0, 2) if fm.is_server() else None)
    same(fc(lambda x: x["a"], AT_SERVER([np.float64, ("a", I32)])), (1.0, 2), want=I32(2))


def test_open_dimensions_are_not_stretched(comm):
    with pytest.raises(ValueError, match="add: both sides must have one shape"):
        fc(lambda a, b: a + b, OPEN, OPEN)([1.0, 2.0], [3.0])
    fold = fc(lambda s, z: fm.sequence_reduce(s, z, fc(lambda t, x: t + x, OPEN, OPEN)), fm.SequenceType(OPEN), OPEN)
    same(fold, [[1.0, 2.0]], [1.0, 1.0], want=np.array([2.0, 3.0], F32))
    with pytest.raises(ValueError, match="add: both sides must have one shape"):
        fold([[1.0, 2.0]], [1.0])


def test_a_federated_call_inside_a_local_computation(comm):
    """Only some ranks run it, so the others would wait for ever."""

    @fm.python_computation(F32, result=F32)
    def calls(x):
        return mean_temperature([float(x)])

    for program in (
        fc(lambda v: fm.federated_map(calls, v), AT_CLIENTS(F32)),
        fc(lambda v: fm.federated_map(calls, fm.federated_mean(v)), AT_CLIENTS(F32)),
    ):
        with pytest.raises(fm.ContextError, match="mean_temperature is collective and cannot be called inside a local"):
            program([1.0, 3.0])
        assert fm.replicate(mean_temperature([1.0, 3.0])) == F32(2.0)

    @fm.python_computation(F32, result=F32)
    def calls_local(x):
        return half(float(x)) + fc(lambda a: a + 1.0, F32)(float(x))

    same(fc(lambda v: fm.federated_map(calls_local, v), AT_CLIENTS(F32)), [2.0], want=[F32(4.0)])


def test_calls_from_another_thread(comm):
    got = []
    fm.set_default_context(fm.MpiContext())
    thread = threading.Thread(target=lambda: got.append(fm.replicate(mean_temperature([1.0, 3.0]))))
    thread.start()
    thread.join()
    assert got == [F32(2.0)]


def test_placeholders_in_the_wrong_place(comm):
    number = mean_temperature([1.0, 3.0])
    state = fm.to_type(collections.OrderedDict(a=AT_SERVER(F32), b=(AT_SERVER(F32),)))
    program = fc(lambda p, v: fm.federated_map(plus, (v, fm.federated_broadcast(p.b[0]))), state, AT_CLIENTS(F32))
    assert fm.replicate(program({"a": number, "b": (number,)}, [1.0])) == [F32(3.0)]
    if comm.size == 1:
        return
    placed = r"found a placeholder for float32@SERVER \(the value is on rank 0 only: fm\.replicate\(value\) brings"
    for type_ in (F32, AT_CLIENTS(F32, all_equal=True)):
        with pytest.raises(TypeError, match=placed + r".* which one this is\)\n  at "):
            fc(lambda s, v: (s, fm.federated_sum(v)), fm.to_type(type_), AT_CLIENTS(F32))(number, [1.0])
    with pytest.raises(TypeError, match=r"found a placeholder for \{float32\}@CLIENTS"):
        mean_temperature(fc(lambda v: v, AT_CLIENTS(F32))([1.0, 2.0]))


def test_contexts_take_turns(comm):
    for context in (fm.ReferenceContext(), fm.MpiContext(), fm.ReferenceContext(), fm.MpiContext(server_trains=True)):
        fm.set_default_context(context)
        assert fm.replicate(mean_temperature(fm.client_data([1.0, 3.0], F32))) == F32(2.0)
        assert fm.is_server() or comm.rank > 0
