"""Compiled loops give the same bits as the interpreter, whatever the types, the data and the captured values."""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedmpi as fm
from fedmpi.language.tree.expressions import evaluate
from fedmpi.local.columns.comparing import difference
from fedmpi.local.columns.values import normalise, present
from fedmpi.local.computations.bodies import NotCompilable
from fedmpi.local.loops.compiled import CompiledFunction
from fedmpi.local.loops.functions import LocalFunction, local_function
from fedmpi.local.loops.interpret import Interpreter

F32, F64, I32 = np.float32, np.float64, np.int32
VECTOR = fm.TensorType(F32, [None])
SEQUENCE = fm.SequenceType(F32)
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def both(computation):
    """Return two functions of Python arguments: the compiled form and the interpreted one, both to Python results."""
    type_ = computation.type_signature
    closure = evaluate(computation.expression, {}, Interpreter())
    compiled = CompiledFunction(closure, type_.parameter, type_.result, "test")
    assert not compiled.captured

    def run(call):
        def with_python(*arguments):
            argument = normalise(arguments[0] if len(arguments) == 1 else arguments, type_.parameter)
            try:
                return present(call(argument), type_.result)
            except (OverflowError, IndexError, TypeError, ValueError) as error:
                return type(error), str(error), getattr(error, "fedmpi_batch", None)

        return with_python

    return run(lambda a: compiled(a, ())), run(lambda a: Interpreter().invoke(closure, a))


def same_bits(got: Any, want: Any) -> None:
    """Any NaN is as good as another: processors differ in their signs."""
    assert difference(got, want) == ""


def check(computation, *arguments):
    compiled, interpreted = both(computation)
    same_bits(compiled(*arguments), interpreted(*arguments))
    return compiled(*arguments)


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
integers = st.integers(-(2**31), 2**31 - 1)


@fm.numba_computation(F32, F32)
def plus(x, y):
    return x + y


@fm.numba_computation(F32)
def third(x):
    return x / 3


@fm.federated_computation(SEQUENCE, F32)
def chain(values, zero):
    @fm.federated_computation(F32)
    def shifted(x):
        return (third(x) * x) - zero

    mapped = fm.sequence_map(third, fm.sequence_map(shifted, values))
    return fm.sequence_reduce(mapped, zero, plus), fm.sequence_sum(mapped), fm.sequence_sum(values)


CHAIN = both(chain)


@many
@given(st.lists(floats, max_size=8), floats)
def test_chains_of_scalars(values, zero):
    with np.errstate(all="ignore"):
        same_bits(CHAIN[0](values, zero), CHAIN[1](values, zero))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64])
def test_integer_sums_overflow_alike(dtype):
    info = np.iinfo(dtype)
    sums = both(fm.federated_computation(lambda s: fm.sequence_sum(s), fm.SequenceType(dtype)))
    arrays = both(fm.federated_computation(lambda s: fm.sequence_sum(s), fm.SequenceType(fm.TensorType(dtype, [2]))))
    lists = [[], [info.max], [info.max, 1], [info.min, info.max], [info.max, 0, 1], [1, 2, 3]]
    lists += [[info.min, -1]] if info.min else [[info.max, info.max]]
    for values in lists:
        exact = sum(values)
        for compiled, interpreted in (sums, arrays):
            data = values if compiled is sums[0] else [np.array([v, 0], dtype) for v in values]
            got, want = compiled(data), interpreted(data)
            same_bits(got, want)
            if any(not info.min <= sum(values[:n]) <= info.max for n in range(len(values) + 1)):
                assert got[:2] == (OverflowError, f"the sum does not fit {np.dtype(dtype).name}")
            else:
                assert np.reshape(got, -1)[0] == exact


