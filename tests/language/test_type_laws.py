"""Assignability: the table of language.md, 1.5, and its laws."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fedmpi.language as fm
from fedmpi.language.checking import check
from tests.nightly import examples

C, S = fm.CLIENTS, fm.SERVER
Seq, Fed, Fn, St, T = fm.SequenceType, fm.FederatedType, fm.FunctionType, fm.StructType, fm.TensorType
AB, BA, PLAIN = St([("a", np.int32), ("b", np.int32)]), St([("b", np.int32), ("a", np.int32)]), St([np.int32, np.int32])


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        (np.int32, np.int32, True),
        (np.int64, np.int32, False),
        (np.float32, np.int32, False),
        ((np.int32, [None]), (np.int32, [10]), True),
        ((np.int32, [10]), (np.int32, [None]), False),
        ((np.int32, [None, 3]), (np.int32, [2, None]), False),
        ((np.int32, [None, 3]), (np.int32, [2, 3]), True),
        (np.int32, (np.int32, [1]), False),
        (T(np.int32, None), (np.int32, [1, None]), True),
        ((np.int32, [None]), T(np.int32, None), False),
        (T(np.int32, None), T(np.int32, None), True),
        (AB, PLAIN, True),
        (PLAIN, AB, False),
        (AB, BA, False),
        (AB, St([np.int32]), False),
        ([np.int32], (np.int32,), True),
        (Seq((np.int32, [None])), Seq((np.int32, [3])), True),
        (Seq(PLAIN), Seq(AB), False),
        (Fn(None, np.int32), Fn(None, np.int32), True),
        (Fn(None, np.int32), Fn(np.int32, np.int32), False),
        (Fn(PLAIN, AB), Fn(AB, PLAIN), True),  # the parameter the other way round
        (Fn(AB, AB), Fn(PLAIN, AB), False),
        (Fn(AB, PLAIN), Fn(AB, AB), False),
        (Fed(np.int32, C), Fed(np.int32, C, True), True),
        (Fed(np.int32, C, True), Fed(np.int32, C), False),
        (Fed(np.int32, C), Fed(np.int32, S), False),
        (np.int32, Fed(np.int32, S), False),
        (Fed(np.int32, S), np.int32, False),
        (Fed(AB, C), Fed(PLAIN, C), True),
        (fm.PlacementType(), fm.PlacementType(), True),
        (fm.PlacementType(), np.int32, False),
        (np.int32, fm.AbstractType("T"), False),
    ],
)
def test_assignability(target, source, expected):
    assert fm.to_type(target).is_assignable_from(fm.to_type(source)) is expected


def test_errors():
    with pytest.raises(fm.TypeNotAssignableError, match=r"^Expected int32 to be assignable to int64\.$"):
        T(np.int64).check_assignable_from(T(np.int32))
    with pytest.raises(fm.TypesNotEquivalentError, match=r"^Expected int32\[\?\] to be equivalent to int32\[3\]\.$"):
        T(np.int32, [None]).check_equivalent_to(T(np.int32, [3]))
    with pytest.raises(TypeError, match="T is a type variable: nothing can be assigned to it"):
        fm.AbstractType("T").is_assignable_from(T(np.int32))
    with pytest.raises(TypeError, match=r"source must be a type, found .*\n.*\n  hint: fm.to_type makes one"):
        T(np.int32).is_assignable_from(np.int32)
    T(np.int32, [None]).check_assignable_from(T(np.int32, [3]))
    St([np.int32]).check_equivalent_to(fm.to_type([np.int32]))
    for error in (fm.TypeNotAssignableError, fm.TypesNotEquivalentError, fm.UnexpectedTypeError):
        assert issubclass(error, TypeError)


law = settings(deadline=None, max_examples=examples(100, 3000))  # other ranks and tests may have the cores

# Few dtypes, sizes and names, so that related types are common.
tensors = st.builds(
    T,
    st.sampled_from([np.int32, np.float32]),
    st.none() | st.lists(st.sampled_from([None, 2]), max_size=2),
)
names = st.sampled_from([None, "a", "b"])


def structs(elements):
    pairs = st.lists(st.tuples(names, elements), max_size=3, unique_by=lambda pair: pair[0] or object())
    return pairs.flatmap(lambda p: st.sampled_from([St(p), fm.StructWithPythonType(p, list)]))


members = st.recursive(tensors, structs, max_leaves=4)
data = st.recursive(tensors | members.map(Seq), structs, max_leaves=4)
types = st.recursive(
    data | st.builds(Fed, data, st.sampled_from([C, S]), st.booleans()) | st.just(fm.PlacementType()),
    lambda inner: structs(inner) | st.builds(Fn, st.none() | inner, inner),
    max_leaves=4,
)


def weakened(type_, draw):
    """A type that ``type_`` is assignable to, often another one."""
    change = draw(st.booleans())
    match type_:
        case fm.TensorType(dtype, shape):
            if shape is None or not change:
                return T(dtype, None if change else shape)
            return T(dtype, [draw(st.sampled_from([None, size])) for size in shape])
        case fm.StructType():
            free = [n for n in "abcd" if n not in type_.fields()]
            return St([(n or (free.pop() if change else None), weakened(e, draw)) for n, e in type_.items()])
        case fm.SequenceType(element):
            return Seq(weakened(element, draw))
        case fm.FederatedType(member, placement, all_equal):
            return Fed(weakened(member, draw), placement, all_equal and not change)
        case fm.FunctionType(parameter, result):
            return Fn(parameter, weakened(result, draw))
    return type_


@law
@given(types)
def test_reflexive(t):
    assert t.is_assignable_from(t)
    assert t.is_equivalent_to(t)


@law
@given(types, types)
def test_antisymmetric_up_to_equivalence(a, b):
    both = a.is_assignable_from(b) and b.is_assignable_from(a)
    assert both == a.is_equivalent_to(b) == b.is_equivalent_to(a)
    if both:
        assert str(a) == str(b)  # they differ at most in the containers of structs


@law
@given(types, st.data())
def test_transitive(a, source):
    b = weakened(a, source.draw)
    c = weakened(b, source.draw)
    assert b.is_assignable_from(a)
    assert c.is_assignable_from(b)
    assert c.is_assignable_from(a)


@law
@given(types, types, types)
def test_transitive_for_any_three(a, b, c):
    if c.is_assignable_from(b) and b.is_assignable_from(a):
        assert c.is_assignable_from(a)


@law
@given(types, types)
def test_functions_turn_their_parameter_round(a, b):
    result = T(np.bool_)
    assert Fn(a, result).is_assignable_from(Fn(b, result)) == b.is_assignable_from(a)
    assert Fn(None, a).is_assignable_from(Fn(None, b)) == a.is_assignable_from(b)


@law
@given(data, data)
def test_a_call_accepts_what_is_assignable(wanted, given_):
    function = fm.federated_computation(lambda x: x, wanted)
    if wanted.is_assignable_from(given_):
        made = fm.federated_computation(lambda x: function(x), given_)
        check(made.expression)
        assert made.type_signature is Fn(given_, wanted)
    else:
        with pytest.raises(fm.TypeNotAssignableError):
            fm.federated_computation(lambda x: function(x), given_)


@law
@given(types)
def test_text_and_identity(t):
    assert t.formatted_representation().replace("\n", "").replace("  ", "") == str(t)
    assert fm.to_type(t) is t


@law
@given(types)
def test_interning(t):
    assert pickle.loads(pickle.dumps(t)) is copy.deepcopy(t) is copy.copy(t) is t
    assert rebuilt(t) is t
    assert t.is_identical_to(rebuilt(t))


@law
@given(types, types)
def test_equality_and_texts(a, b):
    assert (a == b) == (a is b) == (repr(a) == repr(b))
    assert (hash(a) == hash(b)) or a is not b
    if a is b:
        assert a.is_equivalent_to(b)
    # The text says all but the containers: types of one text differ in nothing else.
    assert (str(a) == str(b)) == (bare(a) is bare(b))


@law
@given(types, types, types)
def test_equivalence_is_an_equivalence(a, b, c):
    assert a.is_equivalent_to(b) == b.is_equivalent_to(a)
    assert a.is_equivalent_to(bare(a))
    if a.is_equivalent_to(b):
        assert b.is_equivalent_to(c) == a.is_equivalent_to(c)
        assert c.is_assignable_from(a) == c.is_assignable_from(b)
        assert a.is_assignable_from(c) == b.is_assignable_from(c)


@law
@given(types, types)
def test_the_checks_raise_where_the_questions_say_no(a, b):
    for wanted, ask, insist, error in [
        ("assignable to", a.is_assignable_from, a.check_assignable_from, fm.TypeNotAssignableError),
        ("equivalent to", a.is_equivalent_to, a.check_equivalent_to, fm.TypesNotEquivalentError),
    ]:
        if ask(b):
            insist(b)
        else:
            with pytest.raises(error) as caught:
                insist(b)
            left, right = (b, a) if wanted == "assignable to" else (a, b)
            assert str(caught.value) == f"Expected {left} to be {wanted} {right}."


@law
@given(st.lists(st.tuples(names, members, members), min_size=1, max_size=3, unique_by=lambda part: part[0] or object()))
def test_structs_are_assignable_part_by_part(parts):
    target, source = St([(n, t) for n, t, _ in parts]), St([(n, s) for n, _, s in parts])
    assert target.is_assignable_from(source) == all(t.is_assignable_from(s) for _, t, s in parts)
    unnamed = St([s for _, _, s in parts])
    assert target.is_assignable_from(unnamed) == target.is_assignable_from(source)


@law
@given(types)
def test_formatted_representation(t):
    lines = t.formatted_representation().split("\n")
    assert all(line.strip() and line == line.rstrip() for line in lines)
    assert len(lines) == 1 + sum(len(s) + 1 for s in every_part(t) if isinstance(s, fm.StructType) and len(s))
    depth = 0
    for line in lines:
        depth -= line.lstrip().startswith(">")
        assert len(line) - len(line.lstrip()) == 2 * depth
        depth += line.endswith("<")
    assert depth == 0


def every_part(t):
    yield t
    for child in t.children():
        yield from every_part(child)


def rebuilt(t):
    """The same type, made again from its parts."""
    match t:
        case fm.TensorType(dtype, shape):
            return T(dtype.type, None if shape is None else list(shape))
        case fm.StructType():
            items = [(name, rebuilt(element)) for name, element in t.items()]
            return St(items) if t.python_container is None else fm.StructWithPythonType(items, t.python_container)
        case fm.SequenceType(element):
            return Seq(rebuilt(element))
        case fm.FederatedType(member, placement, all_equal):
            return Fed(rebuilt(member), placement, all_equal)
        case fm.FunctionType(parameter, result):
            return Fn(None if parameter is None else rebuilt(parameter), rebuilt(result))
    return fm.PlacementType()


def bare(t):
    """The type without the containers of its structs."""
    match t:
        case fm.StructType():
            return St([(name, bare(element)) for name, element in t.items()])
        case fm.SequenceType(element):
            return Seq(bare(element))
        case fm.FederatedType(member, placement, all_equal):
            return Fed(bare(member), placement, all_equal)
        case fm.FunctionType(parameter, result):
            return Fn(None if parameter is None else bare(parameter), bare(result))
    return t
