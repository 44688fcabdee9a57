"""Flat structs: where their leaves stand, and what bodies see of them, compared with what Python sees."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.columns.column import pack, slot_formats
from fedmpi.local.columns.flat import SCALARS, Flat, flat_layout, flat_value, slots_of, value_of, vectors_of
from fedmpi.local.loops.compiled import CompiledFunction

F32, F64, I32 = np.float32, np.float64, np.int32
INNER = OrderedDict(count=I32, scale=F32)
TYPE = fm.to_type(
    OrderedDict(w=(F32, [2, 3]), n=I32, part=OrderedDict(b=(F64, [2]), w=(F32, [1])), few=INNER, on=np.bool_)
)
VALUE = {
    "w": np.arange(6, dtype=F32).reshape(2, 3) - 2, "n": 7, "part": {"b": [0.5, -1.5], "w": [9.0]},
    "few": {"count": 3, "scale": 0.25}, "on": True,
}  # fmt: skip


def test_one_vector_for_each_dtype():
    layout = flat_layout(TYPE)
    assert slot_formats(TYPE) == layout.formats
    assert [(str(dtype), size) for dtype, (size,) in layout.formats] == [
        ("float32", 8), ("int32", 2), ("float64", 2), ("bool", 1)
    ]  # fmt: skip
    places = [(p.group, p.start, p.stop, p.shape) for p in layout.leaves]
    assert places == [
        (0, 0, 6, (2, 3)), (1, 0, 1, ()), (2, 0, 2, (2,)), (0, 6, 7, (1,)), (1, 1, 2, ()), (0, 7, 8, ()), (3, 0, 1, ())
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "flat"),
    [
        (OrderedDict(a=F32, b=I32), False),  # scalars are best in registers
        ({f"x{i}": F32 for i in range(SCALARS)}, False),
        ({f"x{i}": F32 for i in range(SCALARS + 1)}, True),
        (OrderedDict(a=(F32, [2])), True),
        (OrderedDict(a=F32, b=OrderedDict(c=(F32, [0]))), True),
        (OrderedDict(a=(F32, [None])), False),
        (OrderedDict(a=(F32, [2]), b=fm.SequenceType(F32)), False),
        (OrderedDict(a=(F32, [2]), b=np.str_), False),
        ((F32, [2]), False),
        (OrderedDict(), False),
    ],
)
def test_which_structs_are_flat(type_, flat):
    assert (flat_layout(fm.to_type(type_)) is not None) == flat


def test_a_value_is_a_tuple_of_views():
    layout = flat_layout(TYPE)
    vectors = [np.arange(8, dtype=F32), np.array([7, 3], I32), np.array([0.5, -1.5]), np.array([True])]
    value = flat_value(layout, vectors)
    assert isinstance(value, Flat)
    assert isinstance(value[2], Flat)
    assert not isinstance(value[3], Flat)
    assert value[3] == (I32(3), F32(7))
    assert value[0].base is not None
    assert np.shares_memory(value[2][1], vectors[0])
    assert all(a is b for a, b in zip(vectors_of(value, layout), vectors, strict=True))
    plain = (value[0].copy(), value[1], tuple(value[2]), value[3], value[4])
    for made in (vectors_of(plain, layout), slots_of(plain, TYPE), [a[0] for a in pack(TYPE, [plain]).arrays]):
        assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(made, vectors, strict=True))
    assert value_of(TYPE, iter(vectors))[2][1] == 6


def several(m):
    return (
        m.w[1], m["w"][0], m[0][:, 1], m.n, m["n"] + m[1], m.part.b, m["part"]["w"], m.part[0], m.few.count,
        m.few["scale"], m.on, m[-1],
    )  # fmt: skip


def unpacked(m):
    w, n, part, _, on = m
    b, inner = part
    return w.sum(), n, b[0], inner[0], on


def sliced(m):
    first = m[:2]
    return first[0][0], first[1]


def chosen(m):
    part = m.part
    if m.on:
        part = {"b": part["b"] + 1, "w": part["w"]}
    return part["b"] * 2


def helped(m):
    return _second(m.part), len(m), len(m.part)


def _second(part):
    return part.b[1]


def replaced(m):
    for i in range(3):
        m = {"w": m["w"] + 1, "n": m["n"] + i, "part": m["part"], "few": m["few"], "on": not m["on"]}
    return m


@pytest.mark.parametrize(
    "function", [several, unpacked, sliced, chosen, helped, replaced], ids=lambda f: f.__name__
)  # fmt: skip
def test_a_body_sees_the_struct(function):
    result = {"result": TYPE} if function is replaced else {}
    body = fm.numba_computation(TYPE, **result)(function)
    found = body(VALUE)
    with fm.debug():
        wanted = body(VALUE)
    _same(found, wanted)


def _same(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert list(found) == list(wanted)
        found, wanted = list(found.values()), list(wanted.values())
    if isinstance(wanted, list | tuple):
        for one, other in zip(found, wanted, strict=True):
            _same(one, other)
    else:
        assert np.asarray(found).dtype == np.asarray(wanted).dtype
        assert np.array_equal(found, wanted)


UNIFORM = fm.to_type([("a", (F32, [2])), ("b", (F32, [3])), ("c", (F32, [0]))])


def summed(m, at):
    total = F32(0)
    for leaf in m:
        total += leaf.sum()
    return total, m[at].size, m[-1].size


def test_a_loop_over_elements_of_one_kind():
    body = fm.numba_computation(UNIFORM, I32)(summed)
    value = [[1.0, 2.0], [3.0, 4.0, 5.0], []]
    assert body(value, 1) == (F32(15), 3, 0)
    assert body(value, -3) == (F32(15), 2, 0)
    with pytest.raises(IndexError):
        body(value, 3)


class Line(NamedTuple):
    b: Any
    w: Any


PAIR = fm.to_type(OrderedDict(w=(F32, [2]), b=F32))


@pytest.mark.parametrize(
    "body",
    [
        lambda m: {"b": m.b, "w": m.w},
        lambda m: {"b": m.b, "w": m.w * F32(1)},
        lambda m: Line(m.b, m.w[::-1][::-1]),
        lambda m: (m.w.copy(), m.b),
        lambda m: {"w": m.w.astype(F64), "b": F64(m.b)},
        lambda m: m,
    ],
    ids=["read-only", "own", "not in order", "tuple", "wider", "as it is"],
)
def test_a_body_returns_the_struct(body):
    given = np.array([1.0, 2.0], F32)
    computation = fm.numba_computation(PAIR, result=PAIR)(body)
    result = computation({"w": given, "b": 3.0})
    assert list(result) == ["w", "b"]
    assert result["b"] == 3
    assert result["w"].tolist() == [1, 2]
    result["w"][:] = 0  # is the caller's own
    assert given.tolist() == [1, 2]


def test_leaves_that_are_one_array():
    """Where they stand as the struct has them, their memory is the struct's; elsewhere they are copied."""
    two = fm.to_type(OrderedDict(a=(F32, [2]), b=(F32, [2])))
    for body, wanted in (
        (lambda n: _halves(n, 0, 2), [0, 1, 2, 3]),
        (lambda n: _halves(n, 2, 0), [2, 3, 0, 1]),
        (lambda n: _halves(n, 0, 0), [0, 1, 0, 1]),
        (lambda n: _halves(n, 0, 3), [0, 1, 3, 4]),
    ):
        result = fm.numba_computation(I32, result=two)(body)(5)
        assert [*result["a"], *result["b"]] == wanted
        result["a"][:] = 9
        assert [*result["b"]] == wanted[2:]


