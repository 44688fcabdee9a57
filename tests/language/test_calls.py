"""Calling computations: packing, coercion, zips, contexts."""

import functools
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi.language.checking import check
from fedmpi.language.tracing import default_context as context

fc = fm.federated_computation
C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
FC, FS, IC = fm.FederatedType(f32, C), fm.FederatedType(f32, S), fm.FederatedType(i32, C)


@fc
def none():
    return 1


@fc(f32)
def one(x):
    return x


@fc(i32, f32)
def pair(x, y):
    return y, x


zipped = fc(lambda p: p, fm.FederatedType(OrderedDict(a=i32, b=f32), C))


class Recorder:
    def __init__(self):
        self.calls = []

    def invoke(self, computation, argument):
        self.calls.append((computation, argument))
        return "ran"


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(context, "_default", made)
    return made


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: none(), None),
        (lambda: one(2.0), 2.0),
        (lambda: pair(1, 2.0), (1, 2.0)),
        (lambda: pair(1, y=2.0), (1, 2.0)),
        (lambda: pair(y=2.0, x=1), (1, 2.0)),
        (lambda: pair([1, 2.0]), [1, 2.0]),
        (lambda: pair({"y": 2.0, "x": 1}), {"y": 2.0, "x": 1}),
    ],
)
def test_calls_outside_of_bodies_go_to_the_default_context(recorder, call, argument):
    assert call() == "ran"
    assert recorder.calls[0][1] == argument


REFUSED = [
    (lambda: none(1), "none: the computation takes no argument, found 1"),
    (lambda: one(), "one: the computation takes one positional argument of type float32, found 0 arguments"),
    (lambda: one(1.0, 2.0), "takes one positional argument of type float32, found 2 arguments"),
    (lambda: one(x=1.0), "found 0 positional and 1 keyword arguments"),
    (lambda: pair(1, 2.0, 3), "takes 2 arguments, found 3: <x=int32,y=float32>"),
    (lambda: pair(1, x=2), "x is given twice, by position and by name"),
    (lambda: pair(x=1), "y of type float32 is missing"),
    (lambda: pair(1, y=2.0, z=3), "has no parameter z; it has x, y"),
]


@pytest.mark.parametrize(("call", "text"), REFUSED)
def test_arguments_that_do_not_fit(recorder, call, text):
    with pytest.raises(TypeError, match=text) as caught:
        call()
    assert "\n  at test_calls.py:" in str(caught.value)
    with pytest.raises(TypeError, match=text):
        fc(call)
    assert not recorder.calls


@pytest.mark.parametrize(
    "body",
    [
        lambda x, y: pair(x, y),
        lambda x, y: pair(y=y, x=x),
        lambda x, y: pair(x, y=y),
        lambda x, y: pair((x, y)),
        lambda x, y: pair([x, y]),
        lambda x, y: pair({"y": y, "x": x}),
        lambda x, y: pair(OrderedDict(y=y, x=x)),
        lambda x, y: pair(1, 2.0),
        lambda x, y: pair(np.int32(1), np.float16(2)),
    ],
)
def test_calls_in_a_body(body):
    made = fc(body, i32, f32)
    check(made.expression)
    assert str(made.type_signature.result) == "<float32,int32>"


def test_mappings_bind_by_key():
    text = str(fc(lambda: pair({"y": 2.0, "x": 1})))
    assert "(<x=1,y=2.0>)" in text
    with pytest.raises(TypeError, match="the argument must have the elements x, y, found no x"):
        fc(lambda: pair({"y": 2.0}))
    with pytest.raises(TypeError, match="the argument must have the elements x, y, found also z"):
        fc(lambda: pair({"y": 2.0, "x": 1, "z": 1}))


