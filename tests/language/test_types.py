"""Types: their texts, their identity, what they refuse."""

import copy
import pickle
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import fedmpi.language as fm
from fedmpi.language.types import type_contains
from fedmpi.language.types.classes import RESERVED_NAMES

C, S = fm.CLIENTS, fm.SERVER
Seq, Fed, Fn, St, T = fm.SequenceType, fm.FederatedType, fm.FunctionType, fm.StructType, fm.TensorType
BATCH = OrderedDict(x=(np.float32, [None, 784]), y=(np.int32, [None]))
MODEL = OrderedDict(weights=(np.float32, [784, 10]), bias=(np.float32, [10]))
WEIGHTS = OrderedDict(trainable=((np.float32, [784, 10]), (np.float32, [10])), non_trainable=())
NEXT = Fn(
    OrderedDict(
        server_weights=Fed(WEIGHTS, S),
        federated_dataset=Fed(Seq(((np.float32, [None, 784]), (np.int32, [None, 1]))), C),
    ),
    Fed(WEIGHTS, S),
)
NEXT_TEXT = (
    "(<server_weights=<trainable=<float32[784,10],float32[10]>,non_trainable=<>>@SERVER,"
    "federated_dataset={<float32[?,784],int32[?,1]>*}@CLIENTS> -> "
    "<trainable=<float32[784,10],float32[10]>,non_trainable=<>>@SERVER)"
)

TEXTS = [  # language.md, 1.4
    (np.int32, "int32"),
    (np.bool_, "bool"),
    (np.str_, "str"),
    (np.bytes_, "str"),
    (np.float16, "float16"),
    (np.complex128, "complex128"),
    (np.uint8, "uint8"),
    ((np.int32, [10]), "int32[10]"),
    ((np.int32, [None]), "int32[?]"),
    ((np.int32, (2, None)), "int32[2,?]"),
    ((np.int32, []), "int32"),
    ((np.float32, [None, 784]), "float32[?,784]"),
    ((np.float32, [784, 10]), "float32[784,10]"),
    (T(np.int32, None), "'int32'(shape=None)"),
    ((np.int32, None), "'int32'(shape=None)"),
    (T(np.int32, [-1]), "int32[-1]"),
    ([np.int32, np.bool_], "<int32,bool>"),
    ((np.int32, np.float64), "<int32,float64>"),
    ([], "<>"),
    ([("a", np.int32), ("b", np.float64)], "<a=int32,b=float64>"),
    ([np.float64, ("a", np.int32)], "<float64,a=int32>"),
    (("a", np.int32), "<a=int32>"),
    (OrderedDict(a=np.int32, b=np.bool_), "<a=int32,b=bool>"),
    ({"b": np.int32, "a": np.bool_}, "<b=int32,a=bool>"),
    ((np.int32, (np.float32, np.float64)), "<int32,<float32,float64>>"),
    ((np.int32, (("x", np.float32), np.float64)), "<int32,<x=float32,float64>>"),
    (((np.int32, [1]), (("x", (np.float32, [2])), (np.float64, [3]))), "<int32[1],<x=float32[2],float64[3]>>"),
    (St([St([St([np.int32, np.float32]), np.bool_]), np.str_]), "<<<int32,float32>,bool>,str>"),
    (BATCH, "<x=float32[?,784],y=int32[?]>"),
    (MODEL, "<weights=float32[784,10],bias=float32[10]>"),
    (Seq(np.int32), "int32*"),
    (Seq((np.int32, np.float64)), "<int32,float64>*"),
    (Seq(OrderedDict(A=np.int32, B=np.int32)), "<A=int32,B=int32>*"),
    (Seq(BATCH), "<x=float32[?,784],y=int32[?]>*"),
    (Fed(np.int32, C), "{int32}@CLIENTS"),
    (Fed(np.int32, S), "int32@SERVER"),
    (Fed(np.float32, C, all_equal=True), "float32@CLIENTS"),
    (Fed(np.int32, S, False), "{int32}@SERVER"),
    (Fed(OrderedDict(a=np.float32, b=np.float32), C, True), "<a=float32,b=float32>@CLIENTS"),
    (Fed(Seq(np.float32), C), "{float32*}@CLIENTS"),
    (Fed(Seq([("x", np.int32)]), C), "{<x=int32>*}@CLIENTS"),
    (Fn(np.int32, np.float64), "(int32 -> float64)"),
    (Fn(None, np.int32), "( -> int32)"),
    (Fn(OrderedDict(a=np.int32, b=np.bool_), np.int32), "(<a=int32,b=bool> -> int32)"),
    (Fn((np.int32, np.float32), (np.float64, np.str_)), "(<int32,float32> -> <float64,str>)"),
    (Fn(Fn(np.int32, np.int32), Fn(None, np.bool_)), "((int32 -> int32) -> ( -> bool))"),
    (Fn(fm.AbstractType("T"), fm.AbstractType("U")), "(T -> U)"),
    (fm.PlacementType(), "placement"),
    (Fn(Fed(np.float32, C), Fed(np.float32, S)), "({float32}@CLIENTS -> float32@SERVER)"),
    (Fn(Fed(np.float32, C), Fed(np.float32, C)), "({float32}@CLIENTS -> {float32}@CLIENTS)"),
    (Fn(Fed(Seq(np.float32), C), Fed(np.float32, S)), "({float32*}@CLIENTS -> float32@SERVER)"),
    (Fn(np.int32, Fn(np.int32, (np.int32, np.int32))), "(int32 -> (int32 -> <int32,int32>))"),
    (NEXT, NEXT_TEXT),
]