def _halves(n, first, second):
    array = np.arange(n).astype(F32)
    return {"a": array[first : first + 2], "b": array[second : second + 2]}


def test_shapes_and_dtypes_that_do_not_fit():
    with pytest.raises(TypeError, match=r"expected float32\[2\]|w"):
        fm.numba_computation(PAIR, result=PAIR)(lambda m: {"w": m.w[:1], "b": m.b})({"w": [1, 2], "b": 3})
    with pytest.raises(TypeError, match="expected <w=float32\\[2\\],b=float32>"):
        fm.numba_computation(PAIR, result=PAIR)(lambda m: {"w": m.w})
    with pytest.raises(TypeError, match="expected float32"):
        fm.numba_computation(PAIR, result=PAIR)(lambda m: {"w": m.w, "b": 1j})


def test_other_names_and_nesting_of_the_same_numbers():
    """A value can be assigned where the elements have no names; where names stand in another order they decide."""
    plain = fm.to_type([(F32, [2]), F32])
    read = fm.numba_computation(PAIR)(lambda m: m.w[1] + m.b)
    outer = fm.federated_computation(lambda m: read(m), plain)
    assert outer([[1.0, 2.0], 3.0]) == 5
    nested = fm.to_type(OrderedDict(x=OrderedDict(b=F32, w=(F32, [2]))))
    turned = fm.numba_computation(PAIR, result=nested)(lambda m: {"x": m})
    assert turned({"w": [1.0, 2.0], "b": 3.0})["x"]["w"].tolist() == [1, 2]


