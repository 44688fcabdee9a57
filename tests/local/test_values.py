"""`normalise` and `present`: language.md's table of arguments, and what error texts say."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmpi as fm
from fedmpi.local.columns.column import PackedSequence
from fedmpi.local.columns.values import ArgumentError, ShapeError, cast_result, describe, normalise, present
from fedmpi.local.computations.given import as_given

F32, I32 = np.float32, np.int32
T = fm.TensorType
PAIR = fm.to_type(OrderedDict(a=I32, b=F32))


@dataclasses.dataclass
class Data:
    a: object
    b: object


class Typed(NamedTuple):
    b: object
    a: object


class Attrs:
    """What an attrs class looks like from outside."""

    __attrs_attrs__ = (namedtuple("Attribute", "name")("b"), namedtuple("Attribute", "name")("a"))

    def __init__(self, a, b):
        self.a, self.b = a, b


class Arrayish:
    def __array__(self, dtype=None, copy=None):
        return np.arange(2, dtype=F32)


GOOD = [
    (1.5, T(F32), F32(1.5)),
    (float("nan"), T(F32), F32(np.nan)),
    (float("inf"), T(F32), F32(np.inf)),
    (F32(2), T(np.float64), np.float64(2)),
    (np.float16(2), T(F32), F32(2)),
    (np.array(2.0, F32), T(F32), F32(2)),
    (7, T(I32), I32(7)),
    (2**63 - 1, T(np.int64), np.int64(2**63 - 1)),
    (2**64 - 1, T(np.uint64), np.uint64(2**64 - 1)),
    (np.int8(3), T(I32), I32(3)),
    (np.uint8(3), T(I32), I32(3)),
    (255, T(np.uint8), np.uint8(255)),
    (True, T(np.bool_), np.bool_(True)),
    (np.bool_(True), T(np.bool_), np.bool_(True)),
    (1j, T(np.complex64), np.complex64(1j)),
    ("Grüße", T(np.str_), "Grüße"),
    (np.str_("a"), T(np.str_), "a"),
    (b"a", T(np.str_), "a"),
    (np.array("a"), T(np.str_), "a"),
    (np.array(b"a", object), T(np.str_), "a"),
    ([1.0, 2.0], T(F32, [2]), np.array([1, 2], F32)),
    ((1.0, 2.0), T(F32, [None]), np.array([1, 2], F32)),
    ([F32(1), F32(2)], T(F32, [2]), np.array([1, 2], F32)),
    ([], T(F32, [None]), np.zeros(0, F32)),
    ([], T(I32, [0]), np.zeros(0, I32)),
    ([[1, 2], [3, 4]], T(I32, [2, None]), np.array([[1, 2], [3, 4]], I32)),
    ([0, 255], T(np.uint8, [2]), np.array([0, 255], np.uint8)),
    (Arrayish(), T(F32, [None]), np.arange(2, dtype=F32)),
    (np.arange(6, dtype=F32).reshape(2, 3).T, T(F32, [3, 2]), np.array([[0, 3], [1, 4], [2, 5]], F32)),
    (np.arange(4, dtype=F32)[::-2], T(F32, [2]), np.array([3, 1], F32)),
    (np.ones((2, 3), F32), T(F32, None), np.ones((2, 3), F32)),
]


@pytest.mark.parametrize(("value", "type_", "expected"), GOOD)
def test_tensors(value, type_, expected):
    got = normalise(value, type_)
    assert type(got) is type(expected)
    np.testing.assert_array_equal(got, expected)
    if isinstance(got, np.ndarray):
        assert got.dtype == expected.dtype
        assert got.flags.c_contiguous
        assert not got.flags.writeable


BAD = [
    (1, T(F32), r"expected float32, found int 1 \(write 1.0\)"),
    (1.5, T(I32), r"expected int32, found float 1.5 \(write np.int32"),
    (True, T(I32), "expected int32, found bool True"),
    (1, T(np.bool_), "expected bool, found int 1"),
    (np.float64(1), T(F32), r"expected float32, found float64 1.0 \(write np.float32"),
    (np.ones(3), T(F32, [3]), r"expected float32\[3\], found float64\[3\] \(write value.astype\(np.float32\)"),
    (np.ones(2, np.int64), T(I32, [2]), r"expected int32\[2\], found int64\[2\]"),
    (2**31, T(I32), "expected int32, found int 2147483648"),
    (-1, T(np.uint8), "expected uint8, found int -1"),
    ([300], T(np.uint8, [1]), r"expected uint8\[1\], found "),
    (10**30, T(np.int64), "expected int64, found int 1000000000000000000000000000000"),
    ([10**30, 1], T(np.int64, [2]), r"expected int64\[2\], found a list of 2"),
    (1e300, T(F32), "expected float32, found float 1e"),
    (1j, T(F32), "expected float32, found complex 1j"),
    ("1", T(F32), "expected float32, found str '1'"),
    (None, T(F32), "expected float32, found None"),
    ({}, T(F32), r"expected float32, found a dict with the keys \(none\)"),
    ([1.0, 2.0], T(F32), r"expected float32, found float64\[2\]|found a list of 2"),
    ([1.0, 2.0], T(F32, [3]), r"expected float32\[3\], found "),
    (1.0, T(F32, [1]), r"expected float32\[1\], found "),
    ([[1.0], [1.0, 2.0]], T(F32, [None, None]), "a list of 2 that is no array: its rows differ in length or kind"),
    ([1.0, "a"], T(F32, [None]), r"expected float32\[\?\], found "),
    ([None], T(F32, [None]), r"expected float32\[\?\], found a list of 1 with None at "),
    (object(), T(F32), "expected float32, found a object"),
    (np.array(["a"]), T(F32, [1]), r"expected float32\[1\], found str\[1\]"),
    (3, T(np.str_), "expected str, found int 3"),
    (np.ones(2), T(np.str_, [2]), r"expected str\[2\], found float64\[2\]"),
    (["a", 1], T(np.str_, [2]), r"expected str\[2\], found int 1"),
    (["a"], T(np.str_, [2]), r"expected str\[2\], found str\[1\]"),
    ("a", T(np.str_, [1]), r"expected str\[1\], found str 'a'"),
    (b"\xff", T(np.str_), r"expected str, found bytes that are no UTF-8 text"),
    (2**31, T(I32), r"expected int32, found int 2147483648 \(int32 holds -2147483648 to 2147483647\)"),
    (np.ones((2, 2), F32), T(F32, [None]), r"expected float32\[\?\], found float32\[2,2\]"),
]


@pytest.mark.parametrize(("value", "type_", "text"), BAD)
def test_refused_tensors(value, type_, text):
    with pytest.raises(ArgumentError, match=text):
        normalise(value, type_)


@given(st.integers(), st.sampled_from([np.int8, np.uint8, np.int32, np.uint32, np.int64, np.uint64]))
def test_integers_fit_or_are_refused(value, dtype):
    info = np.iinfo(dtype)
    if info.min <= value <= info.max:
        got = normalise(value, T(dtype))
        assert int(got) == value
        assert type(got) is dtype
        assert normalise([value, 0], T(dtype, [2])).tolist() == [value, 0]
    else:
        for bad, type_ in ((value, T(dtype)), ([value, 0], T(dtype, [2]))):
            with pytest.raises(ArgumentError, match="expected"):
                normalise(bad, type_)


@given(st.floats(width=32))
def test_floats_of_32_bits_keep_their_bits(value):
    if not np.isnan(value):
        assert normalise(value, T(F32)).tobytes() == F32(value).tobytes()


STRUCTS = [
    {"b": 2.0, "a": 1},
    OrderedDict(b=2.0, a=1),
    MappingProxyType({"b": 2.0, "a": 1}),
    (1, 2.0),
    [1, 2.0],
    Typed(a=1, b=2.0),
    Data(1, 2.0),
    Attrs(1, 2.0),
]


@pytest.mark.parametrize("value", STRUCTS, ids=lambda v: type(v).__name__)
def test_structs_bind_by_name_and_sequences_by_position(value):
    assert normalise(value, PAIR) == (1, 2.0)


def test_records_go_through():
    assert normalise(as_given((I32(1), F32(2)), PAIR), PAIR) == (1, 2)
    assert normalise(as_given((F32(2), I32(1)), fm.to_type(OrderedDict(b=F32, a=I32))), PAIR) == (1, 2)


def test_refused_structs():
    for value, text in [
        ({"a": 1}, r"expected <a=int32,b=float32>, found a dict with the keys 'a': no 'b'"),
        ({"a": 1, "b": 2.0, "c": 3}, "unknown 'c'"),
        ({"x": 1, "b": 2.0}, "no 'a' and unknown 'x'"),
        ((1,), "2 elements, found a tuple of 1"),
        ([1, 2.0, 3], "2 elements, found a list of 3"),
        (Typed(1, 2.0)[:1], "found a tuple of 1"),
        (namedtuple("Other", "a c")(1, 2.0), "no 'b' and unknown 'c'"),
        (5, "found int 5"),
        ("ab", "found str 'ab'"),
        (np.ones(2), r"found float64\[2\]"),
        ({"a": 1.5, "b": 2.0}, r"^a: expected int32, found float 1.5"),
        ({"a": 1, "b": {"c": 1}}, "^b: expected float32, found a dict with the keys 'c'"),
        (Data, "found a type"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            normalise(value, PAIR)
    with pytest.raises(ArgumentError, match=r"^element 1: expected int32"):
        normalise((1, 2.0), fm.to_type((I32, I32)))


def test_sequences():
    type_ = fm.SequenceType(PAIR)
    sequence = normalise([{"a": 1, "b": 2.0}, (3, 4.0)], type_)
    assert isinstance(sequence, PackedSequence)
    assert list(sequence) == [(1, 2.0), (3, 4.0)]
    assert len(normalise((), type_)) == 0
    assert list(normalise(sequence, type_)) == list(sequence)
    wider = fm.SequenceType(T(F32, [None]))
    narrow = normalise([np.ones(2, F32), np.zeros(2, F32)], fm.SequenceType(T(F32, [2])))
    for again in (normalise(narrow, fm.SequenceType(T(F32, [2]))), narrow):
        assert [v.tolist() for v in again] == [[1, 1], [0, 0]]
    assert [v.tolist() for v in normalise(narrow, wider)] == [[1, 1], [0, 0]]
    for value, text in [
        (np.ones(2, F32), r"found float32\[2\] \(a sequence is a list of its elements\)"),
        ((x for x in [1.0]), "found a generator"),
        (5, "found int 5"),
        ([1.0, "a"], r"^element 1: expected float32, found str 'a'"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            normalise(value, fm.SequenceType(F32))
    with pytest.raises(ArgumentError, match=r"^batch 1, b: expected float32, found int 4"):
        normalise([(1, 2.0), (3, 4)], type_)
    with pytest.raises(ArgumentError, match=r"expected int32\*, found float32"):
        normalise(normalise([1.0], fm.SequenceType(F32)), fm.SequenceType(I32))


def test_functions():
    computation = fm.python_computation(lambda x: x, F32, result=F32)
    assert normalise(computation, fm.FunctionType(F32, F32)) is computation
    with pytest.raises(ArgumentError, match="a function argument is a computation"):
        normalise(lambda x: x, fm.FunctionType(F32, F32))
    with pytest.raises(ArgumentError, match=r"expected \(int32 -> int32\), found \(float32 -> float32\)"):
        normalise(computation, fm.FunctionType(I32, I32))


def test_half_precision_and_texts():
    assert normalise(1.5, T(np.float16)) == np.float16(1.5)
    texts = normalise(["a", "bc"], T(np.str_, [None]))
    assert texts.tolist() == ["a", "bc"]
    assert normalise(np.array([b"a"]), T(np.str_, [1])).tolist() == ["a"]


def test_arguments_are_neither_changed_nor_frozen():
    array = np.ones(3, F32)
    got = normalise(array, T(F32, [3]))
    assert np.shares_memory(got, array)
    assert array.flags.writeable
    got = normalise(np.arange(4, dtype=F32).reshape(2, 2).T, T(F32, [2, 2]))
    assert got.flags.c_contiguous


def test_results():
    type_ = fm.to_type(Typed(T(F32, [2]), [I32, {"k": np.str_}]))
    value = normalise(Typed([1.0, 2.0], (3, ("x",))), type_)
    got = present(value, type_)
    assert type(got) is Typed
    assert type(got.a) is list
    assert got.a[1] == {"k": "x"}
    got.b[:] = 0
    assert value[0].tolist() == [1, 2]
    assert present((I32(1), F32(2)), fm.StructType([("a", I32), ("b", F32)])) == OrderedDict(a=1, b=2)
    assert present((), fm.StructType([])) == ()
    with pytest.raises(ValueError, match="with and without"):
        present((I32(1), F32(2)), fm.StructType([("a", I32), F32]))
    assert present(normalise([1.0, 2.0], fm.SequenceType(F32)), fm.SequenceType(F32)) == [1, 2]


def test_cast_results():
    array = np.ones(2)
    got = cast_result(array, T(F32, [2]))
    assert got.dtype == F32
    assert cast_result(3, T(np.int64)) == np.int64(3)
    assert cast_result(array[:1], T(F32, [None])).base is not array
    for value, type_, text in [
        (3, T(F32), "expected float32, found int 3"),
        (1.5, T(I32), "expected int32, found float 1.5"),
        (None, T(F32), "expected float32, found None"),
        (np.ones(3), T(F32, [2]), r"expected float32\[2\], found float64\[3\]"),
        ({"a": 1, "b": 1}, PAIR, "^b: expected float32, found int 1"),
        (3, fm.SequenceType(F32), r"expected float32\*, found int 3"),
        ([1.0, 1], fm.SequenceType(F32), "^element 1: expected float32, found int 1"),
    ]:
        with pytest.raises(ArgumentError, match=text):
            cast_result(value, type_)


def test_descriptions():
    assert describe("x" * 100).endswith("…")
    assert describe(np.float64(2)) == "float64 2.0"
    assert describe([1, 2]) == "a list of 2"
    assert describe(Data(1, 2)) == "a Data"
    assert (
        str(ShapeError("f: result", "float32[2]", "float32", (3, 4)))
        == "f: result: expected float32[2], found float32[3,4]"
    )


# --- lists: an element is taken exactly where it is taken alone ------------------------------------------------------

ELEMENTS = [
    *(True, 2, -1, 300, 2**40, 2**63, 2**64 - 1, 2**64, 2.5, 1e300, float("nan"), 1j, "a", None, np.ma.masked),
    *(np.bool_(True), np.int8(-3), np.uint8(3), np.int32(1), np.int64(5), np.uint64(2**63 + 1)),
    *(np.float16(0.5), F32(0.1), np.float64(0.1), np.complex64(1j), np.array(4, np.int32), np.ones(2, F32)),
]
TARGETS = [np.bool_, np.int8, np.uint8, I32, np.int64, np.uint64, np.float16, F32, np.float64, np.complex64]


def alone(element, dtype):
    """Return an element's value as a scalar of the dtype, None if it is refused."""
    try:
        return normalise(element, T(dtype))
    except ArgumentError:
        return None


