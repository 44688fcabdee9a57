"""What a traced body can do with values: language.md, 3.2 and 3.3, and decision 2."""

import copy
import math
import operator
import pickle
import re
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi import model
from fedmpi.language.checking import check
from fedmpi.local.decorators import numba_computation, python_computation

fc = fm.federated_computation
C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
MIXED = fm.to_type(OrderedDict(a=np.float32, b=np.int32))
NEGATED = fm.federated_computation(lambda x: -x, np.float32)
AB = OrderedDict(a=i32, b=np.bool_)
HOLDS_ITSELF = []
HOLDS_ITSELF.append(HOLDS_ITSELF)
ABC = fm.StructType([("a", i32), ("b", np.bool_), ("c", f32)])


def result(fn, *types):
    made = fc(fn, *types)
    check(made.expression)
    return str(made.type_signature.result)


@pytest.mark.parametrize(
    ("fn", "type_", "text"),
    [
        (lambda x: x.a, AB, "int32"),
        (lambda x: x["b"], AB, "bool"),
        (lambda x: x[1], AB, "bool"),
        (lambda x: x[0:2], ABC, "<int32,bool>"),
        (lambda x: x[::-1], ABC, "<float32,bool,int32>"),
        (lambda x: list(x), AB, "<int32,bool>"),
        (lambda x: dict(zip("pq", x, strict=True)), AB, "<p=int32,q=bool>"),
        (lambda x: getattr(x, "zz", x.a), AB, "int32"),
        (lambda x: len(x), AB, "int32"),
        (lambda x: x.a, fm.FederatedType(AB, C), "{int32}@CLIENTS"),
        (lambda x: x["b"], fm.FederatedType(AB, S), "bool@SERVER"),
        (lambda x: x[0], fm.FederatedType(AB, C, True), "int32@CLIENTS"),
        (lambda x: list(x), fm.FederatedType((i32, np.bool_), C), "<{int32}@CLIENTS,{bool}@CLIENTS>"),
        (lambda x: x[0:2], fm.FederatedType(ABC, C), "{<a=int32,b=bool>}@CLIENTS"),
        (lambda x: x[0:2], fm.FederatedType(ABC, C, True), "<a=int32,b=bool>@CLIENTS"),
        (lambda x: x[1:], fm.FederatedType(ABC, S), "<b=bool,c=float32>@SERVER"),
        (lambda x: x[0][0], fm.FederatedType([[i32]], C), "{int32}@CLIENTS"),
        (lambda x: len(x), fm.FederatedType(AB, C), "int32"),
    ],
)
def test_elements(fn, type_, text):
    assert result(fn, type_) == text


def test_a_slice_of_a_struct_is_a_list_as_its_elements_are():
    for fn in (lambda x: x[:2], lambda x: list(x)[:2]):
        assert fc(fn, ABC).type_signature.result == fm.StructWithPythonType([i32, np.bool_], list)