@pytest.mark.parametrize("leaves", [2, 40])
def test_the_text_of_a_loop_is_as_long_for_many_leaves(leaves):
    from fedmpi.runtime.plan.plan import build
    from fedmpi.runtime.show.code_text import loop_text

    model = fm.to_type({f"w{i}": (F32, [2]) for i in range(leaves)})
    keep = fm.federated_computation(lambda m, x: m, model, F32)
    local = fm.federated_computation(lambda m, q: fm.sequence_reduce(q, m, keep), model, fm.SequenceType(F32))
    program = fm.federated_computation(
        lambda m, d: fm.federated_mean(fm.federated_map(local, [fm.federated_broadcast(m), d])),
        fm.type_at_server(model), fm.type_at_clients(fm.SequenceType(F32)),
    )  # fmt: skip
    (stage,) = [s for s in build(program).stages if s.has_clients]
    text = loop_text(stage)
    assert len([line for line in text.splitlines() if not line.startswith("#")]) < 20
    assert len(build(program).stages[0].layout.blocks[0]) == 1
    assert len(stage.layout.leaves[0]) == leaves


def test_a_struct_that_is_made_of_elements_is_put_together_once():
    """What a program sets together goes into one vector; the places are those of the type."""
    make = fm.federated_computation(lambda a, b: OrderedDict(x=a, y=OrderedDict(z=b, w=a)), (F32, [2]), F32)
    local = fm.federated_computation(
        lambda a, q: fm.sequence_reduce(q, make(a, 1.0), fm.federated_computation(lambda s, x: s, _made(), F32)),
        (F32, [2]), fm.SequenceType(F32),
    )  # fmt: skip
    found = local([5.0, 6.0], [1.0])
    assert found["x"].tolist() == found["y"]["w"].tolist() == [5, 6]
    assert found["y"]["z"] == 1
    found["x"][:] = 0
    assert found["y"]["w"].tolist() == [5, 6]


def _made():
    return fm.to_type(OrderedDict(x=(F32, [2]), y=OrderedDict(z=F32, w=(F32, [2]))))


def test_values_between_functions_are_not_taken_apart(monkeypatch):
    """A compiled function's result goes into the next one as the vectors that it is."""
    seen = []
    call = CompiledFunction.__call__

    def spy(self, argument, captures):
        seen.append(argument)
        return call(self, argument, captures)

    monkeypatch.setattr(CompiledFunction, "__call__", spy)
    step = fm.numba_computation(PAIR, result=PAIR)(lambda m: {"w": m.w + 1, "b": m.b})
    twice = fm.federated_computation(lambda m: step(step(m)), PAIR)
    twice({"w": [1.0, 2.0], "b": 3.0})
    assert isinstance(seen[1], Flat)


def test_names_deep_inside_decide_and_not_their_places():
    """Elements of one shape that stand in another order, three structs deep."""
    vector = (np.float32, [2])
    given = fm.to_type({"m": {"n": {"x": vector, "y": vector}}})
    wanted = fm.to_type({"m": {"n": {"y": vector, "x": vector}}})
    swap = fm.numba_computation(lambda v: v, given, result=wanted)
    value = {"m": {"n": {"x": np.ones(2, np.float32), "y": np.zeros(2, np.float32)}}}
    found = swap(value)["m"]["n"]
    assert (found["x"].tolist(), found["y"].tolist()) == ([1, 1], [0, 0])
