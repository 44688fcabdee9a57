"""`federated_computation`: the forms of the decorator, binding, capture, what leaks."""

import functools
import random
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi.language.checking import check
from fedmpi.language.tree.expressions import free
from fedmpi.language.tree.scopes import current_scope, entered

fc = fm.federated_computation
C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
FC, FS, IC, IS = (fm.FederatedType(t, p) for t in (f32, i32) for p in (C, S))


@pytest.fixture(autouse=True)
def _no_body_stays_open():
    yield
    assert current_scope() is None


def signature(fn, *types):
    made = fc(fn, *types)
    check(made.expression)
    assert not any(free(made.expression))
    return str(made.type_signature)


class Method:
    def plain(self, x):
        return x

    @classmethod
    def of_class(cls, x):
        return x


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (lambda: 5, (), "( -> int32)"),
        (lambda: "a", (None,), "( -> str)"),
        (lambda x: x, (i32,), "(int32 -> int32)"),
        (lambda x: x, (i32, f32), "(<int32,float32> -> <int32,float32>)"),
        (lambda x: x, ((i32, f32),), "(<int32,float32> -> <int32,float32>)"),
        (lambda x, y: y, (i32, f32), "(<x=int32,y=float32> -> float32)"),
        (lambda x, y: y, ((i32, f32),), "(<x=int32,y=float32> -> float32)"),
        (lambda x, y: x, ([("y", i32), ("x", f32)],), "(<y=int32,x=float32> -> float32)"),
        (lambda x, y: x, (OrderedDict(x=i32, y=f32),), "(<x=int32,y=float32> -> int32)"),
        (lambda c: c, (("x", i32), ("y", np.bool_)), "(<<x=int32>,<y=bool>> -> <<x=int32>,<y=bool>>)"),
        (Method().plain, (i32,), "(int32 -> int32)"),
        (Method.of_class, (i32,), "(int32 -> int32)"),
        (functools.partial(lambda a, x: (a, x), 1), (f32,), "(float32 -> <int32,float32>)"),
        (functools.partial(lambda x, a: (a, x), a=1), (f32,), "(float32 -> <int32,float32>)"),
        (lambda x, y: [x, y], (FC, IS), "(<x={float32}@CLIENTS,y=int32@SERVER> -> <{float32}@CLIENTS,int32@SERVER>)"),
        (lambda f, x: f(f(x)), (fm.FunctionType(i32, i32), i32), "(<f=(int32 -> int32),x=int32> -> int32)"),
        (lambda f: f(), (fm.FunctionType(None, i32),), "(( -> int32) -> int32)"),
        (lambda x: fc(lambda a, b: b)(x, 1.0), (i32,), "(int32 -> float32)"),
        (lambda x: fc(lambda y: (x, y), i32), (i32,), "(int32 -> (int32 -> <int32,int32>))"),
        (lambda x, lr: fc(lambda v: (v, lr), f32)(x), (f32, f32), "(<x=float32,lr=float32> -> <float32,float32>)"),
        (lambda x: {"b": x[1], "a": {"c": x[0]}}, ((i32, f32),), "(<int32,float32> -> <b=float32,a=<c=int32>>)"),
    ],
)
def test_parameters_and_results(fn, types, text):
    assert signature(fn, *types) == text


def test_decorator_forms():
    @fc
    def bare():
        """Doc."""
        return 1

    @fc()
    def empty():
        return 1

    @fc(i32, f32)
    def typed(x, y):
        return OrderedDict(A=y, B=x)

    assert str(bare.type_signature) == str(empty.type_signature) == "( -> int32)"
    assert (bare.__doc__, bare.name) == ("Doc.", "bare")
    assert bare.where.startswith("test_tracing.py:")
    assert str(typed.type_signature) == "(<x=int32,y=float32> -> <A=float32,B=int32>)"
    assert typed.type_signature.result.python_container is OrderedDict
    assert typed.type_signature.parameter.python_container is OrderedDict
    assert repr(typed).startswith("<computation typed: (<x=int32,y=float32> -> <A=float32,B=int32>), test_tracing.py:")
    assert str(bare) == "( -> 1)"


def test_readable_trees():
    def foo(f, x):
        return f(x)

    assert str(fc(foo, fm.FunctionType(i32, i32), i32)) == (
        "(foo_arg -> (let fc_foo_symbol_0=foo_arg.f(foo_arg.x) in fc_foo_symbol_0))"
    )
    assert str(fc(lambda: "stuff")) == "( -> 'stuff')"
    assert str(fc(lambda a: fm.federated_map(fc(lambda x: x[0]), a), fm.FederatedType((i32, f32), C))) == (
        "(lambda_arg -> (let fc_lambda_symbol_0=federated_map(<(lambda_arg_1 -> lambda_arg_1[0]),lambda_arg>)"
        " in fc_lambda_symbol_0))"
    )


