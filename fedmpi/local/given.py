"""What a Python body is given: copies, for what other libraries do with memory (PyTorch shares it) no flag prevents.

Arguments are shared, between clients and with the program, so nothing that a body does to its own may reach them.  The
copies are made anew for each call, and read-only: a body that writes to one by NumPy is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, StructType, TensorType, Type
from fedmpi.local.columns import PackedSequence
from fedmpi.local.records import names_of, python_record_class


def as_given(value: Any, type_: Type) -> Any:
    """Return a normalised value as a Python body sees it, in arrays of its own: structs as records."""
    match type_:
        case StructType():
            record = python_record_class(names_of(type_), type_.python_container)
            return record(*[as_given(v, t) for v, t in zip(value, type_, strict=True)])
        case SequenceType(element):
            return GivenSequence(value, element)
        case TensorType() if isinstance(value, np.ndarray):
            own = np.array(value, order="C")
            own.flags.writeable = False
            return own
    return value


class GivenSequence(Sequence[Any]):
    """A sequence as a Python body sees it: much like a list; an element is made each time it is read."""

    def __init__(self, packed: PackedSequence, element: Type) -> None:
        self._packed, self._element = packed, element

    def __len__(self) -> int:
        return len(self._packed)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return as_given(self._packed[index], self._element)

    def __iter__(self) -> Iterator[Any]:
        return iter(map(self.__getitem__, range(len(self))))

    def __add__(self, other: Any) -> list[Any]:
        return [*self, *other]

    def __radd__(self, other: Any) -> list[Any]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, list | GivenSequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return np.array(list(self), dtype)

    def __repr__(self) -> str:
        return repr(list(self))

    def __reduce__(self) -> Any:
        return list, (list(self),)
