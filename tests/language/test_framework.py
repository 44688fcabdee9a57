"""`fm.framework`: what language.md, 3.6 and 4.3 say, and what federated_language 0.5.4 gives for the same."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import fedmpi as fm
from fedmpi import framework

C, S = fm.CLIENTS, fm.SERVER
f32, i32 = np.float32, np.int32
INT, FLOAT = fm.TensorType(i32), fm.TensorType(f32)
NAMED = fm.StructType([("a", INT), ("b", FLOAT)])
Pair = namedtuple("Pair", "a b")


def is_tensor(type_):
    return isinstance(type_, fm.TensorType)


def test_every_name_is_there():
    assert sorted(name for name in vars(framework) if not name.startswith("_")) == sorted(framework.__all__)


def test_preorder_types():
    type_ = fm.to_type([fm.FederatedType(i32, C), (f32, fm.SequenceType(i32))])
    wanted = [str(type_), "{int32}@CLIENTS", "int32", "<float32,int32*>", "float32", "int32*", "int32"]
    assert list(map(str, framework.preorder_types(type_))) == wanted
    function = fm.FunctionType(None, INT)
    assert list(framework.preorder_types(function)) == [function, INT]


def test_counts_and_contents():
    type_ = fm.to_type([fm.FederatedType(NAMED, C), fm.SequenceType(i32)])
    assert framework.type_count(type_, is_tensor) == 3
    assert framework.type_contains(type_, lambda t: t is NAMED)
    assert not framework.type_contains(type_, lambda t: t is C)
    assert not framework.type_contains_only(type_, is_tensor)
    assert framework.type_contains_only(INT, is_tensor)
    assert framework.contains_federated_types(type_)
    assert not framework.contains_federated_types(NAMED)
    assert framework.contains_tensor_types(type_)
    assert not framework.contains_tensor_types(fm.to_type([]))


@pytest.mark.parametrize(
    ("type_", "tensors", "floats", "integers"),
    [
        (INT, True, False, True),
        (FLOAT, True, True, False),
        (fm.TensorType(np.uint8, [None]), True, False, True),
        (fm.TensorType(np.complex64), True, False, False),
        (fm.TensorType(np.bool_), True, False, False),
        (fm.TensorType(np.str_), True, False, False),
        (NAMED, True, False, False),
        (fm.to_type([f32, [np.float64]]), True, True, False),
        (fm.to_type([]), True, True, True),
        (fm.FederatedType(i32, C), False, False, True),
        (fm.SequenceType(f32), False, False, False),
        (fm.FunctionType(None, f32), False, False, False),
    ],
    ids=str,
)
def test_structures_of_a_kind(type_, tensors, floats, integers):
    assert framework.is_structure_of_tensors(type_) == tensors
    assert framework.is_structure_of_floats(type_) == floats
    assert framework.is_structure_of_integers(type_) == integers


def test_single_integer_or_structure():
    holds = framework.is_single_integer_or_matches_structure
    assert holds(INT, NAMED)
    assert holds(fm.TensorType(np.int64, [1, 1]), INT)
    assert not holds(fm.TensorType(i32, [2]), INT)
    assert not holds(FLOAT, INT)
    assert holds(fm.StructType([("a", INT), ("b", INT)]), NAMED)
    assert not holds(fm.to_type([i32, i32]), NAMED)
    assert not holds(fm.StructType([("a", INT)]), NAMED)


def test_transform_type_postorder():
    def doubled(type_):
        return (fm.TensorType(np.float64), True) if type_ is FLOAT else (type_, False)

    def member(type_):
        return (type_.member, True) if isinstance(type_, fm.FederatedType) else (type_, False)

    type_ = fm.FunctionType(OrderedDict(a=fm.FederatedType(f32, C), b=fm.SequenceType(f32)), fm.FederatedType(f32, S))
    made, changed = framework.transform_type_postorder(type_, doubled)
    assert (str(made), changed) == ("(<a={float64}@CLIENTS,b=float64*> -> float64@SERVER)", True)
    assert made.parameter.python_container is OrderedDict
    made, changed = framework.transform_type_postorder(type_, member)
    assert (str(made), changed) == ("(<a=float32,b=float32*> -> float32)", True)
    assert framework.transform_type_postorder(NAMED, member) == (NAMED, False)
    assert framework.transform_type_postorder(fm.FunctionType(None, f32), doubled)[0].parameter is None


def test_structures_with_a_type():
    assert framework.structure_with_type(str, INT) == "int32"
    assert framework.structure_with_type(str, NAMED) == {"a": "int32", "b": "float32"}
    assert framework.structure_with_type(str, fm.StructType([i32, i32])) == ["int32", "int32"]
    made = framework.structure_with_type(lambda _: 0, fm.to_type(Pair((f32, i32), OrderedDict(c=f32))))
    assert made == Pair((0, 0), OrderedDict(c=0))
    assert type(made.b) is OrderedDict
    with pytest.raises(ValueError, match="elements with and without names"):
        framework.structure_with_type(str, fm.StructType([i32, ("a", i32)]))


@pytest.mark.parametrize(
    ("type_", "value", "wanted"),
    [
        (INT, 1, 1),
        (fm.StructType([i32] * 3), (1, 2, 3), [1, 2, 3]),
        (NAMED, [1, 2], {"a": 1, "b": 2}),
        (NAMED, {"b": 2, "a": 1}, {"a": 1, "b": 2}),
        (NAMED, {"x": 1, "y": 2}, {"a": 1, "b": 2}),
        (fm.to_type(Pair(i32, f32)), [1, 2], Pair(1, 2)),
        (fm.FederatedType(NAMED, C), [(1, 2), Pair(3, 4)], [{"a": 1, "b": 2}, {"a": 3, "b": 4}]),
        (fm.FederatedType(NAMED, S), (1, 2), {"a": 1, "b": 2}),
        (fm.SequenceType((i32, i32)), ([1, 2], [3, 4]), [(1, 2), (3, 4)]),
        (NAMED, 5, 5),
    ],
    ids=str,
)
def test_to_structure_with_type(type_, value, wanted):
    got = framework.to_structure_with_type(value, type_)
    assert got == wanted
    assert type(got) is type(wanted)


@pytest.mark.parametrize(("type_", "value"), [(INT, [1]), (NAMED, [1]), (NAMED, [1, 2, 3]), (NAMED, [1, [2]])], ids=str)
def test_structures_that_do_not_fit(type_, value):
    with pytest.raises(ValueError, match=r"to_structure_with_type: expected a value of type .*, found"):
        framework.to_structure_with_type(value, type_)


def test_infer_cardinalities():
    cards = framework.infer_cardinalities
    floats = fm.FederatedType(f32, C)
    assert cards(None, floats) == {}
    assert cards([1.0, 2.0], floats) == {C: 2}
    assert cards((1.0, 2.0), floats) == {C: 2}
    assert cards(1.0, fm.FederatedType(f32, C, True)) == cards(1.0, fm.FederatedType(f32, S)) == cards(1, INT) == {}
    nested = fm.to_type(OrderedDict(x=floats, y=(fm.FederatedType(i32, S), floats)))
    assert cards({"y": (5, [1.0] * 3), "x": [2.0] * 3}, nested) == {C: 3}
    assert cards({"y": (5, None), "x": [2.0] * 3}, nested) == {C: 3}
    assert cards([1], fm.FederatedType(i32, S, False)) == {S: 1}
    with pytest.raises(ValueError, match=r"Conflicting cardinalities for CLIENTS: 1 vs 2 \(parameter x has 1 clients"):
        cards([[1.0], (5, [1.0, 2.0])], nested)
    for wrong in (1.0, {"a": 1.0}, {1.0}, np.ones(2)):
        with pytest.raises(TypeError, match="expected a list with one value for each client"):
            cards(wrong, floats)


def test_what_a_computation_contains():
    from fedmpi.language.tree.expressions import Lambda

    plain = fm.federated_computation(lambda x: fm.federated_sum(x), fm.FederatedType(i32, C))
    secure = fm.federated_computation(lambda x: fm.federated_secure_sum(x, 10), fm.FederatedType(i32, C))
    inside = fm.federated_computation(lambda x: secure(x), fm.FederatedType(i32, C))
    for computation, wanted in ((plain, (False, True)), (secure, (True, False)), (inside, (True, False))):
        assert framework.computation_contains(computation, lambda node: isinstance(node, Lambda))
        assert framework.computation_contains_secure_aggregation(computation) == wanted[0]
        assert framework.computation_contains_unsecure_aggregation(computation) == wanted[1]


def test_error_classes():
    for name in ("TypeNotAssignableError", "TypesNotEquivalentError", "UnexpectedTypeError"):
        assert issubclass(getattr(framework, name), TypeError)
        assert getattr(framework, name) is getattr(fm, name)
    assert issubclass(fm.ContextError, RuntimeError)
    assert issubclass(fm.ComputationReturnedNoneError, ValueError)