def test_computations_are_equal_by_their_trees():
    one, two = fc(lambda x: x, i32), fc(lambda x: x, i32)
    assert one == two
    assert hash(one) == hash(two)
    assert one != fc(lambda x: x, f32)
    assert one != fc(lambda x: (x,), i32)


async def awaits(x):
    return x


def yields(x):
    yield x


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (lambda *a: a, (i32,), "has plain parameters only, found the variadic positional one 'a'"),
        (lambda **a: a, (i32,), "found the variadic keyword one 'a'"),
        (lambda *, a: a, (i32,), "found the keyword-only one 'a'"),
        (lambda a, /: a, (i32,), "found the positional-only one 'a'"),
        (lambda a=1: a, (i32,), "has no default, found a=1"),
        (lambda: 1, (i32,), "the function takes no parameter, found 1 type: int32"),
        (lambda x, y: x, (i32,), r"2 parameters \(x, y\) need as many types, found 1: int32"),
        (lambda x, y: x, (i32, i32, f32), "need as many types, found 3: int32, int32, float32"),
        (lambda x, y: x, ((i32,),), r"2 parameters \(x, y\) need as many elements, found 1: <int32>"),
        (lambda x, z: x, ([("x", i32), ("y", i32)],), "must have the names of the parameters: x, z"),
        (lambda x, y: x, ([i32, ("y", i32)],), "must all have names, or none, found <int32,y=int32>"),
        (lambda x: x, (None,), "None stands for no parameter"),
        (lambda: 1, (None, None), "None stands for no parameter, so it must be the only type"),
        (awaits, (i32,), "federated_computation of awaits: .* found one that awaits or yields"),
        (yields, (i32,), "found one that awaits or yields"),
        (max, (i32,), "no signature found for builtin"),
        (10, (20,), "a type must be given, found 10"),
    ],
)
def test_refused_declarations(fn, types, text):
    with pytest.raises(TypeError, match=text) as caught:
        fc(fn, *types)
    assert "at test_tracing.py:" in str(caught.value)


def test_a_decorator_of_no_function():
    with pytest.raises(TypeError, match="a computation is made of a Python function, found 5"):
        fc(i32)(5)


def test_none_is_no_result():
    def forgot(x):
        pass

    with pytest.raises(fm.ComputationReturnedNoneError, match=r"forgot \(test_tracing.py:\d+\) returned None"):
        fc(forgot, i32)
    with pytest.raises(NotImplementedError, match=r"result\[1\] must be a value, found None"):
        fc(lambda x: (x, None), i32)


@pytest.mark.parametrize("result", [object(), {1}, lambda: 1, C])
def test_what_is_no_result(result):
    with pytest.raises(NotImplementedError, match=r"^lambda: result must be a value, found"):
        fc(lambda: result)


def test_errors_of_the_body_pass_unchanged():
    def body(x):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fc(body, i32)


def test_captures_stay_free_only_inside():
    inner = []

    @fc(f32, f32)
    def outer(x, lr):
        step = fc(lambda v: v * lr, f32)
        inner.append(step)
        return step(step(x))

    assert [str(node.type) for node in free(inner[0].expression)] == ["float32"]
    assert not any(free(outer.expression))
    check(outer.expression)
    with pytest.raises(fm.LeakedValueError, match=r"lambda \(.*\), which uses lr, belongs to the computation outer"):
        fc(lambda x: inner[0](x), f32)
    with pytest.raises(fm.LeakedValueError):
        inner[0](1.0)


def test_leaked_values_are_refused_where_they_are_used():
    kept = []

    @fc(f32, (f32, i32))
    def first(x, y):
        kept.extend([x, y])
        fc(lambda v: kept.append(v) or v, f32)(x)
        return x

    text = r"^x belongs to the computation first \(test_tracing.py:\d+\) and cannot be used outside of it\n  at test_tr"
    with pytest.raises(fm.LeakedValueError, match=text):
        fc(lambda z: (z, kept[0]), f32)
    with pytest.raises(fm.LeakedValueError, match=text):
        fc(lambda z: z + kept[0], f32)
    with pytest.raises(fm.LeakedValueError, match=text):
        first(kept[0], 1.0)
    with pytest.raises(fm.LeakedValueError, match=r"^y belongs to the computation first"):
        kept[1][0]
    with pytest.raises(fm.LeakedValueError, match=r"^v belongs to the computation lambda"):
        kept[2] + 1.0
    assert str(kept[0].type_signature) == "float32"  # looking is harmless
    assert "first_arg" in repr(kept[0])


def test_a_value_of_an_inner_body_leaks_too():
    def outer(x):
        kept = []
        fc(lambda v: kept.append(v) or v, f32)
        return kept[0]

    with pytest.raises(fm.LeakedValueError, match=r"^v belongs to the computation lambda"):
        fc(outer, f32)


