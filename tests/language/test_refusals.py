"""Any use of any operator gives a checked, closed program, or one of fedmpi's own errors."""

import operator

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi.language as fm
from fedmpi.language.checking import check
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.tree.expressions import free
from tests.nightly import examples

fc = fm.federated_computation
f32, i32 = np.float32, np.int32
CLIENTS, SERVER, SEQUENCE = fm.type_at_clients(f32), fm.type_at_server(f32), fm.SequenceType(f32)

TYPES = [
    f32,
    i32,
    np.str_,
    np.bool_,
    (f32, [None]),
    fm.TensorType(f32, None),
    SEQUENCE,
    [f32, f32],
    (),
    fm.PlacementType(),
]
TYPES += [
    CLIENTS,
    SERVER,
    fm.type_at_clients(i32),
    fm.type_at_clients(SEQUENCE),
    fm.type_at_server(SEQUENCE),
    (CLIENTS, SERVER),
]
TYPES += [
    fm.FederatedType(f32, fm.SERVER, False),
    fm.type_at_clients((i32, [3])),
    fm.type_at_server(i32),
    fm.AbstractType("T"),
    [("a", CLIENTS), ("b", [CLIENTS])],
    [fm.FunctionType(f32, f32), f32],
    fm.type_at_clients(f32, all_equal=True),
    fm.FunctionType(CLIENTS, f32),
]
TYPES += [fm.FunctionType(f32, f32), fm.FunctionType(None, f32), fm.FunctionType((f32, f32), f32)]

CONSTANTS = [None, 5, 1.0, "a", (), [1.0], {"a": 1}, np.zeros(3), 1e300, 2**70, b"\xff"]
STRANGERS = [object(), lambda x: x, np.int32, fm.CLIENTS, {1: 2}, {1, 2}, np.array([None]), np.datetime64(1, "s")]
FUNCTIONS = [
    fc(lambda x: x, f32),
    fc(lambda x, y: x, f32, f32),
    fc(lambda x: x),
    fc(lambda x, y: (y, x)),
    fc(lambda: 1.0),
    fc(lambda x, y: x + y, f32, f32),
    fc(lambda x, y: x, f32, i32),
    fc(lambda x: x, SEQUENCE),
    fc(lambda x, y: x, fm.FunctionType(f32, f32), f32),
]

NAMED = [getattr(fm, name) for name in OPERATORS if name.startswith(("federated_", "sequence_"))]
SYMBOLS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.lt,
    operator.ge,
    operator.eq,
    operator.ne,
]
FIRST, SECOND = object(), object()  # stand for the parameters

arguments = st.sampled_from([FIRST, SECOND, FIRST, SECOND, (FIRST, SECOND), *CONSTANTS, *STRANGERS, *FUNCTIONS])


@settings(deadline=None, max_examples=examples(400))
@given(st.sampled_from(NAMED), st.lists(arguments, max_size=5), st.sampled_from(TYPES), st.sampled_from(TYPES))
def test_operators(op, args, first, second):
    attempt(lambda x, y: op(*(given_to(arg, x, y) for arg in args)), first, second)


@settings(deadline=None, max_examples=examples(200))
@given(st.sampled_from(SYMBOLS), arguments, st.sampled_from(TYPES), st.sampled_from(TYPES), st.booleans())
def test_arithmetic(op, other, first, second, swap):
    def body(x, y):
        sides = (x, given_to(other, x, y))
        return op(*reversed(sides)) if swap else op(*sides)

    attempt(body, first, second)


@settings(deadline=None, max_examples=examples(200))
@given(arguments, st.sampled_from(TYPES), st.sampled_from(TYPES), st.sampled_from(TYPES))
def test_calls_and_results(argument, wanted, first, second):
    inner = fc(lambda v: v, wanted)
    attempt(lambda x, y: inner(given_to(argument, x, y)), first, second)
    attempt(lambda x, y: given_to(argument, x, y), first, second)


def given_to(argument, x, y):
    if isinstance(argument, tuple):
        return tuple(given_to(part, x, y) for part in argument)
    return {id(FIRST): x, id(SECOND): y}.get(id(argument), argument)


def attempt(body, *types):
    try:
        made = fc(body, *types)
    except (fm.TypingError, fm.ComputationReturnedNoneError) as error:
        assert "test_refusals.py:" in str(error)  # noqa: PT017 - any of them may come, or none
        return
    check(made.expression)
    assert not any(free(made.expression))
    assert str(made)
