"""Types from what users write, and of Python values."""

import dataclasses
from collections import OrderedDict, namedtuple
from typing import NamedTuple

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.presenting import rebuild

T = fm.TensorType


class Pair(NamedTuple):
    a: np.int32
    b: bool


@dataclasses.dataclass
class Model:
    weights: (np.float32, [784, 10])
    bias: (np.float32, [10])


@dataclasses.dataclass
class Named(Model):
    label: "np.str_"


class Text(NamedTuple):
    a: "(np.float32, [None])"
    b: "Model"


def test_classes():
    assert str(fm.to_type(Pair)) == "<a=int32,b=bool>"
    assert fm.to_type(Pair).python_container is Pair
    assert str(fm.to_type(Model)) == "<weights=float32[784,10],bias=float32[10]>"
    assert fm.to_type(Model).python_container is Model
    assert str(fm.to_type(Text)) == "<a=float32[?],b=<weights=float32[784,10],bias=float32[10]>>"
    assert str(fm.to_type(Named)) == "<weights=float32[784,10],bias=float32[10],label=str>"


def test_instances():
    assert str(fm.to_type(Model(np.float32, [np.int32]))) == "<weights=float32,bias=<int32>>"
    assert fm.to_type(Model(np.float32, np.int32)).python_container is Model
    assert fm.to_type(Pair(np.float32, (np.bool_, None))).python_container is Pair


def test_attrs():
    attrs = pytest.importorskip("attrs")
    foo = attrs.make_class("Foo", ["a", "b"])
    bar = attrs.make_class("Bar", ["c"])
    t = fm.to_type(foo(a=[np.int32, np.float64], b=bar(c=(np.float32, [2]))))
    assert str(t) == "<a=<int32,float64>,b=<c=float32[2]>>"
    assert (t.python_container, t.b.python_container) == (foo, bar)
    with pytest.raises(TypeError, match="a type must be given, found the class Foo"):
        fm.to_type(foo)


def test_a_pair_with_a_name_is_a_struct_of_one():
    t = fm.to_type(("a", np.int32))
    assert (str(t), t.python_container) == ("<a=int32>", tuple)
    assert fm.to_type([("a", np.int32)]).python_container is None
    assert fm.to_type([np.int32]).python_container is list


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (None, "to_type: a type must be given, found None\n  at test_to_type.py:"),
        (5, "a type must be given, found 5\n.*\n  hint: give np.int32"),
        (int, "found the class int\n.*\n  hint: give np.int32, np.float32"),
        ("int32", "found 'int32'\n.*\n  hint: give np.int32, np.float32"),
        ([np.int32, None], "found None"),
        ({1: np.int32}, "the keys of a mapping that is a struct must be str, found 1"),
        (
            namedtuple("P", "x y"),
            "P says nothing about the type of x, y\n.*\n  hint: use typing.NamedTuple or a dataclass",
        ),
        (object, "found the class object"),
        (lambda: 1, "a type must be given, found <function"),
        ((np.int32, np.zeros(2)), "hint: fm.infer_type.value. gives the type of a value"),
    ],
)
def test_what_is_no_type(spec, text):
    with pytest.raises(TypeError, match=text):
        fm.to_type(spec)


def test_annotations_that_cannot_be_read():
    class Lost(NamedTuple):
        a: "nowhere.at_all"  # noqa: F821

    with pytest.raises(TypeError, match="the annotation of a in Lost cannot be read: name 'nowhere' is not defined"):
        fm.to_type(Lost)


def test_type_at():
    assert str(fm.type_at_server(np.int32)) == "int32@SERVER"
    assert str(fm.type_at_clients(np.int32)) == "{int32}@CLIENTS"
    assert str(fm.type_at_clients(np.int32, all_equal=True)) == "int32@CLIENTS"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "bool"),
        (1, "int32"),
        (2**31, "int64"),
        (1.0, "float32"),
        (1j, "complex128"),
        ("a", "str"),
        (b"a", "str"),
        (np.float64(1), "float64"),
        (np.bool_(True), "bool"),
        (np.zeros((2, 3), np.uint8), "uint8[2,3]"),
        (np.array("abc"), "str"),
        ((1, [2.0]), "<int32,<float32>>"),
        (OrderedDict(b=1, a="x"), "<b=int32,a=str>"),
        (Pair(1, True), "<a=int32,b=bool>"),
        (Model(1.0, 2), "<weights=float32,bias=int32>"),
    ],
)
def test_infer_type(value, text):
    type_ = fm.infer_type(value)
    assert str(type_) == text
    if isinstance(type_, fm.StructType):
        assert type_.python_container is type(value)


def test_infer_type_of_what_has_none():
    assert fm.infer_type(None) is None
    for value in (object(), {1, 2}, lambda: 1, fm.CLIENTS, Model, (1, None), np.array([None])):
        with pytest.raises(NotImplementedError):
            fm.infer_type(value)
    with pytest.raises(ValueError, match="an integer must fit int64, found 9223372036854775808"):
        fm.infer_type(2**63)


@pytest.mark.parametrize(
    "value", [[1, 2], (1, 2), {"a": 1}, OrderedDict(b=1, a=2), Pair(1, True), Model(1.0, 2.0), (), [], [(1, {"a": 2})]]
)
def test_containers_come_back(value):
    def there_and_back(v):
        parts = unpack(v)
        if parts is None:
            return v
        return rebuild(fm.infer_type(v), [there_and_back(part) for _, part in parts])

    got = there_and_back(value)
    assert got == value
    assert type(got) is type(value)


def test_structs_without_a_container():
    assert rebuild(fm.StructType([np.int32, np.int32]), [1, 2]) == (1, 2)
    assert rebuild(fm.StructType([]), []) == ()
    assert rebuild(fm.StructType([("a", np.int32)]), [1]) == OrderedDict(a=1)
    with pytest.raises(ValueError, match="elements with and without names"):
        rebuild(fm.StructType([("a", np.int32), np.int32]), [1, 2])