@pytest.mark.parametrize(
    ("fn", "type_", "error", "text"),
    [
        (lambda x: x.zz, AB, AttributeError, "has no element named 'zz'; it has a, b"),
        (lambda x: x["zz"], AB, AttributeError, "has no element named 'zz'; it has a, b"),
        (lambda x: x.items(), AB, AttributeError, "has no element named 'items'"),
        (
            lambda x: x[2],
            AB,
            IndexError,
            "must be 0 or more and below 2, found 2 for <a=int32,b=bool>\n  at test_traced_values.py:",
        ),
        (lambda x: x[-1], AB, IndexError, "below 2, found -1 .*\n.*\n  hint: count from the front"),
        (
            lambda x: x[2],
            fm.FederatedType(AB, C),
            ValueError,
            "below 2, found 2 for {<a=int32,b=bool>}@CLIENTS",
        ),
        (lambda x: x[2:], AB, IndexError, r"must select an element, found slice\(2, None, None\) for <a=int32,b=bool>"),
        (lambda x: x[2:], fm.FederatedType(AB, C), IndexError, "must select an element"),
        (lambda x: x[0.0], AB, TypeError, "an element is chosen by an int, a str or a slice, found 0.0 for <a=int32,"),
        (lambda x: x[0], i32, TypeError, r"\[\]: the value must be a struct, found int32"),
        (lambda x: len(x), i32, TypeError, "len: the value must be a struct, found int32"),
        (
            lambda x: list(x),
            fm.SequenceType(i32),
            TypeError,
            "found int32\\*\n.*\n  hint: go through a sequence with fm.seq",
        ),
        (lambda x: x.a, i32, AttributeError, "a value of type int32 has no element named 'a'\n  at test_traced"),
        (
            lambda x: 1 if x else 2,
            np.bool_,
            TypeError,
            "bool: a value of type bool has no truth value .*\n.*\n  hint: `if`",
        ),
        (
            lambda x: setattr(x, "a", 1),
            AB,
            TypeError,
            r"^.a = …: a value cannot be changed, .* <a=int32,b=bool>\n  at test_",
        ),
        (lambda x: operator.setitem(x, 0, 1), AB, TypeError, r"^\[0\] = …: a value cannot be changed"),
        (
            lambda x: np.exp(x),
            f32,
            TypeError,
            "^np.exp: there is no such operation on values, found float32\n  at test_",
        ),
        (lambda x: np.mean(x), (f32, [3]), TypeError, "^np.array: a value has no numbers .*\n  at test_traced_values"),
        (lambda x: np.add(x, x, where=False), f32, TypeError, "^np.add: there is no such operation"),
        (lambda x: HOLDS_ITSELF, f32, TypeError, "lambda>?: result is nested too deeply, or holds itself"),
        (lambda x: fm.to_type(HOLDS_ITSELF), f32, TypeError, "to_type: the type is nested too deeply, or holds itself"),
        (lambda x: fm.infer_type(HOLDS_ITSELF), f32, TypeError, "infer_type: the value is nested too deeply"),
        (lambda x: float(x), f32, TypeError, "float: there is no such operation on values, found one of type float32"),
        (lambda x: abs(x), f32, TypeError, "abs: there is no such operation"),
        (lambda x: -x, np.bool_, TypeError, "^negative: arg must be made of int or float or complex, found bool"),
        (lambda x: -x, fm.type_at_server(f32), TypeError, "^negative: arg must be unplaced, found float32@SERVER"),
    ],
)
def test_what_values_refuse(fn, type_, error, text):
    with pytest.raises(error, match=text):
        fc(fn, type_)


def test_what_a_value_shows():
    seen = []
    fc(lambda x: seen.append((type(x).__name__, x.type_signature, dir(x), repr(x), str(x))) or x, AB)
    name, type_, names, as_repr, as_str = seen[0]
    assert (name, type_) == ("Value", fm.to_type(AB))
    assert {"a", "b", "type_signature"} <= set(names)
    assert (as_repr, as_str) == ("<Value lambda_arg: <a=int32,b=bool>>", "lambda_arg")