@given(st.lists(st.sampled_from(range(len(ELEMENTS))), min_size=1, max_size=4), st.sampled_from(TARGETS), st.booleans())
def test_lists_are_judged_element_by_element(indices, dtype, nested):
    elements = [ELEMENTS[i] for i in indices]
    expected = [alone(element, dtype) for element in elements]
    value, type_ = elements, T(dtype, [len(elements)])
    if nested:
        value, type_ = (elements, tuple(elements)), T(dtype, [2, len(elements)])
    if any(e is None for e in expected):
        with pytest.raises(ArgumentError):
            normalise(value, type_)
    else:
        got = normalise(value, type_)
        assert got.dtype == dtype
        for row in got if nested else [got]:
            np.testing.assert_array_equal(row, np.array(expected, dtype))


def test_what_lists_with_a_strange_element_say():
    for value, dtype, text in (
        ([True, 2], I32, r"found a list of 2 with bool True at \[0\] \(write np.array\(value, np.int32\)"),
        ([1, 2.5], F32, r"found a list of 2 with int 1 at \[0\] \(write np.array\(value, np.float32\)"),
        ([[1, 2], [3, 300]], np.uint8, r"found a list of 2 with 300 \(uint8 holds 0 to 255\)"),
        ([1.0, [2.0]], F32, "its rows differ in length or kind"),
    ):
        with pytest.raises(ArgumentError, match=text):
            normalise(value, T(dtype, None))