@pytest.mark.parametrize(("spec", "text"), TEXTS, ids=[text[:40] for _, text in TEXTS])
def test_text(spec, text):
    type_ = fm.to_type(spec)
    assert str(type_) == type_.compact_representation() == text
    assert copy.deepcopy(type_) is type_
    assert pickle.loads(pickle.dumps(type_)) is type_
    assert type_.is_identical_to(fm.to_type(spec))


def test_bfloat16():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    assert str(T(ml_dtypes.bfloat16)) == "bfloat16"


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (St([("a", np.int32), ("b", np.float32)]), "<\n  a=int32,\n  b=float32\n>"),
        (St([]), "<>"),
        (Seq([np.int32]), "<\n  int32\n>*"),
        (
            Fn(OrderedDict(a=[np.int32], b=np.bool_), Fed([np.int32], C)),
            "(<\n  a=<\n    int32\n  >,\n  b=bool\n> -> {<\n  int32\n>}@CLIENTS)",
        ),
    ],
)
def test_formatted(type_, text):
    assert type_.formatted_representation() == text


@pytest.mark.parametrize(
    ("type_", "text"),
    [
        (T(np.int32), "TensorType(np.int32)"),
        (T(np.bool_), f"TensorType(np.{np.bool_.__name__})"),
        (T(np.int32, [10]), "TensorType(np.int32, (10,))"),
        (T(np.int32, None), "TensorType(np.int32, None)"),
        (fm.to_type(OrderedDict(a=np.int32)), "StructType([('a', TensorType(np.int32))]) as OrderedDict"),
        (fm.to_type([np.int32]), "StructType([TensorType(np.int32)]) as list"),
        (St([np.int32]), "StructType([TensorType(np.int32)])"),
        (Seq(np.int32), "SequenceType(TensorType(np.int32))"),
        (Fn(None, np.int32), "FunctionType(None, TensorType(np.int32))"),
        (Fed(np.int32, C), "FederatedType(TensorType(np.int32), PlacementLiteral('clients'), False)"),
        (fm.AbstractType("T"), "AbstractType('T')"),
        (fm.PlacementType(), "PlacementType()"),
    ],
)
def test_repr(type_, text):
    assert repr(type_) == text


def test_placements():
    assert (str(C), repr(C), C.uri, C.default_all_equal) == ("CLIENTS", "PlacementLiteral('clients')", "clients", False)
    assert (str(S), repr(S), S.uri, S.default_all_equal) == ("SERVER", "PlacementLiteral('server')", "server", True)
    assert fm.PlacementLiteral("other name", "server", False) == S
    assert copy.deepcopy(C) is C
    assert pickle.loads(pickle.dumps(C)) is C


def test_same_arguments_give_the_same_object():
    assert T(np.int32, [2, None]) is T(np.dtype("int32"), (2, None))
    assert T(np.dtype(">i4")) is T(np.int32)
    assert St([("a", np.int32)]) is St({"a": np.int32})
    assert Seq(np.int32) is Seq(T(np.int32))
    assert Fed(np.int32, C) is Fed(np.int32, C, False)
    assert Fn(None, np.int32) is Fn(None, np.int32)
    assert fm.PlacementType() is fm.PlacementType()


def test_the_container_counts_in_equality_but_not_in_equivalence():
    as_list, as_tuple, plain = fm.to_type([np.int32]), fm.to_type((np.int32,)), St([np.int32])
    assert len({as_list, as_tuple, plain}) == 3
    assert as_list != as_tuple
    assert as_list.is_equivalent_to(as_tuple)
    assert plain.is_equivalent_to(as_list)
    assert (as_list.python_container, plain.python_container) == (list, None)


def test_a_sequence_does_not_keep_lists():
    nested = Seq([("a", np.int32), ("b", [np.int32, [np.bool_]])])
    assert nested.element["b"].python_container is tuple
    assert nested.element["b"][1].python_container is tuple
    assert Seq([np.int32]) is Seq((np.int32,))
    assert Seq(OrderedDict(a=np.int32)).element.python_container is OrderedDict