@pytest.mark.parametrize("dtype", [np.bool_, np.int16, F32, F64, np.complex64, np.complex128])
def test_elementwise_operators(dtype):
    """The arithmetic of traced values: `+ - * /` and comparisons inside a mapped function."""
    kind = np.dtype(dtype).kind

    @fm.federated_computation((dtype, dtype))
    def each(pair):
        a, b = pair
        results = [a == b, a != b]
        if kind != "b":
            results += [a + b, a - b, a * b]
        if kind in "fc":
            results += [a / b]
        if kind in "if":
            results += [a < b, a >= b]
        return tuple(results)

    state = each.type_signature.result

    @fm.federated_computation(fm.SequenceType((dtype, dtype)), state)
    def program(pairs, zero):
        return fm.sequence_reduce(pairs, zero, fm.federated_computation(lambda s, p: each(p), state, (dtype, dtype)))

    rng = np.random.default_rng(0)
    if kind == "b":
        values = [(True, False), (True, True)]
    elif kind == "i":
        values = rng.integers(-180, 180, (20, 2)).astype(dtype)  # beyond int16 is an error
    else:
        values = (rng.normal(size=(40, 2)) * 10.0 ** rng.integers(-18, 18, (40, 2))).astype(dtype)
        if kind == "c":
            values = values + 1j * values[::-1]
    closure = evaluate(program.expression, {}, Interpreter())
    function = LocalFunction(closure, program.type_signature.parameter, state, "program").bound(lambda value: value)
    zero = tuple(part.dtype.type(0) for part in state)
    for row in values:
        argument = normalise(([tuple(dtype(v) for v in row)], zero), program.type_signature.parameter)
        with np.errstate(all="ignore"):
            same_bits(function(argument), Interpreter().invoke(closure, argument))


STATE = OrderedDict(a=VECTOR, b=VECTOR, n=np.int64)


@fm.numba_computation(STATE, F32)
def swap(state, x):
    return OrderedDict(a=state.b, b=state.a + x, n=state.n + 1)


@fm.numba_computation(STATE, F32)
def alias(state, x):
    return OrderedDict(a=state.a, b=state.a, n=state.n)


@fm.numba_computation(STATE, F32)
def grow(state, x):
    return OrderedDict(a=np.append(state.a, x), b=state.b[1:], n=state.n + len(state.b))


@fm.numba_computation(VECTOR, VECTOR)
def element(state, x):
    return x


@pytest.mark.parametrize("step", [swap, alias, grow], ids=["swap", "alias", "grow"])
def test_states_that_swap_alias_and_grow(step):
    @fm.federated_computation(fm.SequenceType(F32), STATE)
    def program(values, zero):
        return fm.sequence_reduce(values, zero, step)

    zero = {"a": np.arange(2, dtype=F32), "b": np.arange(3, 8, dtype=F32), "n": 0}
    kept = {k: np.copy(v) for k, v in zero.items()}
    for values in ([], [1.0], [1.0, 2.0, 3.0]):
        got = check(program, values, zero)
        assert type(got) is OrderedDict
        got["a"][:] = -1
        np.testing.assert_array_equal(zero["a"], kept["a"])
        assert not np.any(got["b"] == -1)


def test_a_state_may_become_an_element():
    program = fm.federated_computation(lambda s, z: fm.sequence_reduce(s, z, element), fm.SequenceType(VECTOR), VECTOR)
    data = [np.ones(3, F32), np.zeros(1, F32)]
    got = check(program, data, np.ones(2, F32))
    got[:] = 7
    assert np.all(data[1] == 0)


def test_literals_and_containers_of_states():
    @fm.numba_computation((F32, I32), F32)
    def count(state, x):
        return state[0] + x, state[1] + 1

    program = fm.federated_computation(lambda s: fm.sequence_reduce(s, (0.0, 0), count), SEQUENCE)
    assert check(program, [1.5, 2.0]) == (3.5, 2)
    assert check(program, []) == (0.0, 0)


BATCHES = fm.SequenceType(OrderedDict(x=fm.TensorType(F32, [None, 3]), y=fm.TensorType(I32, [None])))


