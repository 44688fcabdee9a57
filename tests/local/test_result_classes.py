"""Results in classes of the user's: made again of their elements, whatever the constructor does, or refused."""

from __future__ import annotations

import abc
import collections
import dataclasses
import re
import types
from dataclasses import InitVar, dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest

import fedmpi as fm

f32: Any = np.float32


@dataclass
class NotGiven:
    a: np.float32
    b: np.float32 = field(init=False)


@dataclass(frozen=True, slots=True)
class NotGivenFrozen:
    a: np.float32
    b: np.float32 = field(init=False, default=9.0)


@dataclass
class Scaled:
    """Its constructor changes what it is given."""

    a: np.float32
    b: np.float32 = field(default_factory=lambda: 9.0, kw_only=True)
    scale: InitVar[float] = 2.0
    count: ClassVar[int] = 0

    def __post_init__(self, scale):
        self.a = self.a * scale
        self.where = "here"


@dataclass
class Derived(NotGiven):
    c: np.float32 = 0.0


class Swapping:
    def __init__(self, a, b):
        self.a, self.b = b, a


@dataclass(init=False)
class OwnConstructor(Swapping):
    a: np.float32
    b: np.float32


class Doubling(NamedTuple("Doubling", [("a", np.float32), ("b", np.float32)])):
    def __new__(cls, a):
        return super().__new__(cls, a, a)


class Table(collections.abc.Mapping):
    def __init__(self, items):
        self.all = items

    def __getitem__(self, name):
        return self.all[name]

    def __iter__(self):
        return iter(self.all)

    def __len__(self):
        return len(self.all)


@pytest.mark.parametrize(
    "spec",
    [
        *(NotGiven, NotGivenFrozen, Scaled, Derived, OwnConstructor, Doubling(f32), Table({"a": f32, "b": f32})),
        *(collections.defaultdict(int, a=f32, b=f32), collections.UserDict(a=f32), types.MappingProxyType({"a": f32})),
    ],
    ids=lambda spec: getattr(spec, "__name__", type(spec).__name__),
)
@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_a_result_has_the_elements_that_the_program_says(spec, context):
    type_ = fm.to_type(spec)
    same = fm.federated_computation(lambda x: x, type_)
    mapped = fm.federated_computation(
        lambda x: fm.federated_map(fm.python_computation(lambda v: v, type_, result=type_), x), fm.type_at_clients(spec)
    )
    numbers = [1.0, 2.0, 3.0][: len(type_)]
    with context():
        for result in (same(numbers), *mapped([numbers, numbers])):
            assert type(result) is type_.python_container
            assert [getattr(result, n) if hasattr(result, n) else result[n] for n in type_.fields()] == numbers
            again = same(result)  # as an argument
            assert type(again) is type(result)
    assert type_.python_container is not Scaled or result.where == "here"


@dataclass
class NeedsMore:
    a: np.float32
    more: InitVar[int]


@dataclass(init=False)
class FromFile:
    a: np.float32

    def __init__(self, path):
        self.a = float(path)


class Abstract(abc.ABC):
    @abc.abstractmethod
    def method(self): ...


@dataclass
class NotDone(Abstract):
    a: np.float32


class Labelled(list):
    def __init__(self, label, items=()):
        super().__init__(items)


class Backwards(list):
    def __init__(self, items):
        super().__init__(reversed(list(items)))


class ByKeyword(Table):
    def __init__(self, **items):
        super().__init__(items)


REFUSED = [
    (NeedsMore, "class NeedsMore cannot be made again of its elements (a): NeedsMore(…): missing a required argument"),
    (FromFile, "class FromFile cannot be made again of its elements (a): FromFile(…): missing a required argument"),
    (NotDone, "class NotDone cannot be made again of its elements (a): it is abstract"),
    (Labelled("", [f32]), "class Labelled cannot be made again of its elements (element 0): its constructor makes"),
    (Backwards([f32, f32]), "class Backwards cannot be made again of its elements (element 0, element 1): its"),
    (ByKeyword(a=f32), "class ByKeyword cannot be made again of its elements (a): TypeError: "),
]


@pytest.mark.parametrize(("spec", "text"), REFUSED, ids=lambda spec: getattr(spec, "__name__", type(spec).__name__))
def test_what_cannot_be_made_again_is_refused_as_a_type(spec, text):
    uses = [
        lambda: fm.to_type(spec),
        lambda: fm.federated_computation(lambda x: x, spec),
        lambda: fm.type_at_clients(spec),
        lambda: fm.python_computation(lambda x: x, f32, result=[spec]),
        lambda: fm.numba_computation(lambda x: x, fm.SequenceType(spec)),
    ]
    for use in uses:
        with pytest.raises(TypeError, match=re.escape(text)) as caught:
            use()
        assert re.search(r"\n  at test_result_classes\.py:\d+\n  hint: use a class", str(caught.value))


def test_a_body_that_returns_what_cannot_be_made_again():
    with pytest.raises(TypeError, match=r"class Labelled cannot be made again.*\n  at test_result_classes.py:\d+\n"):
        fm.federated_computation(lambda x: Labelled("a", [x]), f32)


def test_a_record_takes_the_names_of_its_fields_alone():
    with pytest.raises(TypeError, match=r"class NotGiven cannot .* its fields are a, b\n  at test_result_classes"):
        fm.StructWithPythonType([("a", f32), ("c", f32)], NotGiven)
    with pytest.raises(TypeError, match=r"class dict cannot .* a mapping has names for all of them"):
        fm.StructWithPythonType([("a", f32), f32], dict)


def test_classes_of_attrs():
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Model:
        _rate: Any
        steps: Any = attrs.field(init=False)
        weight: Any = attrs.field(alias="w", converter=lambda w: w if isinstance(w, type) else -w)

    model = Model(f32, f32)
    model.steps = f32
    result = fm.federated_computation(lambda x: x, model)([1.0, 2.0, 3.0])
    assert (type(result), result._rate, result.steps, result.weight) == (Model, 1.0, 2.0, 3.0)


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
@pytest.mark.parametrize("place", [lambda t: t, fm.type_at_server, fm.type_at_clients])
def test_a_struct_with_some_names_names_the_computation_and_both_lines(context, place):
    some = fm.StructType([("a", f32), (None, f32)])
    same = fm.federated_computation(lambda x: x, place(some))
    text = (
        r"^lambda \(test_result_classes.py:\d+\): <a=float32,float32> has elements .*\n  at test_result.*\n  hint: name"
    )
    with context(), pytest.raises(ValueError, match=text):
        same([1.0, 2.0])
    inside = fm.federated_computation(lambda x: same(x)[0], place(some))  # where it is not given back
    with context():
        assert inside([[1.0, 2.0]] if place is fm.type_at_clients else [1.0, 2.0]) in (1.0, [1.0])


def test_dataclasses_that_are_their_fields_need_no_class_of_their_own():
    made = dataclasses.make_dataclass("Made", [("x", np.float32), ("len", np.float32)])
    result = fm.numba_computation(lambda m: m, made)({"x": 1.0, "len": 2.0})
    assert (result.x, result.len) == (1.0, 2.0)