# --- arrays that are more than their numbers -------------------------------------------------------------------------


class Harmless(np.ndarray):
    """A subclass that adds nothing."""


class Metres(np.ndarray):
    """Numbers with a unit."""

    unit = "m"


class Quantity:
    """What pint and its like look like."""

    units = "metre"
    __array__ = Arrayish.__array__


class Saturating(np.ndarray):
    """Another arithmetic."""

    def __add__(self, other):
        return np.minimum(np.asarray(self) + other, 1)


PLAIN = np.arange(2, dtype=F32)
MEANING = {
    "masked": (np.ma.array(PLAIN, mask=[0, 1]), "a masked array .*filled"),
    "nothing masked": (np.ma.array(PLAIN), "a masked array .*filled"),
    "matrix": (np.ones((1, 2)).view(np.matrix), "a matrix, which has an arithmetic of its own .*np.asarray"),
    "unit": (PLAIN.view(Metres), "a Metres, which has a unit"),
    "quantity": (Quantity(), "a Quantity, which has a unit"),
    "saturating": (PLAIN.view(Saturating), "an arithmetic of its own"),
}


@pytest.mark.parametrize(("value", "text"), MEANING.values(), ids=MEANING)
def test_arrays_with_a_meaning_are_refused(value, text):
    vector = T(F32, [2])
    struct = {"a": value, "b": 1}, fm.to_type({"a": vector, "b": I32})
    for given_, type_ in ((value, vector), ([value], T(F32, [1, 2])), struct):
        for function in (normalise, cast_result):
            with pytest.raises(ArgumentError, match=text):
                function(given_, type_)
    with pytest.raises(ArgumentError, match=text):
        normalise([value], fm.SequenceType(vector))
    word = text.split(",")[0].removesuffix(" .*filled")
    for call in (
        lambda: fm.infer_type([value]),
        lambda: fm.federated_computation(lambda: fm.to_value(value)),
        lambda: fm.client_data([value], vector),
        lambda: fm.client_data_from_arrays(value, [0, 2], (F32, [None])),
        lambda: fm.numba_computation(lambda x: x + value, vector),
        lambda: fm.python_computation(lambda x: value, vector, result=vector)(PLAIN),
    ):
        with pytest.raises((TypeError, ValueError), match=f"{word}|of class Quantity"):
            call()


