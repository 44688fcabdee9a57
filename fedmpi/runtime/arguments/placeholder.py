"""What stands on the other ranks for a value that is on rank 0 alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from fedmpi.language.types import FederatedType, StructType

_HERE = (
    "the value is on rank 0 only: fm.replicate(value) brings it to every rank, fm.is_server() tells which one this is"
)


class Placeholder:
    """A typed stand-in for a result on rank 0.

    It can be passed to the next computation, printed, and taken apart where its type is a struct; whatever needs the
    value itself raises `TypeError`.
    """

    __slots__ = ("_type",)

    def __init__(self, type_: FederatedType) -> None:
        object.__setattr__(self, "_type", type_)

    @property
    def type_signature(self) -> FederatedType:
        """The type of the value, with its placement."""
        type_: FederatedType = self._type
        return type_

    @property
    def fedmpi_description(self) -> str:
        """What error messages call this object."""
        return f"a placeholder for {self._type} ({_HERE})"

    def __repr__(self) -> str:
        return f"<{self._type}, on rank 0>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)  # whatever the value's format would be

    def _struct(self) -> StructType | None:
        member = self._type.member
        return member if isinstance(member, StructType) and self._type.all_equal else None

    def _part(self, index: int) -> Placeholder:
        struct = self._struct()
        assert struct is not None
        return Placeholder(FederatedType(list(struct)[index], self._type.placement, self._type.all_equal))

    def _names(self) -> list[str | None]:
        struct = self._struct()
        return [] if struct is None else [name for name, _ in struct.items()]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and name in self._names():
            return self._part(self._names().index(name))
        raise AttributeError(f"{self!r} has no element {name!r}; {_HERE}")

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{self!r} cannot be changed; {_HERE}")

    def __getitem__(self, key: Any) -> Any:
        struct = self._struct()
        if struct is None:
            self._refuse("indexing")
        if isinstance(key, str):
            if key not in self._names():
                raise KeyError(key)
            return self._part(self._names().index(key))
        if isinstance(key, slice):
            return tuple(self._part(i) for i in range(*key.indices(len(struct))))
        index = key + len(struct) if key < 0 else key
        if not 0 <= index < len(struct):
            raise IndexError(f"element {key} of {self!r}")
        return self._part(index)

    def __len__(self) -> int:
        struct = self._struct()
        if struct is None:
            self._refuse("len")
        return len(struct)

    def __iter__(self) -> Iterator[Placeholder]:
        struct = self._struct()
        if struct is None:
            self._refuse("iteration")
        return iter([self._part(i) for i in range(len(struct))])

    def keys(self) -> list[str | None]:
        """Return the names of a struct's elements, as a mapping would."""
        return self._names()

    def items(self) -> list[tuple[str | None, Placeholder]]:
        """Return names and elements of a struct, as a mapping would."""
        return list(zip(self._names(), self, strict=True))

    def values(self) -> list[Placeholder]:
        """Return the elements of a struct, as a mapping would."""
        return list(self)

    def __copy__(self) -> Placeholder:
        return self  # it cannot be changed

    def __deepcopy__(self, memo: object) -> Placeholder:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self._refuse("pickling")

    def _refuse(self, what: str) -> NoReturn:
        raise TypeError(f"{what} of {self!r}: {_HERE}")


def _refusing(name: str) -> Any:
    def method(self: Placeholder, *_: Any) -> NoReturn:
        self._refuse(name)

    method.__name__ = name
    return method


_NEED_THE_VALUE = """
    bool float int complex index array eq ne lt le gt ge hash round trunc floor ceil neg pos abs
    add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv mod rmod divmod rdivmod pow rpow matmul rmatmul
    contains setitem delitem
"""

for _name in _NEED_THE_VALUE.split():
    setattr(Placeholder, f"__{_name}__", _refusing(_name))
