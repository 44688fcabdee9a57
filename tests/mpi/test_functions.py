"""Functions as arguments, as results and in captures, on these ranks and in the reference evaluator."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import AT_CLIENTS, AT_SERVER, F32, I32, assert_same, half, plus

pytestmark = pytest.mark.mpi
fc = fm.federated_computation
FLOATS = fm.SequenceType(F32)
TO_FLOAT = fm.FunctionType(F32, F32)


@fm.python_computation(F32, result=F32)
def python_half(x):
    return float(x) / 2


def same(program, *arguments, want, **keywords):
    """Assert that a program gives ``want`` here and in the reference evaluator."""
    for context in (fm.MpiContext(), fm.MpiContext(server_trains=True), fm.ReferenceContext()):
        fm.set_default_context(context)
        assert_same(fm.replicate(program(*arguments, **keywords)), want)


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_returned_functions_are_called_later(comm, context):
    fm.set_default_context(context())
    adder = fc(lambda a: fc(lambda b: a + b, F32), F32)
    assert str(adder.type_signature) == "(float32 -> (float32 -> float32))"
    add_two = adder(2.0)
    assert add_two(1.5) == F32(3.5)
    total = fc(lambda a: fc(lambda b: fc(lambda c: a * b + c, F32), F32), F32)
    assert total(2.0)(3.0)(4.0) == F32(10.0)
    number, function = fc(lambda x: (x, fc(lambda y: x + y, F32)), F32)(1.0)
    assert (number, function(2.0)) == (F32(1.0), F32(3.0))
    assert fm.replicate(fc(lambda v: fm.federated_map(add_two, v), AT_CLIENTS(F32))([1.0, 2.0])) == [F32(3.0), F32(4.0)]


def test_structs_of_functions_may_be_nested(comm):
    nested = fm.to_type({"outer": TO_FLOAT, "inner": [TO_FLOAT, F32]})
    program = fc(lambda given, x: given.outer(given.inner[0](x)) + given.inner[1], nested, F32)
    same(program, {"outer": half, "inner": [python_half, 1.0]}, 4.0, want=F32(2.0))
    for context in (fm.MpiContext(), fm.ReferenceContext()):
        fm.set_default_context(context)
        with pytest.raises(TypeError, match=r"given\.inner\.1: expected float32, found str 'a'"):
            program({"outer": half, "inner": [half, "a"]}, 4.0)


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_returned_functions_keep_what_they_captured(comm, context):
    fm.set_default_context(context())
    struct = fm.to_type([(F32, [None]), np.str_, (np.str_, [2]), fm.SequenceType(np.str_), []])
    kept = fc(lambda s: fc(lambda: s), struct)
    value = [[1.0, 2.0], "ü", ["a", "bb"], ["x"], []]
    vector, text, texts, sequence, empty = kept(value)()
    assert_same(vector, np.array([1.0, 2.0], F32))
    assert (text, list(texts), sequence, empty) == ("ü", ["a", "bb"], ["x"], [])
    assert fc(lambda s: fc(lambda x: x + fm.sequence_sum(s), F32), FLOATS)([1.0, 2.0])(4.0) == F32(7.0)
    # With a loop, which is compiled, around the captured value.
    scaled = fc(lambda a: fc(lambda s: fm.sequence_sum(fm.sequence_map(fc(lambda x: x * a, F32), s)), FLOATS), F32)
    assert scaled(3.0)([1.0, 2.0]) == F32(9.0)
    mapped = fc(lambda v: fm.federated_map(scaled(3.0), v), AT_CLIENTS(FLOATS))
    assert fm.replicate(mapped([[1.0], []])) == [F32(3.0), F32(0.0)]


def test_a_returned_function_with_placements(comm):
    scaled_mean = fc(
        lambda rate: fc(lambda v: fm.federated_mean(fm.federated_map(fc(lambda x: x * rate, F32), v)), AT_CLIENTS(F32)),
        F32,
    )
    same(scaled_mean(3.0), [1.0, 3.0], want=F32(6.0))


def test_a_returned_function_cannot_keep_a_placed_value(comm):
    def body(server):
        # Made by a call, so that only the plan sees what it captures.
        make = fc(lambda n: fc(lambda v: fm.federated_zip((v, fm.federated_broadcast(server))), AT_CLIENTS(F32)), I32)
        return make(1)

    with pytest.raises(TypeError, match="a function that is returned must use no placed value"):
        fc(body, AT_SERVER(F32))(1.0)
    assert fm.replicate(1) == 1


def test_functions_as_arguments(comm):
    twice = fc(lambda x, f: f(f(x)), F32, TO_FLOAT)
    adder = fc(lambda a: fc(lambda b: a + b, F32), F32)
    for function, want in ((half, 2.0), (python_half, 2.0), (adder(3.0), 14.0), (fc(lambda x: x), 8.0)):
        same(twice, 8.0, function, want=F32(want))
        same(twice, f=function, x=8.0, want=F32(want))
    mapped = fc(lambda f, v: fm.federated_map(f, v), TO_FLOAT, AT_CLIENTS(F32))
    for function, want in ((half, 1.0), (python_half, 1.0), (adder(3.0), 5.0), (fc(lambda x: x + 1.0), 3.0)):
        same(mapped, function, [2.0], want=[F32(want)])
    same(
        fc(lambda f, v: f(v), fm.FunctionType(AT_CLIENTS(F32), AT_SERVER(F32)), AT_CLIENTS(F32)),
        fc(lambda v: fm.federated_mean(v), AT_CLIENTS(F32)),
        [1.0, 3.0],
        want=F32(2.0),
    )
    summed = fc(
        lambda f, v: fm.federated_map(fc(lambda s: fm.sequence_sum(fm.sequence_map(f, s)), FLOATS), v),
        TO_FLOAT,
        AT_CLIENTS(FLOATS),
    )
    for function in (half, python_half):
        same(summed, function, [[2.0], [4.0, 6.0]], want=[F32(1.0), F32(5.0)])


def test_functional_arguments_are_told_apart_by_place_and_not_by_name(comm):
    triple = fc(lambda x: x * 3.0, F32)
    type_ = fm.StructType([("a.b", TO_FLOAT), ("a", [("b", TO_FLOAT)]), ("v", AT_CLIENTS(F32))])
    program = fc(lambda p: (p["a.b"](1.0), p["a"]["b"](1.0), fm.federated_sum(p["v"])), type_)
    same(program, {"a.b": half, "a": {"b": triple}, "v": [1.0]}, want=(F32(0.5), F32(3.0), F32(1.0)))


@pytest.mark.parametrize("given", [lambda x: x, fc(lambda x: x, I32), 5], ids=["Python", "int32", "5"])
def test_a_wrong_functional_argument(comm, given):
    program = fc(lambda f, v: fm.federated_map(f, v), TO_FLOAT, AT_CLIENTS(F32))
    with pytest.raises(TypeError, match=r"lambda: parameter f: expected \(float32 -> float32\), found "):
        program(given, [1.0])


def test_captures(comm):
    pair = collections.OrderedDict(a=F32, b=(F32, F32))
    same(
        fc(
            lambda s, q, v: fm.federated_map(fc(lambda x: x * s.a + s.b[0] + fm.sequence_sum(q), F32), v),
            pair, FLOATS, AT_CLIENTS(F32),
        ),
        {"a": 2.0, "b": (1.0, 9.0)}, [1.0, 2.0], [1.0, 2.0, 3.0], want=[F32(6.0), F32(8.0), F32(10.0)],
    )  # fmt: skip
    deep = fc(lambda x, a: fc(lambda y: fc(lambda z: z + y + x + a, F32)(y), F32)(x), F32, F32)
    same(
        fc(lambda a, v: fm.federated_map(fc(lambda x: deep(x, a), F32), v), F32, AT_CLIENTS(F32)),
        10.0, [1.0, 2.0], want=[F32(13.0), F32(16.0)],
    )  # fmt: skip
    same(
        fc(
            lambda a, v: fm.sequence_reduce(v, a, fc(lambda t, x: t + a * x, F32, F32)), F32, AT_CLIENTS(FLOATS)
        ),
        2.0, [[1.0, 2.0], []], want=[F32(8.0), F32(2.0)],
    )  # fmt: skip
    same(
        fc(
            lambda a, b: fm.sequence_reduce(
                a, 0.0, fc(lambda t, x: t + fm.sequence_reduce(b, x, plus), F32, F32)
            ),
            FLOATS, FLOATS,
        ),
        [1.0, 2.0], [10.0], want=F32(23.0),
    )  # fmt: skip


def test_a_captured_value_in_two_stages(comm):
    @fc(F32, AT_CLIENTS(F32))
    def program(a, v):
        mean = fm.federated_mean(fm.federated_map(fc(lambda x: x * a, F32), v))
        moved = fm.federated_map(fc(lambda x: x + a, F32), mean)
        down = fm.federated_map(fc(lambda x, y: x * y + a * x, F32, F32), (v, fm.federated_broadcast(moved)))
        return mean, fm.federated_sum(down)

    same(program, 2.0, [1.0, 3.0], want=(F32(4.0), F32(32.0)))


def test_polymorphic_computations(comm):
    pair = fc(lambda x: (x, x))
    for value, want in ((1, I32(1)), (1.5, F32(1.5)), ("a", "a"), ([1, 2.0], [I32(1), F32(2.0)])):
        same(pair, value, want=(want, want))
    add = fc(lambda x, y: x + y)
    same(add, 1, y=2, want=I32(3))
    same(fc(lambda v: fm.federated_map(add, (v, v)), AT_CLIENTS(F32)), [1.0], want=[F32(2.0)])


def test_many_operators_and_nested_functions(comm):
    def maps(v):
        for _ in range(500):
            v = fm.federated_map(python_half, v)
        return v

    same(fc(maps, AT_CLIENTS(F32)), [2.0], want=[F32(0.0)])

    def nested(depth):
        return fc(lambda x: (nested(depth - 1)(x) if depth else x) + 1.0, F32)

    same(fc(lambda v: fm.federated_map(nested(50), v), AT_CLIENTS(F32)), [0.0], want=[F32(51.0)])

    def stages(v, s):
        for _ in range(20):
            s = fm.federated_mean(fm.federated_map(plus, (v, fm.federated_broadcast(s))))
        return s

    same(fc(stages, AT_CLIENTS(F32), AT_SERVER(F32)), [1.0, 1.0], 0.0, want=F32(20.0))


def test_captures_beside_values_at_the_server(comm):
    """Other ranks do not have what is at the server: of a struct, a function takes along only what it uses."""
    floats = AT_CLIENTS(FLOATS)
    scaled = fc(lambda x, rate: x * rate, F32, F32)

    def body(server, rate, v):
        fn = fc(lambda q: fm.sequence_sum(fm.sequence_map(fc(lambda x: scaled(x, rate), F32), q)), FLOATS)
        return server, fm.federated_map(fn, v)

    program = fc(body, AT_SERVER(F32), F32, floats)
    same(program, 1.0, 2.0, [[1.0], [2.0]], want=(F32(1.0), [F32(2.0), F32(4.0)]))
    # It is one compiled loop.
    ready = fm.MpiContext().program(program)
    assert ready.function(next(n for stage in ready.stages for n in stage.steps))._compiled is not None
    mixed = fm.to_type({"s": AT_SERVER(F32), "u": F32, "t": (F32, F32), "c": AT_CLIENTS(F32)})
    same(
        fc(lambda a: fm.federated_map(fc(lambda x: fc(lambda y: (y, a.u, a.t), F32)(x), F32), a.c), mixed),
        {"s": 1.0, "u": 2.0, "t": (3.0, 4.0), "c": [5.0]}, want=[(F32(5.0), F32(2.0), (F32(3.0), F32(4.0)))],
    )  # fmt: skip
    fm.set_default_context(fm.MpiContext())
    function, _ = fc(lambda rate, server: (fc(lambda x: x * rate, F32), server), F32, AT_SERVER(F32))(2.0, 1.0)
    assert function(3.0) == F32(6.0)


def test_a_capture_waits_for_nothing_but_itself(comm):
    both = fc(lambda v, u: (fm.federated_mean(v), u), AT_CLIENTS(F32), F32)

    def body(v, u):
        pair = both(v, u)
        return fm.federated_map(fc(lambda x: x + pair[1], F32), v)

    program = fc(body, AT_CLIENTS(F32), F32)
    assert "Reduce" not in str(fm.plan(program))
    assert fm.replicate(program([1.0], 2.0)) == [F32(3.0)]


VECTOR = fm.to_type((F32, [2]))


@fm.python_computation(VECTOR, result=VECTOR)
def writes(x):
    x[0] = 99
    return x


@fm.numba_computation(VECTOR)
def twice(x):
    return x * 2


@pytest.mark.parametrize(
    "body",
    [
        lambda v: fm.federated_map(writes, fm.federated_mean(v)),
        lambda v: fm.federated_map(writes, fm.federated_map(twice, fm.federated_mean(v))),
        lambda v: fm.federated_map(writes, fm.federated_map(twice, v)),
        lambda v: fm.federated_map(writes, fm.federated_broadcast(fm.federated_sum(v))),
    ],
)
def test_what_was_computed_before_is_read_only_too(comm, body):
    program = fc(lambda v: (fm.federated_map(twice, v), body(v)), AT_CLIENTS(VECTOR))
    for context in (fm.MpiContext(), fm.MpiContext(server_trains=True), fm.ReferenceContext()):
        fm.set_default_context(context)
        with pytest.raises(ValueError, match="read-only"):
            program(3 * [np.ones(2, F32)])