def test_scalars_that_are_masked():
    with pytest.raises(ArgumentError, match=r"a masked array .*filled"):
        normalise(np.ma.masked, T(F32))
    with pytest.raises(TypeError, match="found a masked array"):
        fm.client_data([1.0, 2.0], F32).select(np.ma.array([0, 1], mask=[0, 1]))


def test_arrays_that_are_only_stored_otherwise_are_taken(tmp_path):
    np.save(tmp_path / "v.npy", PLAIN)
    for value in (PLAIN.view(Harmless), np.load(tmp_path / "v.npy", mmap_mode="r"), PLAIN.view(np.recarray)):
        got = normalise(value, T(F32, [2]))
        assert type(got) in (np.ndarray, type(value))
        np.testing.assert_array_equal(got, PLAIN)
        assert fm.infer_type(value) == T(F32, [2])


# --- results that do not fit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "type_", "text"),
    [
        (10**10, T(I32), r"expected int32, found int 10000000000 \(int32 holds -2147483648 to 2147483647\)"),
        (-1, T(np.uint8), "expected uint8, found int -1"),
        (np.int64(300), T(np.uint8), "expected uint8, found int64 300"),
        (np.uint64(2**63 + 5), T(np.int64), "expected int64, found uint64 9223372036854775813"),
        (np.array([1, 2**31]), T(I32, [2]), r"expected int32\[2\], found int64\[2\] with 2147483648"),
        ([np.int64(1), 2**31], T(I32, [2]), r"expected int32\[2\], found a list of 2 with 2147483648"),
        ([np.uint64(2**63), 1], T(np.int64, [2]), "with 9223372036854775808"),
        (1e6, T(np.float16), "expected float16, found float 1000000.0, which is too large"),
        (np.float64(1e300), T(F32), "which is too large"),
        (np.array([1.0, -1e39]), T(F32, [2]), "which is too large"),
        (complex(1e300, 0), T(np.complex64), "which is too large"),
        ({"a": 2**31, "b": 1.0}, PAIR, "a: expected int32, found int 2147483648"),
        ([1, 2**31], fm.SequenceType(I32), "element 1: expected int32, found int 2147483648"),
    ],
)
def test_results_that_do_not_fit(value, type_, text):
    with pytest.raises(ArgumentError, match=text) as caught:
        cast_result(value, type_)
    assert isinstance(caught.value, OverflowError)
    body = fm.python_computation(lambda x: value, I32, result=type_)
    with pytest.raises(OverflowError, match=text) as raised:
        body(0)
    assert type(raised.value) is OverflowError
    assert "test_values.py:" in str(raised.value)


