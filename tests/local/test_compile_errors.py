"""Bodies that Numba cannot compile are refused at the definition: the reason in words, the user's file and line."""

from __future__ import annotations

import re
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.jit import cache

pytestmark = pytest.mark.slow
F32 = np.float32
VECTOR = fm.TensorType(F32, [None])
BATCH = OrderedDict(x=VECTOR, y=fm.TensorType(np.int32, [None]))


class Thing:
    factor = 3


thing = Thing()


@fm.federated_computation(F32)
def federated(x):
    return x


@fm.python_computation(F32, result=F32)
def interpreted(x):
    return x


@fm.numba_computation
def polymorphic(x):
    return x


def unknown_attribute(a):
    return a.foo()


def unknown_function(a):
    return np.foo(a)


def unsupported_function(a):
    return np.apply_along_axis(np.sum, 0, a)


def unsupported_argument(a):
    return np.sum(a, keepdims=True)


def string_format(a):
    return float("%f" % a[0])  # noqa: UP031


def f_string(a):
    text = f"{a[0]:.3f}"
    return float(len(text))


def mixed_list(a):
    items = [1, "x"]
    for item in items:
        print(item)
    return a


def named_exception(a):
    try:
        return a / 0
    except ZeroDivisionError as error:
        print(error)
        return a


def one_exception(a):
    try:
        return a / 0
    except ZeroDivisionError:
        return a


def with_statement(a):
    with np.errstate(all="ignore"):
        return a / 0


def undefined(a):
    return undefined_name + a  # noqa: F821


def import_inside(a):
    import math

    return a * math.pi


def global_statement(a):
    global thing
    thing = 3
    return a


def python_object(a):
    return a * thing.factor


def matrix_dtypes(a):
    return a @ np.ones(len(a))


def returns_nothing(a):
    a.sum()


def nothing_in_a_branch(a):
    if a[0] > 0:
        return a
    return None


def array_or_scalar(a):
    if a[0] > 0:
        return a
    return a[0]


def two_lengths(a):
    if a[0] > 0:
        return a, a
    return a, a, a


def two_keys(a):
    if a[0] > 0:
        return {"a": a}
    return {"b": a}


def two_kinds_of_variable(a):
    value = a
    if a[0] > 1:
        value = 2.0
    return value


def a_list(a):
    return [a, a]


def a_dict_item_by_item(a):
    made = {}
    made["a"] = a
    return made


def calls_federated(a):
    return federated(a[0])


def calls_python(a):
    return interpreted(a[0])


def calls_polymorphic(a):
    return polymorphic(a[0])


# name of the function, the words that its refusal holds when the result is inferred, and when it is declared
MISTAKES = {
    unknown_attribute: ("has no attribute 'foo'", r"Numba knows no attribute 'foo' of float32\[\?\]"),
    unknown_function: ("module 'numpy' has no attribute 'foo'", r"Numba knows no .*numpy.*foo|no attribute 'foo'"),
    unsupported_function: ("Numba knows no numpy.apply_along_axis",) * 2,
    unsupported_argument: (
        r"no sum for \(float32\[\?\], keepdims=bool\): got an unexpected keyword argument 'keepdims'",
    )
    * 2,
    string_format: (r"no % for \(str, float32\)",) * 2,
    f_string: ("an f-string with a format",) * 2,
    mixed_list: (r"list|str",) * 2,
    named_exception: ("except … as error: write except Exception",) * 2,
    one_exception: ("except can name Exception only",) * 2,
    with_statement: ("a with statement",) * 2,
    undefined: ("name 'undefined_name' is not defined", "the name undefined_name is not defined"),
    import_inside: ("an import inside the body: write it at the top of the file",) * 2,
    global_statement: ("an assignment to a global name",) * 2,
    python_object: ("the name thing of the program around it holds an object of the class .*Thing",) * 2,
    matrix_dtypes: ("'@' arguments must all have the same dtype",) * 2,
    returns_nothing: ("the function returns None", r"result: expected float32\[\?\], found None"),
    nothing_in_a_branch: (r"result: expected float32\[\?\], found float32\[\?\] or None",) * 2,
    array_or_scalar: (r"its returns differ in type: float32, float32\[\?\]",) * 2,
    two_lengths: ("its returns differ in type: ",) * 2,
    two_keys: (r"its returns differ in type: struct<[ab]>.*, struct<[ab]>",) * 2,
    two_kinds_of_variable: (r"the variable value has the type float32\[\?\] in one place and float64 in another",) * 2,
    a_list: ("found a list: write a tuple",) * 2,
    a_dict_item_by_item: ("a dictionary that is filled item by item: write all of it as one",) * 2,
    calls_federated: ("federated is a federated_computation: compiled code cannot call it",) * 2,
    calls_python: ("interpreted is a python_computation: compiled code cannot call it",) * 2,
    calls_polymorphic: ("polymorphic has no declared parameter types: compiled code cannot call it",) * 2,
}