class Point(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize(
    ("make", "container"),
    [
        (lambda v: [v, 1], list),
        (lambda v: (v, 1), tuple),
        (lambda v: {"p": v, "q": 1}, dict),
        (lambda v: OrderedDict(p=v, q=1), OrderedDict),
        (lambda v: Point(v, 1), Point),
    ],
)
def test_the_container_of_a_result_is_recorded(make, container):
    made = fc(lambda v: [make(v)], f32).type_signature.result
    assert made.python_container is list
    assert made[0].python_container is container
    assert list(made[0]) == [fm.TensorType(f32), fm.TensorType(i32)]


@pytest.mark.parametrize(
    ("value", "type_", "shown"),
    [
        (True, "bool", "True"),
        (7, "int32", "7"),
        (2**40, "int64", str(2**40)),
        (0.5, "float32", "0.5"),
        (1j, "complex128", "1j"),
        ("text", "str", "'text'"),
        (b"text", "str", "'text'"),
        (np.float64(0.5), "float64", "0.5"),
        (np.arange(3, dtype=np.uint8), "uint8[3]", "array([0, 1, 2], dtype=uint8)"),
        ((1, {"a": 2.0}), "<int32,<a=float32>>", "<1,<a=2.0>>"),
    ],
)
def test_constants(value, type_, shown):
    made = fc(lambda: value)
    assert str(made.type_signature.result) == type_
    assert str(made) == f"( -> {shown})"


FITS = [
    (1.0, "float64"),
    (1.0, "float16"),
    (1, "int64"),
    (1, "uint8"),
    (np.int32(1), "int64"),
    (np.float16(1), "float32"),
]
FITS += [(True, "bool"), ("a", "str"), (1j, "complex64"), (2**40, "int64"), (float("inf"), "float32")]
FAILS = [
    (1, "float32", "value must be float32, found 1\n.*\n  hint: write 1.0"),
    (1.0, "int32", "value must be int32, found 1.0"),
    (np.float64(1), "float32", r"value must be float32, found float64\n.*\n  hint: write np.float32"),
    (np.zeros(2), "float32", r"value must be float32, found float64\[2\]\n.*\n  hint: write np.float32.*.astype"),
    (np.int64(1), "int32", "value must be int32, found int64"),
    (np.int32(1), "uint32", "value must be uint32, found int32"),
    (True, "int32", "value must be int32, found True"),
    (1, "bool", "value must be bool, found 1"),
    (300, "uint8", "value must be uint8, found 300"),
    (-1, "uint8", "value must be uint8, found -1"),
    (2**31, "int32", "value must be int32, found 2147483648"),
    (2**70, "int64", "value must be int64, found 1180591620717411303424"),
    (1e300, "float32", r"value must be float32, found 1e\+300, which is too large"),
    ("a", "int32", "value must be int32, found 'a'"),
]


@pytest.mark.parametrize(("value", "dtype"), FITS)
def test_constants_of_a_wanted_type(value, dtype):
    wanted = np.dtype(dtype).type
    assert result(lambda: fm.to_value(value, wanted)) == dtype
    literal = fc(lambda: fm.to_value(value, wanted)).expression.body
    assert literal.value == value
    assert dtype == "str" or literal.value.dtype == dtype


@pytest.mark.parametrize(("value", "dtype", "text"), FAILS)
def test_constants_that_do_not_fit(value, dtype, text):
    with pytest.raises(ValueError, match=text) as caught:
        fc(lambda: fm.to_value(value, np.dtype(dtype).type))
    assert isinstance(caught.value, TypeError)


def test_a_constant_too_large_for_its_own_type():
    with pytest.raises(ValueError, match=r"result must be float32, found 1e\+300"):
        fc(lambda: 1e300)
    with pytest.raises(ValueError, match="result must be a value: an integer must fit int64"):
        fc(lambda: 2**70)


def test_arrays_of_constants_have_shapes():
    wanted = fm.TensorType(f32, [None])
    assert result(lambda: fm.to_value(np.zeros(3, f32), wanted)) == "float32[?]"
    with pytest.raises(TypeError, match=r"value must be float32\[2\], found float32\[3\]"):
        fc(lambda: fm.to_value(np.zeros(3, f32), fm.TensorType(f32, [2])))
    texts = fc(lambda: np.array([["a", "b"]]))
    assert str(texts.type_signature.result) == "str[1,2]"
    assert texts.expression.body.value.tolist() == [["a", "b"]]


M = fm.StructType([("w", (f32, [3])), ("b", f32)])


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (lambda x, y: x + y, (f32, f32), "float32"),
        (lambda x, y: x - y, (i32, i32), "int32"),
        (lambda x, y: x * y, ((f32, [3]), f32), "float32[3]"),
        (lambda x, y: x / y, (f32, (f32, [None, 2])), "float32[?,2]"),
        (lambda x, y: x / y, (np.complex64, np.complex64), "complex64"),
        (lambda x, y: x < y, (i32, i32), "bool"),
        (lambda x, y: x >= y, ((f32, [3]), (f32, [3])), "bool[3]"),
        (lambda x, y: (x <= y, x > y), (f32, f32), "<bool,bool>"),
        (lambda x, y: (x == y, x != y), (np.bool_, np.bool_), "<bool,bool>"),
        (lambda x: 2.0 * x + 1.0, (np.float64,), "float64"),
        (lambda x: (1.0 / x, 1.0 - x), (f32,), "<float32,float32>"),
        (lambda x: 3 - x, (np.int64,), "int64"),
        (lambda x: np.float32(2) * x, (f32,), "float32"),
        (lambda x: np.zeros(3, f32) + x, (f32,), "float32[3]"),
        (lambda x: x == 1, (i32,), "bool"),
        (lambda x, y: x + y, (M, M), "<w=float32[3],b=float32>"),
        (lambda x: x + x, ([f32, [i32]],), "<float32,<int32>>"),
        (lambda x: x + {"b": 1.0, "w": x.w}, (M,), "<w=float32[3],b=float32>"),
    ],
)
def test_arithmetic(fn, types, text):
    assert result(fn, *types) == text