def test_types_are_immutable():
    for type_ in [T(np.int32), St([("a", np.int32)]), Seq(np.int32), Fed(np.int32, C)]:
        with pytest.raises(AttributeError, match="is immutable: cannot set 'shape'"):
            type_.shape = ()
        with pytest.raises(AttributeError, match="is immutable: cannot delete 'shape'"):
            del type_.shape


def test_elements_of_a_struct_type():
    t = fm.to_type([("a", np.int32), np.bool_, ("c d", np.float32)])
    assert (len(t), list(t)) == (3, [T(np.int32), T(np.bool_), T(np.float32)])
    assert t.a is t["a"] is t[0] is T(np.int32)
    assert t["c d"] is t[2]
    assert t[1:] == (T(np.bool_), T(np.float32))
    assert t.items() == (("a", T(np.int32)), (None, T(np.bool_)), ("c d", T(np.float32)))
    assert t.fields() == ["a", "c d"]
    assert "a" in dir(t)
    with pytest.raises(AttributeError, match=r"<a=int32,bool,c d=float32> has no element named 'zz'"):
        t.zz  # noqa: B018
    with pytest.raises(AttributeError, match="no element named 'zz'"):
        t["zz"]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"below 3, found {index} for <a=int32"):
            t[index]


@pytest.mark.parametrize("name", ["elements", "element", "shape", "index", "_items", "_interned"])
def test_any_other_name_can_be_that_of_an_element(name):
    t = St([(name, np.int32)])
    assert getattr(t, name) is t[name] is T(np.int32)


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_names(name):
    with pytest.raises(ValueError, match=f"can be named {name}"):
        St([(name, np.int32)])


def test_types_match():
    match fm.type_at_clients(Seq((np.float32, [None, 3]))):
        case fm.FederatedType(fm.SequenceType(fm.TensorType(dtype, (None, n))), placement, False):
            assert (dtype, n, placement) == (np.float32, 3, C)
        case other:
            pytest.fail(f"{other}")


def test_children():
    t = fm.to_type((Fed(np.int32, C), [np.float32, Seq(np.int32)]))
    assert list(map(str, t.children())) == ["{int32}@CLIENTS", "<float32,int32*>"]
    assert [str(c) for c in Fn(None, np.int32).children()] == ["int32"]
    assert T(np.int32).children() == ()
    assert type_contains(t, lambda x: isinstance(x, fm.SequenceType))
    assert not type_contains(t, lambda x: isinstance(x, fm.FunctionType))


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: T(object),
            NotImplementedError,
            "TensorType: the dtype must be one of NumPy's, found <class 'object'>\n  at test_types",
        ),
        (lambda: T(int), NotImplementedError, "hint: give np.int32, np.float32"),
        (lambda: T("int32"), NotImplementedError, "found 'int32'"),
        (lambda: T(np.floating), NotImplementedError, "must be a concrete one"),
        (lambda: T(None), NotImplementedError, "found None"),
        (lambda: T(np.datetime64), NotImplementedError, "must be one of bool, int8, .* found datetime64"),
        (lambda: T(np.int32, 5), TypeError, "the shape must be a sequence of sizes, each an int or None, found 5"),
        (lambda: T(np.int32, ["a"]), TypeError, "the shape must be .* found .'a'."),
        (
            lambda: St([("a", np.int32), ("a", np.bool_)]),
            ValueError,
            "the elements must have different names, found a, a",
        ),
        (lambda: Seq(Seq(np.int32)), ValueError, "SequenceType: element must hold no .* sequence, found int32\\*"),
        (lambda: Seq([Fed(np.int32, C)]), ValueError, "found <{int32}@CLIENTS>"),
        (lambda: Seq(Fn(None, np.int32)), ValueError, "element must hold no federated value, function"),
        (lambda: Fed(Fed(np.int32, C), C), ValueError, "FederatedType: member must hold no .* found {int32}@CLIENTS"),
        (lambda: Fed([Fn(None, np.int32)], C), ValueError, "member must hold no"),
        (lambda: Fed(np.int32, "clients"), TypeError, "must be fm.CLIENTS or fm.SERVER, found 'clients'"),
        (lambda: Fn(np.int32, None), TypeError, "found None"),
        (lambda: fm.AbstractType(1), TypeError, "label must be a str, found 1"),
    ],
)
def test_refused_types(make, error, text):
    with pytest.raises(error, match=text):
        make()


def test_a_named_tuple_of_types():
    point = namedtuple("point", "x y")
    t = fm.to_type(point(np.int32, [np.float32]))
    assert str(t) == "<x=int32,y=<float32>>"
    assert t.python_container is point
    assert str(St(point(np.int32, np.float32))) == "<x=int32,y=float32>"