@fm.numba_computation(OrderedDict(w=(F32, [3]), b=F32), BATCHES.element, F32)
def train(model, batch, rate):
    error = np.dot(batch.x, model.w) + model.b - batch.y.astype(np.float32)
    return OrderedDict(w=model.w - rate * np.dot(error, batch.x), b=model.b - rate * error.mean())


@fm.federated_computation(OrderedDict(w=(F32, [3]), b=F32), F32, BATCHES)
def local_train(model, rate, batches):
    @fm.federated_computation(OrderedDict(w=(F32, [3]), b=F32), BATCHES.element)
    def step(m, batch):
        return train(m, batch, rate)

    return fm.sequence_reduce(batches, model, step)


TRAIN = both(local_train)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), max_size=4), st.integers(0, 2**31), st.sampled_from([0.0, 0.1, 1e-3]))
def test_training_loops_with_captured_values(sizes, seed, rate):
    rng = np.random.default_rng(seed)
    batches = [{"x": rng.normal(size=(n, 3)).astype(F32), "y": rng.integers(0, 9, n).astype(I32)} for n in sizes]
    model = {"w": rng.normal(size=3).astype(F32), "b": 0.5}
    same_bits(TRAIN[0](model, rate, batches), TRAIN[1](model, rate, batches))


def test_captured_symbols_are_arguments_of_the_compiled_loop():
    @fm.federated_computation(F32, VECTOR)
    def around(factor, shift):
        @fm.federated_computation(SEQUENCE)
        def inner(values):
            @fm.federated_computation(F32)
            def each(x):
                return x * factor

            return fm.sequence_sum(fm.sequence_map(each, values)), shift

        return inner

    outer = evaluate(around.expression, {}, Interpreter())
    argument = normalise((2.0, np.arange(3, dtype=F32)), around.type_signature.parameter)
    inner = Interpreter().invoke(outer, argument)
    type_ = around.type_signature.result
    values = normalise([1.0, 4.0], SEQUENCE)

    class Symbol:
        def __init__(self, type_, value):
            self.type, self.value = type_, value

    symbols = Symbol(around.type_signature.parameter[0], argument[0]), Symbol(VECTOR, argument[1])
    symbolic = type(inner)(
        inner.function, {name: _symbolic(value, argument, symbols) for name, value in inner.env.items()}
    )
    function = LocalFunction(symbolic, SEQUENCE, type_.result, "inner")
    assert function._compiled is not None
    same_bits(function.bound(lambda symbol: symbol.value)(values), Interpreter().invoke(inner, values))


def _symbolic(value, argument, symbols):
    from fedmpi.local.loops.writer import Parts

    if value is argument:
        return Parts(symbols, fm.StructType([s.type for s in symbols]))
    return next((s for s, part in zip(symbols, argument, strict=True) if part is value), value)


def test_both_remember_the_batch_of_an_error():
    def make(label):
        return {"x": np.ones((2, 3), F32), "y": np.array([label], I32)}

    @fm.federated_computation(BATCHES, F32)
    def program(batches, zero):
        @fm.numba_computation(F32, BATCHES.element)
        def step(total, batch):
            return total + batch.x[batch.y[0], 0]

        return fm.sequence_reduce(batches, zero, step)

    compiled, interpreted = both(program)
    data = [make(0), make(5)]
    assert compiled(data, 0.0)[2] == interpreted(data, 0.0)[2] == 1


def test_what_is_not_compiled_is_interpreted():
    @fm.python_computation(F32, result=F32)
    def slow(x):
        return float(str(x))

    program = fm.federated_computation(lambda s: fm.sequence_sum(fm.sequence_map(slow, s)), SEQUENCE)
    closure = evaluate(program.expression, {}, Interpreter())
    with pytest.raises(NotCompilable, match="slow is a python_computation"):
        CompiledFunction(closure, SEQUENCE, program.type_signature.result, "program")
    assert local_function(program.expression, "program")(normalise([0.25, 1.0], SEQUENCE)) == F32(1.25)


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_sums_of_structs_of_arrays(data):
    shape = (2, 3)
    values = data.draw(st.lists(hnp.arrays(F32, shape, elements=floats), max_size=4))
    numbers = [data.draw(st.integers(-(2**29), 2**29)) for _ in values]
    elements = [{"a": v, "b": (n, v[0])} for v, n in zip(values, numbers, strict=True)]
    with np.errstate(all="ignore"):
        same_bits(SUMS[0](elements), SUMS[1](elements))