@pytest.mark.parametrize(
    ("fn", "types", "text"),
    [
        (
            lambda x, y: x / y,
            (i32, i32),
            "divide: both sides must be float or complex, found int32 and int32\n.*\n.*hint: divide",
        ),
        (lambda x, y: x + y, (i32, f32), "add: both sides must have one dtype, found int32 and float32"),
        (lambda x, y: x + y, (f32, np.float64), "one dtype, found float32 and float64\n.*\n  hint: NumPy's numbers"),
        (lambda x: x * 2, (f32,), "multiply: right side must be float32, found 2\n.*\n  hint: write 2.0"),
        (lambda x: 2 * x, (f32,), "multiply: left side must be float32, found 2"),
        (lambda x, y: x + y, ((f32, [2]), (f32, [3])), r"one shape, or one must be a scalar, found float32\[2\] and"),
        (lambda x, y: x < y, (M, M), "less: both sides must be tensors, found <w=float32"),
        (lambda x, y: x - y, (M, AB), "subtract: both sides must be structs of one type, found <w=float"),
        (lambda x, y: x + y, (M, (f32, [2])), "add: both sides must be structs of one type, or one a scalar, found <w"),
        (lambda x, y: x * y, (M, i32), "multiply: both sides must have one dtype, found <w=float32"),
        (lambda x: x * 2, (M,), "multiply: right side must be float32, found 2\n.*\n  hint: write 2.0"),
        (lambda x: x * 2.0, (MIXED,), r"a struct beside a scalar must have tensors of one dtype, found float32, int32"),
        (lambda x: x / x, (MIXED,), "divide: both sides must be made of float or complex, found <a=float32,b=int32>"),
        (lambda x: model.norm(x), (i32,), "fm.model.norm: arg must be made of float, found int32"),
        (lambda x: model.norm(x), (np.float16,), "fm.model.norm: arg must be float32 or float64, found float16"),
        (lambda x: model.norm(x), ((f32, [None]),), r"fm.model.norm: arg must be tensors of known shapes, found"),
        (lambda x, y: model.dot(x, y), (M, f32), "fm.model.dot: both sides must be models of one type, found <w=float"),
        (
            lambda x: model.flatten(x),
            (MIXED,),
            "fm.model.flatten: arg must have tensors of one dtype, found float32, i",
        ),
        (lambda x, y: model.unflatten(x, y), ((f32, [2]), M), r"vector must be float32\[\d+\], the numbers of <w="),
        (lambda x: model.cast(x, np.int32), (f32,), "a cast must lose no kind of number, found float32 to int32"),
        (
            lambda x: model.map(lambda v: v, x),
            (M,),
            "fm.model.map: fn must be a computation, found the Python function",
        ),
        (lambda x: model.map(NEGATED, x), (i32,), "fm.model.map: fn must take int32, a number of each model, found"),
        (lambda x: model.map(NEGATED, x, x), (f32,), "fm.model.map: fn must take <float32,float32>, a number of each"),
        (lambda x: model.zeros_like(x), (np.str_,), "fm.model.zeros_like: arg must be made of bool or int or float or"),
        (lambda x: model.zeros_like(x), (fm.type_at_server(f32),), "arg must be unplaced, found float32@SERVER"),
        (lambda x, y: x < y, (np.complex64, np.complex64), "less: both sides must be int or float, found complex64"),
        (
            lambda x, y: x + y,
            (np.bool_, np.bool_),
            "add: both sides must be int or float or complex, found bool and bool",
        ),
        (lambda x, y: x == y, (np.str_, np.str_), "equal: both sides must be bool or int"),
        (lambda x: x == None, (i32,), "equal: right side must be a value, found None"),  # noqa: E711
        (lambda x: x == "a", (i32,), "equal: right side must be int32, found 'a'"),
        (
            lambda x: x + x,
            (fm.FederatedType(f32, S),),
            "must be unplaced, .*\n.*\n  hint: compute at the places: fm.federated_map",
        ),
        (lambda x: x < 1.0, (fm.SequenceType(f32),), r"less: both sides must be tensors, found float32\* and float32"),
    ],
)
def test_refused_arithmetic(fn, types, text):
    with pytest.raises(TypeError, match=text) as caught:
        fc(fn, *types)
    assert "\n  at test_traced_values.py:" in str(caught.value)