@pytest.mark.parametrize(
    ("body", "types"),
    [
        (lambda a, b: zipped((a, b)), (IC, FC)),
        (lambda a, b: zipped([a, b]), (IC, FC)),
        (lambda a, b: zipped({"b": b, "a": a}), (IC, FC)),
        (lambda x: zipped(x), ((IC, FC),)),
        (lambda x: zipped(x), (fm.FederatedType((i32, f32), C, True),)),
        (lambda a, b: fc(lambda p, q: p, zipped.type_signature.parameter, i32)((a, b), 1), (IC, FC)),
        (lambda x: fc(lambda p: p, [zipped.type_signature.parameter, FC])(x), (((IC, FC), FC),)),
    ],
)
def test_structs_of_placed_values_are_zipped(body, types):
    made = fc(body, *types)
    check(made.expression)
    assert "{<a=int32,b=float32>}@CLIENTS" in str(made.type_signature.result)


def test_a_zip_never_gives_what_is_all_equal():
    wanted = fc(lambda p: p, fm.FederatedType((i32, i32), C, True))
    equal = fm.FederatedType(i32, C, True)
    with pytest.raises(
        fm.TypeNotAssignableError, match=r"must be <int32,int32>@CLIENTS, found {<int32,int32>}@CLIENTS"
    ):
        fc(lambda a, b: wanted((a, b)), equal, equal)


def test_placement_never_converts():
    to_server, to_clients = fc(lambda x: x, FS), fc(lambda x: x, FC)
    for body, given, text in [
        (to_server, f32, "the argument must be float32@SERVER, found float32\n.*\n.*fm.federated_value"),
        (to_clients, FS, "must be {float32}@CLIENTS, found float32@SERVER\n.*\n.*fm.federated_broadcast"),
        (to_server, FC, "must be float32@SERVER, found {float32}@CLIENTS\n.*\n.*fm.federated_sum"),
        (one, FC, "must be float32, found {float32}@CLIENTS\n.*\n.*fm.federated_map"),
    ]:
        with pytest.raises(fm.TypeNotAssignableError, match=text):
            fc(functools.partial(lambda function, x: function(x), body), given)


def test_the_part_that_differs_is_named():
    batch = OrderedDict(x=(f32, [None, 784]), y=(i32, [None]))
    wide = OrderedDict(x=(np.float64, [None, 784]), y=(i32, [None]))
    wants = fc(lambda d: d, fm.SequenceType(batch))
    with pytest.raises(TypeError, match=r"hint: element.x must be float32\[\?,784\], found float64\[\?,784\]; NumPy's"):
        fc(lambda d: wants(d), fm.SequenceType(wide))
    nested = fc(lambda m, n: m, {"w": batch}, i32)
    with pytest.raises(TypeError, match=r"m.w.x must be float32\[\?,784\], found float64\[\?,784\]"):
        fc(lambda m: nested(m, 1), {"w": wide})


def test_functions_are_arguments():
    twice = fc(lambda f, x: f(f(x)), fm.FunctionType(f32, f32), f32)
    made = fc(lambda x: twice(one, x), f32)
    check(made.expression)
    check(fc(lambda x: twice(fc(lambda y: y + 1.0), x), f32).expression)  # typed by its use
    with pytest.raises(TypeError, match=r"f must be \(float32 -> float32\), found \(<x=int32,y=float32> -> "):
        fc(lambda x: twice(pair, x), f32)
    with pytest.raises(TypeError, match=r"f must be a value, found a Python function\n.*\n  hint: make it one"):
        fc(lambda x: twice(lambda y: y, x), f32)


def test_a_value_that_is_no_function():
    with pytest.raises(TypeError, match="only a function can be called, found a value of type int32"):
        fc(lambda x: x(1), i32)


def test_the_default_context(monkeypatch):
    monkeypatch.setattr(context, "_default", None)
    monkeypatch.setattr(context, "_factory", None)
    with pytest.raises(fm.ContextError, match=r"no default context is installed\n  at test_calls.py:\d+"):
        none()
    made = []
    context.set_default_factory(lambda: made.append(Recorder()) or made[-1])
    assert none() == none() == "ran"
    assert len(made) == 1
    mine = Recorder()
    fm.set_default_context(mine)
    assert fm.current_context() is mine
    with pytest.raises(TypeError, match=r"context: expected a context, such as .*, found 'mine'"):
        fm.set_default_context("mine")
    fm.set_default_context(None)
    assert fm.current_context() is made[-1]
    assert len(made) == 2