SUMS = both(
    fm.federated_computation(
        lambda s: fm.sequence_sum(s),
        fm.SequenceType(OrderedDict(a=fm.TensorType(F32, [2, 3]), b=(I32, fm.TensorType(F32, [3])))),
    )
)


def test_arithmetic_on_structs_and_open_dimensions():
    pair = OrderedDict(a=VECTOR, b=np.int8)

    @fm.federated_computation(fm.SequenceType(pair), pair)
    def program(values, zero):
        @fm.federated_computation(pair, pair)
        def add(state, value):
            return state + value

        return fm.sequence_reduce(values, zero, add)

    def make(n, number):
        return {"a": np.ones(n, F32), "b": number}

    assert check(program, [make(2, 100), make(2, 20)], make(2, 0))["b"] == 120
    error, text, batch = check(program, [make(2, 100), make(2, 100)], make(2, 0))
    assert (error, batch) == (OverflowError, 1)
    assert text.startswith("add: 100 + 100 is 200, which does not fit int8 (-128 to 127)\n  at test_compiled.py:")
    for values in ([make(1, 0)], [make(3, 0)], [make(2, 0), make(0, 0)]):
        error, text, batch = check(program, values, make(2, 0))
        assert error.__name__ == "UnequalShapesError"
        assert text == f"add: both sides must have one shape, found [2] and [{len(values[-1]['a'])}]"
        assert batch == len(values) - 1


def test_other_threads_go_on_while_compiled_code_runs():
    @fm.numba_computation(F32, result=F32)  # declared: to find it out, Python would run the body
    def long(x):
        total = 0.0
        for _ in range(150_000_000):
            total = 0.999 * total + x
        return total

    thread = threading.Thread(target=long, args=(1.0,))
    thread.start()
    ticks = 0
    while thread.is_alive():
        time.sleep(0.001)
        ticks += 1
    assert ticks > 20


ARITHMETIC = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


SCALARS, VECTORS = ((), ()), ((2,), (2,))


@pytest.mark.parametrize(
    ("dtype", "shapes"),
    [(np.int8, VECTORS), (np.uint8, SCALARS), (np.int64, SCALARS), (np.int64, ((2,), ())), (np.uint64, ((), (2,)))],
)
def test_traced_integers_that_do_not_fit(dtype, shapes):
    """The exact result where it fits the dtype, else an error with the numbers, compiled and interpreted."""
    low, high = (int(n) for n in (np.iinfo(dtype).min, np.iinfo(dtype).max))
    root = int(high**0.5)
    numbers = [0, 1, 2, root, root + 1, high, high - 1, low, low + 1, -1 if low else 3]
    types = [fm.TensorType(dtype, shape) for shape in shapes]
    for symbol, operation in ARITHMETIC.items():
        compiled, interpreted = both(fm.federated_computation(operation, *types))
        for a, b in itertools.product(numbers, numbers):
            arguments = [n if shape == () else [n, 1] for n, shape in zip((a, b), shapes, strict=True)]
            exact = np.asarray(operation(*(np.array(argument, object) for argument in arguments)))
            got, want = compiled(*arguments), interpreted(*arguments)
            wrong = [n for n in exact.reshape(-1).tolist() if not low <= n <= high]
            if not wrong:
                same_bits(got, want)
                assert np.asarray(got).tolist() == exact.tolist()
            else:
                assert got == want
                assert got[0] is OverflowError
                assert f" {symbol} " in got[1]
                assert (
                    f" is {wrong[0]}, which does not fit {np.dtype(dtype).name} ({low} to {high})\n  at test_com"
                    in got[1]
                )