def refusal(function, types, **options):
    with pytest.raises(TypeError) as caught:
        fm.numba_computation(*types, **options)(function)
    text = str(caught.value)
    assert text.startswith(f"{function.__name__}: "), text
    where = text.rpartition("\n  at ")[2]
    assert where.startswith("test_compile_errors.py:"), text
    first = function.__code__.co_firstlineno
    line = int(where.split(":")[1])
    assert first <= line <= max(number or first for *_, number in function.__code__.co_lines()), text
    assert text.count("\n") <= 2, text
    for noise in (
        str(cache.folder()),
        "entry_",
        "nopython",
        "During:",
        "<fedmpi",
        "site-packages",
        "0x",
        "\x1b",
        "Record",
    ):
        assert noise not in text, text
    return text


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize("function", MISTAKES, ids=lambda f: f.__name__)
def test_mistakes(function, declared):
    text = refusal(function, [VECTOR], **({"result": VECTOR} if declared else {}))
    assert re.search(MISTAKES[function][declared], text), text


def missing_attribute(batch):
    return batch.z


def missing_item(batch):
    return batch["z"]


def too_many_names(batch):
    x, _y, _z = batch
    return x


@pytest.mark.parametrize(
    ("function", "inferred", "declared"),
    [
        (
            missing_attribute,
            "'struct<x,y>' object has no attribute 'z'",
            "the struct has no element 'z'; there are x,y",
        ),
        (missing_item, "no element 'z'; there are x, y", "no element 'z'; there are x, y"),
        (too_many_names, r"not enough values to unpack \(expected 3, got 2\)", "batch has 2 elements, unpacked into 3"),
    ],
)
def test_mistakes_with_structs(function, inferred, declared):
    assert re.search(inferred, refusal(function, [BATCH]))
    assert re.search(declared, refusal(function, [BATCH], result=VECTOR))


def test_a_failing_probe_tells_when_a_declared_type_helps():
    def short(x):
        return x[10]

    text = refusal(short, [VECTOR])
    assert "IndexError: index 10 is out of bounds" in text
    assert "if it works on real arguments, declare the type with result=…" in text
    works = fm.numba_computation(short, VECTOR, result=F32)
    assert works(np.arange(11, dtype=F32)) == 10

    def picky(x):
        if len(x) < 10:
            raise ValueError("too short")
        return x

    assert "if it works on real arguments, declare the type with result=…" in refusal(picky, [VECTOR])


# --- read-only arguments ---------------------------------------------------------------------------------------------


def write_item(a):
    a[0] = 1
    return a


def write_in_place(a):
    a += 1
    return a


def write_by_method(a):
    a.fill(0)
    return a


def write_to_view(a):
    part = a[1:]
    part[:] = 0
    return a


def write_to_transposed(a):
    a.reshape(-1)[0] = 2
    return a


@pytest.mark.parametrize("function", [write_item, write_in_place, write_by_method, write_to_view, write_to_transposed])
def test_writing_to_an_argument_is_refused_in_words(function):
    for options in ({}, {"result": VECTOR}):
        assert "arguments are read-only, because clients share them" in refusal(function, [VECTOR], **options)


def write_to_field(batch):
    batch.x[0] = 1
    return batch.x


def write_to_struct(batch):
    batch.x = batch.x * 2
    return batch.x


def write_to_element(batches):
    for batch in batches:
        batch.x[0] = 1
    return 1.0


def test_writing_to_structs_and_sequences_is_refused():
    assert "read-only" in refusal(write_to_field, [BATCH], result=VECTOR)
    assert "read-only" in refusal(write_to_field, [BATCH])
    assert "a struct cannot be changed: return a new one; into an array" in refusal(write_to_struct, [BATCH])
    assert "a struct cannot be changed (.x = …): return a new one" in refusal(write_to_struct, [BATCH], result=VECTOR)
    for options in ({}, {"result": F32}):
        assert "read-only" in refusal(write_to_element, [fm.SequenceType(BATCH)], **options)


def test_placements_are_refused():
    with pytest.raises(
        TypeError, match=r"a local computation handles tensors, structs and sequences, found \{float32\}@CLIENTS"
    ):
        fm.numba_computation(lambda x: x, fm.type_at_clients(F32))
    with pytest.raises(TypeError, match="a local computation handles"):
        fm.python_computation(lambda x: x, fm.type_at_server(F32), result=F32)