def test_polymorphic_computations():
    traced = []

    @fc
    def swap(x, y):
        traced.append(x.type_signature)
        return y, x

    assert not hasattr(swap, "type_signature")
    assert signature(lambda: swap(1, y=True)) == "( -> <bool,int32>)"
    assert signature(lambda: swap(y=1.0, x=True)) == "( -> <float32,bool>)"
    assert signature(lambda z: swap(z, z), FC) == "({float32}@CLIENTS -> <{float32}@CLIENTS,{float32}@CLIENTS>)"
    made = swap.fn_for_argument_type((i32, f32))
    assert made is swap.fn_for_argument_type((i32, f32))
    assert str(made.type_signature) == "(<x=int32,y=float32> -> <float32,int32>)"
    assert len(traced) == 4
    assert repr(swap).startswith("<polymorphic computation swap, test_tracing.py:")
    with pytest.raises(TypeError, match=r"swap: missing a required argument: 'x'\n.*\n  hint: it takes .x, y."):
        swap()
    with pytest.raises(TypeError, match="swap: got an unexpected keyword argument 'z'"):
        fc(lambda: swap(1, 2, z=2))
    one = fc(lambda x: x)
    assert signature(lambda: one(x=1)) == "( -> int32)"
    with pytest.raises(TypeError, match=r"lambda>?: too many positional arguments"):
        fc(lambda: one(1, 2))
    with pytest.raises(TypeError, match=r"swap \(.*\) has no parameter type, and none is known here"):
        fc(lambda: swap)
    with pytest.raises(TypeError, match=r"2 parameters \(x, y\) need as many elements, found 1"):
        fc(lambda: swap((1,)))


def test_a_polymorphic_computation_captures_lexically():
    @fc(f32)
    def outer(x):
        scale = fc(lambda v: v * x)
        return scale(2.0), fc(lambda y: scale(y), f32)(x)

    check(outer.expression)
    assert not any(free(outer.expression))


def test_scopes_can_be_left():
    seen = []

    @fc
    def body():
        with entered(None):
            seen.append(current_scope())
        seen.append(current_scope())
        return 1

    assert seen[0] is None
    assert seen[1].name == "body"


def test_what_the_result_does_not_need_is_left_out():
    def body(v):
        fm.federated_mean(v)
        total = fm.federated_sum(v)
        return fm.federated_map(fc(lambda x: x + x, f32), total)

    text = str(fc(body, FC))
    assert "federated_mean" not in text
    assert text.count("federated_sum") == text.count("federated_map") == 1


def test_a_returned_function_must_use_no_placed_value():
    def body(server):
        return fc(lambda v: fm.federated_zip((v, fm.federated_broadcast(server))), FC)

    text = (
        r"body: a function that is returned must use no placed value, found server of type float32@SERVER\n  at test_"
    )
    with pytest.raises(TypeError, match=text):
        fc(body, FS)
    with pytest.raises(TypeError, match="must use no placed value"):
        fc(lambda s: [1, body(s)], FS)

    def used_inside(server, v):
        return body(server)(v)

    assert signature(used_inside, FS, FC).endswith("{<float32,float32>}@CLIENTS)")


def test_a_body_that_calls_itself_is_refused_where_it_does():
    def again(x):
        return again(x)

    def ping(x):
        return pong(x)

    def pong(x):
        return ping(x)

    def making(x):
        return fc(making, f32)(x)

    @fc
    def itself(x):
        return itself([x])

    def decorated():
        @fc(f32)
        def rec(x):
            return rec(x)

    for define in (
        lambda: fc(again, f32),
        lambda: fc(ping, f32),
        lambda: fc(making, f32),
        lambda: fc(lambda x: itself(x), f32),
        decorated,
    ):
        text = r"^\w+: the body calls itself, .*\n  at test_tracing\.py:\d+\n  hint: a recursion"
        with pytest.raises(fm.TypingError, match=text) as caught:
            define()
        assert isinstance(caught.value, RecursionError)


def test_a_recursion_that_ends_is_as_good_as_its_calls_one_by_one():
    def halved(n):
        return lambda x: x if n == 0 else fc(halved(n - 1), f32)(x) / 2.0

    assert str(fc(halved(3), f32).type_signature) == "(float32 -> float32)"


async def coroutine(x):
    return x


async def stream(x):
    yield x


class Waits:
    async def __call__(self, x):
        return x


@pytest.mark.parametrize("fn", [coroutine, stream, Waits(), functools.partial(stream), lambda x: (yield x)])
def test_functions_that_await_or_yield_are_refused_where_they_are_used(fn):
    with pytest.raises(TypeError, match=r"found one that awaits or yields\n  at test_tracing\.py:\d+$"):
        fc(fn, f32)


def test_a_computation_is_no_body():
    with pytest.raises(TypeError, match=r"found one that is a computation already\n  at test_tracing"):
        fc(fc(lambda x: x, f32), f32)


def test_a_place_in_the_standard_library_is_not_the_users():
    with pytest.raises(TypeError, match=r"^len: .*\n  at test_tracing\.py:\d+\n"):
        fc(lambda x: random.choice(x), f32)
