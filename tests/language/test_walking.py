"""The one walk over types and the one over trees: what they yield, and in which order."""

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.language.tree.expressions import Call, Lambda, Ref, Select, Struct, free, origin, parts_of, path_of, walk
from fedmpi.language.types import contains, is_federated, struct_of
from fedmpi.language.types.walking import (
    accessed,
    all_tensors,
    dotted,
    flat,
    leaves_of,
    leaves_with_paths,
    nested,
    preorder_types,
    rebuilt,
)

F32, I32 = fm.TensorType(np.float32), fm.TensorType(np.int32)
DEEP = fm.StructType([("a", F32), (None, fm.StructType([("b", I32), (None, fm.SequenceType(F32))])), ("c", F32)])


def test_preorder_gives_each_type_before_its_parts():
    assert list(map(str, preorder_types(DEEP))) == [
        *("<a=float32,<b=int32,float32*>,c=float32>", "float32", "<b=int32,float32*>", "int32"),
        *("float32*", "float32", "float32"),
    ]
    function = fm.FunctionType(F32, fm.type_at_server(I32))
    assert list(preorder_types(function)) == [function, F32, function.result, I32]


def test_leaves_are_what_a_struct_is_made_of():
    found = list(leaves_with_paths(DEEP))
    assert [(dotted(path), accessed(path), str(leaf)) for path, leaf in found] == [
        ("a", ".a", "float32"),
        ("1.b", "[1].b", "int32"),
        ("1.1", "[1][1]", "float32*"),
        ("c", ".c", "float32"),
    ]
    assert list(leaves_of(DEEP)) == [leaf for _, leaf in found]
    assert list(leaves_with_paths(F32)) == [((), F32)]
    assert list(leaves_of(fm.StructType([]))) == []


def test_questions():
    assert contains(DEEP, fm.SequenceType)
    assert not contains(DEEP, (fm.FederatedType, fm.FunctionType))
    assert not contains(None, fm.TensorType)
    assert is_federated(fm.FunctionType(F32, fm.StructType([fm.type_at_clients(F32)])))
    assert not all_tensors(DEEP, lambda t: True), "a sequence is no tensor"
    assert all_tensors(DEEP[:1][0], lambda t: t.dtype == np.float32)
    assert all_tensors(fm.StructType([]), lambda t: False)


@pytest.mark.parametrize(
    "type_",
    [DEEP, fm.to_type([F32, I32]), fm.SequenceType(F32), fm.type_at_clients(F32, True), fm.FunctionType(F32, I32)],
    ids=str,
)
def test_a_type_is_rebuilt_of_its_parts(type_):
    assert rebuilt(type_, type_.children()) is type_


def test_a_struct_records_a_container_or_none():
    items = [("a", F32)]
    assert struct_of(items, None) is fm.StructType(items)
    assert struct_of(items, dict) is fm.StructWithPythonType(items, dict)


def test_values_are_taken_apart_and_made_again():
    value = (1.0, (2, "a sequence"), 3.0)
    assert flat(value, DEEP) == [1.0, 2, "a sequence", 3.0]
    assert nested(DEEP, iter(flat(value, DEEP))) == value
    assert flat(1.0, F32) == [1.0]
    assert nested(F32, iter([1.0])) == 1.0
    with pytest.raises(ValueError, match="zip"):
        flat((1.0,), DEEP)


def test_parts_of_a_tree():
    pair = fm.StructType([F32, fm.StructType([F32, I32])])
    used = Select(Select(Ref("x", pair), 1, pair[1]), 0, F32)
    function = Lambda("y", Struct((Ref("y", I32), used), fm.StructType([I32, F32])), fm.FunctionType(I32, [I32, F32]))
    call = Call(function, Ref("z", I32), function.type.result)
    assert parts_of(call) == (function, call.argument)
    assert parts_of(Call(function, None, function.type.result)) == (function,)
    assert parts_of(Ref("x", F32)) == ()
    assert [type(part).__name__ for part in walk(call)] == [
        *("Call", "Lambda", "Struct", "Ref", "Select", "Select", "Ref", "Ref")
    ]
    assert list(free(call)) == [used, call.argument]
    assert (origin(used), path_of(used)) == (Ref("x", pair), (1, 0))
    assert (origin(call), path_of(call)) == (call, ())
