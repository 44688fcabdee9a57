"""The types of the language.

A type is immutable and interned: the same constructor arguments give the same object, in copies and pickles too, so
``==`` is ``is``.  ``str`` of a type is the notation of language.md, section 1:

    float32[?,784]   <x=float32,y=int32>   T*   (T -> U)   {T}@CLIENTS   T@SERVER
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from fedmpi.language.errors import (
    ElementIndexError,
    NoSuchElementError,
    TypeNotAssignableError,
    TypesNotEquivalentError,
    TypingError,
    reporting,
)
from fedmpi.language.types import containers
from fedmpi.language.types.dtypes import Shape, to_dtype, to_shape
from fedmpi.language.types.placements import PlacementLiteral

T = TypeVar("T", bound="Type")
TypeSpec = Any  # whatever `to_type` takes: types, dtypes, pairs of a dtype and a shape, Python containers of these


class _Methods:
    """What types can do besides, each in a file of its own that matches on the classes below.

    `fedmpi.language.types` enters them, so that no arrow runs upward.
    """

    compact: Callable[[Type], str]
    formatted: Callable[[Type], str]
    constructor: Callable[[Type], str]
    assignable: Callable[[Type, Type], bool]
    contains: Callable[[Type, Any], bool]
    read: Callable[[TypeSpec], Type]


methods = _Methods()

# A struct's elements are its attributes, so these cannot be their names.
RESERVED_NAMES = frozenset(
    {
        *("items", "fields", "children", "python_container", "from_proto", "to_proto", "_asdict"),
        *("compact_representation", "formatted_representation", "is_identical_to"),
        *("check_assignable_from", "is_assignable_from", "check_equivalent_to", "is_equivalent_to"),
    }
)

_INTERNED: dict[tuple[Any, ...], Any] = {}


def _interned(cls: type[T], *values: Any) -> T:
    """Return the one object of ``cls`` with these values of its ``__match_args__``, making it at first use."""
    key = (cls, *values)
    found: T | None = _INTERNED.get(key)
    if found is None:
        made = object.__new__(cls)
        for name, value in zip(cls.__match_args__, values, strict=True):
            object.__setattr__(made, name, value)
        found = _INTERNED.setdefault(key, made)
    return found


class Type:
    """What all types can do."""

    __slots__ = ()
    __match_args__: ClassVar[tuple[str, ...]] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, name) for name in self.__match_args__)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot delete {name!r}")

    def __str__(self) -> str:
        return methods.compact(self)

    def __repr__(self) -> str:
        return methods.constructor(self)

    def compact_representation(self) -> str:
        """Return the type in the notation of the language, on one line."""
        return methods.compact(self)

    def formatted_representation(self) -> str:
        """Return the type in the notation of the language, each element of a struct on its own line."""
        return methods.formatted(self)

    def children(self) -> tuple[Type, ...]:
        """Return the types that this one is made of."""
        return _children(self)

    def is_assignable_from(self, source: Type) -> bool:
        """Say whether a value of type ``source`` may stand where this type is wanted."""
        with reporting("is_assignable_from"):
            if not isinstance(source, Type):
                raise TypingError(f"source must be a type, found {source!r}", "fm.to_type makes one")
            return methods.assignable(self, source)

    def check_assignable_from(self, source: Type) -> None:
        """Raise `TypeNotAssignableError` if a value of type ``source`` may not stand where this type is wanted."""
        if not self.is_assignable_from(source):
            raise TypeNotAssignableError(f"Expected {source} to be assignable to {self}.")

    def is_equivalent_to(self, other: Type) -> bool:
        """Say whether each type is assignable to the other."""
        return self.is_assignable_from(other) and other.is_assignable_from(self)

    def check_equivalent_to(self, other: Type) -> None:
        """Raise `TypesNotEquivalentError` if the types are not assignable to each other."""
        if not self.is_equivalent_to(other):
            raise TypesNotEquivalentError(f"Expected {self} to be equivalent to {other}.")

    def is_identical_to(self, other: Type) -> bool:
        """Say whether the types are the same, the Python containers of structs included."""
        return self is other


class TensorType(Type):
    """An array of a dtype and a shape.

    The shape () is a scalar's; None in a shape is an unknown size, None as the shape an unknown rank.
    """

    __slots__ = ("dtype", "shape")
    __match_args__ = ("dtype", "shape")
    dtype: np.dtype[Any]
    shape: Shape | None

    def __new__(cls, dtype: Any, shape: Iterable[int | None] | None = ()) -> TensorType:
        """Raise `UnsupportedValueError` for a dtype, and `TypingError` for a shape, that the language does not have."""
        with reporting("TensorType"):
            return _interned(cls, to_dtype(dtype), None if shape is None else to_shape(shape))


class StructType(Type):
    """A sequence of elements, each with or without a name; ``t[0]``, ``t["name"]`` and ``t.name`` give their types."""

    # Mangled (`_StructType__…`), because any other string may be the name of an element.
    __slots__ = ("__elements", "__index", "__items")
    __items: tuple[tuple[str | None, Type], ...]
    __elements: tuple[Type, ...]
    __index: dict[str, int]

    def __new__(cls, elements: Any, *, convert: bool = True) -> StructType:
        """Take an iterable of types or pairs (name or None, type), or a mapping.

        Raises `TypingError` for a name that comes twice or is reserved.
        """
        with reporting("StructType"):
            return cls._of(struct_items(elements, convert))

    @classmethod
    def _of(cls: type[T], items: tuple[tuple[str | None, Type], ...], *more: Any) -> T:
        key = (cls, items, *more)
        found: T | None = _INTERNED.get(key)
        if found is None:
            if more:
                containers.check_container(more[0], [name for name, _ in items])
            made = object.__new__(cls)
            object.__setattr__(made, "_StructType__items", items)
            object.__setattr__(made, "_StructType__elements", tuple(element for _, element in items))
            object.__setattr__(made, "_StructType__index", {n: i for i, (n, _) in enumerate(items) if n is not None})
            if more:
                object.__setattr__(made, "_StructWithPythonType__container", more[0])
            found = _INTERNED.setdefault(key, made)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return StructType, (self.__items,)

    def items(self) -> tuple[tuple[str | None, Type], ...]:
        """Return the elements as pairs of a name, or None, and a type."""
        return self.__items

    def fields(self) -> list[str]:
        """Return the names of the elements that have one, in order."""
        return list(self.__index)

    @property
    def python_container(self) -> type | None:
        """The Python class that such a value comes back as, if one was recorded."""
        return None

    def __len__(self) -> int:
        return len(self.__items)

    def __iter__(self) -> Iterator[Type]:
        return iter(self.__elements)

    @overload
    def __getitem__(self, key: int | str) -> Type: ...
    @overload
    def __getitem__(self, key: slice) -> tuple[Type, ...]: ...
    def __getitem__(self, key: int | str | slice) -> Type | tuple[Type, ...]:
        if isinstance(key, str):
            return self.__getattr__(key)
        if isinstance(key, slice):
            return tuple(self)[key]
        if not 0 <= key < len(self):
            with reporting("[]"):
                raise ElementIndexError(f"the index must be 0 or more and below {len(self)}, found {key} for {self}")
        return self.__items[key][1]

    def __getattr__(self, name: str) -> Type:
        try:
            return self.__items[self.__index[name]][1]
        except KeyError:
            with reporting("element"):
                raise NoSuchElementError(no_such_element(self, name)) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.__index]


class StructWithPythonType(StructType):
    """A struct whose values come back as ``container_type`` (list, tuple, dict, a named tuple, a dataclass, …)."""

    __slots__ = ("__container",)
    __container: type

    def __new__(cls, elements: Any, container_type: type) -> StructWithPythonType:
        """Raise as `StructType` does."""
        with reporting("StructWithPythonType"):
            if not isinstance(container_type, type):
                raise TypingError(f"container_type must be a class, found {container_type!r}")
            return cls._of(struct_items(elements), container_type)

    def __reduce__(self) -> tuple[Any, ...]:
        return StructWithPythonType, (self.items(), self.__container)

    @property
    def python_container(self) -> type:
        """The Python class that such a value comes back as."""
        return self.__container


class SequenceType(Type):
    """Any number of values of one type, in order, such as the batches of a client."""

    __slots__ = ("element",)
    __match_args__ = ("element",)
    element: Type

    def __new__(cls, element: TypeSpec) -> SequenceType:
        """Raise `TypingError` if the element contains a federated value, a function or a sequence."""
        with reporting("SequenceType"):
            made = _to_type(element)
            if methods.contains(made, (FederatedType, FunctionType, SequenceType)):
                raise TypingError(f"element must hold no federated value, function or sequence, found {made}")
            return _interned(cls, _tuples_for_lists(made))


class FunctionType(Type):
    """A function from ``parameter`` (None: it takes nothing) to ``result``."""

    __slots__ = ("parameter", "result")
    __match_args__ = ("parameter", "result")
    parameter: Type | None
    result: Type

    def __new__(cls, parameter: TypeSpec | None, result: TypeSpec) -> FunctionType:
        """Raise `TypingError` if ``result`` is no type."""
        with reporting("FunctionType"):
            return _interned(cls, None if parameter is None else _to_type(parameter), _to_type(result))


class AbstractType(Type):
    """A type variable, such as T in the signature of an operator."""

    __slots__ = ("label",)
    __match_args__ = ("label",)
    label: str

    def __new__(cls, label: str) -> AbstractType:
        """Raise `TypingError` if ``label`` is no text."""
        with reporting("AbstractType"):
            if not isinstance(label, str):
                raise TypingError(f"label must be a str, found {label!r}")
            return _interned(cls, label)


class PlacementType(Type):
    """The type of placements."""

    __slots__ = ()

    def __new__(cls) -> PlacementType:
        """Return the one placement type."""
        return _interned(cls)


class FederatedType(Type):
    """A ``member`` at every place of a placement; with ``all_equal`` the same one at each."""

    __slots__ = ("all_equal", "member", "placement")
    __match_args__ = ("member", "placement", "all_equal")
    member: Type
    placement: PlacementLiteral
    all_equal: bool

    def __new__(cls, member: TypeSpec, placement: PlacementLiteral, all_equal: bool | None = None) -> FederatedType:
        """Raise `TypingError` if the member contains a federated value or a function."""
        with reporting("FederatedType"):
            if not isinstance(placement, PlacementLiteral):
                raise TypingError(f"placement must be fm.CLIENTS or fm.SERVER, found {placement!r}")
            made = _to_type(member)
            if methods.contains(made, (FederatedType, FunctionType)):
                raise TypingError(f"member must hold no federated value and no function, found {made}")
            equal = placement.default_all_equal if all_equal is None else bool(all_equal)
            return _interned(cls, made, placement, equal)


def _children(type_: Type) -> tuple[Type, ...]:
    match type_:
        case StructType():
            return tuple(type_)
        case SequenceType(element):
            return (element,)
        case FunctionType(None, result):
            return (result,)
        case FunctionType(Type() as parameter, result):
            return (parameter, result)
        case FederatedType(member):
            return (member,)
    return ()


def _to_type(spec: TypeSpec) -> Type:
    return spec if isinstance(spec, Type) else methods.read(spec)


def no_such_element(struct: Type, name: str) -> str:
    """Return what an error says of a name that no element has; ``struct`` may be placed."""
    inner = struct.member if isinstance(struct, FederatedType) else struct
    names = inner.fields() if isinstance(inner, StructType) else []
    return f"{struct} has no element named {name!r}; it has {', '.join(names) or 'no names'}"


def is_named(element: Any) -> bool:
    """Say whether ``element`` is a pair of a name, or None, and something."""
    return type(element) in (tuple, list) and len(element) == 2 and isinstance(element[0], str | None)


def struct_items(elements: Any, convert: bool = True) -> tuple[tuple[str | None, Type], ...]:
    """Return the elements of a struct type; raise `TypingError` for a name that comes twice or is reserved."""
    if hasattr(elements, "_asdict"):
        elements = elements._asdict()
    if isinstance(elements, Mapping):
        elements = list(elements.items())
    elif is_named(elements) and elements[0] is not None:
        elements = [elements]
    if not isinstance(elements, Iterable):
        raise TypingError(f"elements must be types, or pairs of a name and a type, found {elements!r}")
    pairs = [tuple(e) if is_named(e) else (None, e) for e in elements]
    items = tuple((name, _to_type(e) if convert else e) for name, e in pairs)
    names = [name for name, _ in items if name is not None]
    if len(set(names)) < len(names):
        raise TypingError(f"the elements must have different names, found {', '.join(names)}")
    if taken := RESERVED_NAMES.intersection(names):
        raise TypingError(
            f"no element can be named {', '.join(sorted(taken))}: types of structs have methods of these names",
            f"choose another name, such as {min(taken).strip('_')}_",
        )
    return items


def struct_of(items: Iterable[tuple[str | None, Type]], container: type | None) -> StructType:
    """Return a struct type whose values come back as ``container``, None where no container is recorded."""
    return StructType(items) if container is None else StructWithPythonType(items, container)


def _tuples_for_lists(type_: Type) -> Type:
    """Sequences are packed, so which of list and tuple an element was is not kept."""
    if not isinstance(type_, StructType):
        return type_
    items = [(name, _tuples_for_lists(element)) for name, element in type_.items()]
    return struct_of(items, tuple if type_.python_container is list else type_.python_container)