def test_a_value_used_twice_is_one_local():
    def body(x):
        y = x + 1.0
        return y * y

    assert str(fc(body, f32)) == (
        "(body_arg -> (let fc_body_symbol_0=add(<body_arg,1.0>),"
        "fc_body_symbol_1=multiply(<fc_body_symbol_0,fc_body_symbol_0>) in fc_body_symbol_1))"
    )


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda x: hash(x), "^hash: a value cannot be a key of a dict or in a set, found one of type float32\n"),
        (lambda x: {x: 1.0}[x], "^hash: "),
        (lambda x: 1.0 if x in {1.0} else 2.0, "^hash: "),
        (lambda x: f"{x}", r'^f"\{…\}": a value has no text while .*, found one of type float32\n.*\n  hint: print'),
        (lambda x: f"{x:.2f}", r'^f"\{…:.2f\}": a value has no text'),
        (lambda x: "{:>9}".format(x), r'^f"\{…:>9\}": '),  # noqa: UP032
        (lambda x: str(x), "lambda: result must be a value, found the text 'lambda_arg' that shows one\n.*\n  hint: "),
        (lambda x: [f"{x!r}"], r"lambda: result\[0\] must be a value, found the text '<Value lambda_arg: float32>'"),
        (lambda x: 1.0 in x, "^bool: "),
        (lambda x: operator.delitem(x, 0), r"^del \[0\]: a value cannot be changed"),
        (lambda x: delattr(x, "a"), "^del .a: a value cannot be changed"),
        (lambda x: math.trunc(x), "^trunc: there is no such operation"),
        (lambda x: math.floor(x), "^floor: there is no such operation"),
        (lambda x: bytes(x), "^bytes: there is no such operation"),
        (lambda x: pickle.dumps(x), "^pickle: a value has no data"),
    ],
)
def test_uses_that_want_the_data_are_refused_where_they_stand(use, text):
    with pytest.raises(TypeError, match=text) as caught:
        fc(use, f32)
    assert f"\n  at test_traced_values.py:{use.__code__.co_firstlineno}" in str(caught.value)


def test_a_value_can_be_printed_and_copied(capsys):
    def body(x):
        print(x, repr(x), [x])
        return copy.copy(x), copy.deepcopy([x])

    assert str(fc(body, f32).type_signature) == "(float32 -> <float32,<float32>>)"
    assert capsys.readouterr().out == "body_arg <Value body_arg: float32> [<Value body_arg: float32>]\n"


NO_VALUES = {
    "(v for v in [x])": r"result must be a value, found <generator .*",
    "{1.0}": r"result must be a value, found \{1.0\} of class set",
    "int": "result must be a value, found <class 'int'> of class type",
    "re": "result must be a value, found <module 're'.*",
    "np.array([None])": "result must be a value: the dtype must be one of .*, found object",
    "[x, {'a': (x, object())}]": r"result\[1\].a\[1\] must be a value, found <object object.*",
    "{'a': [x, None]}": r"result.a\[1\] must be a value, found None of class NoneType",
    "{1: x}": "the keys of a mapping that is a struct must be str, found 1",
}


@pytest.mark.parametrize("result", NO_VALUES)
def test_results_that_are_no_values_are_refused_at_the_return(result):
    text = f"def body(x):\n    y = x\n    if re is None:\n        return y\n\n    return {result}\n"
    names = {"re": re, "np": np}
    exec(compile(text, "body.py", "exec"), names)
    with pytest.raises(TypeError, match=f"^body: {NO_VALUES[result]}\n  at body.py:6"):
        fc(names["body"], f32)
    with pytest.raises(TypeError, match=r"^body: the result type cannot be inferred: [^$]*\n  at body.py:6$"):
        numba_computation(names["body"], f32)
    one = text.replace("    if re is None:\n        return y\n", "")
    exec(compile(one, "body.py", "exec"), names)
    with pytest.raises(TypeError, match=r"^body: result: expected float32, found .*\n  at body.py:4\n"):
        python_computation(names["body"], f32, result=f32)(1.0)