def test_results_that_fit_keep_their_values():
    assert cast_result(np.uint64(2**63 - 1), T(np.int64)) == 2**63 - 1
    assert cast_result([1, 2**64 - 1], T(np.uint64, [2])).tolist() == [1, 2**64 - 1]
    assert np.isinf(cast_result(float("inf"), T(np.float16)))
    assert cast_result(np.float64(1e300), T(F32), infinite=True) == np.inf


class Tensor:
    """Another library's, which counts how often it is read."""

    reads = 0

    def __init__(self, error=None):
        self.error = error

    def __array__(self, dtype=None, copy=None):
        self.reads += 1
        if self.error:
            raise self.error
        return np.array([1, 2], F32)


def test_an_object_that_gives_an_array_is_read_once():
    tensor = Tensor()
    assert normalise(tensor, T(F32, [2])).tolist() == [1, 2]
    assert tensor.reads == 1


@pytest.mark.parametrize("inside", [lambda value: value, lambda value: [value, value]], ids=["alone", "in a list"])
def test_an_object_that_gives_no_array_says_why(inside):
    text = r"expected float32\[2\], found a Tensor, of which no array can be made: TypeError: it is on a device"
    with pytest.raises(ArgumentError, match=text):
        normalise(inside(Tensor(TypeError("it is on a device"))), T(F32, [2]))
    with pytest.raises(KeyError, match="mine"):  # what is no answer to NumPy stays the object's own error
        normalise(inside(Tensor(KeyError("mine"))), T(F32, [2]))
