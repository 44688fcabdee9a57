"""What a body that runs as Python was lent (see `lent`): copies, of which it notes which arrays they are.

What a kernel or another computation consumes of them is filled with a mark afterwards, so that a program that reads it
nevertheless shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_LENT: ContextVar[tuple[Any, ...]] = ContextVar("fedmpi_lent", default=())


def arrays_in(value: Any) -> Iterator[Any]:
    """Yield the arrays in a container."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from arrays_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from arrays_in(part)


@contextmanager
def lending(values: list[Any]) -> Iterator[None]:
    """Within the block, the arrays in ``values`` are lent to the body that runs as Python."""
    token = _LENT.set(tuple(arrays_in(values)))
    try:
        yield
    finally:
        _LENT.reset(token)


def is_lent(array: Any) -> bool:
    """Tell whether an array is one that the running body was lent."""
    return any(array is lent for lent in _LENT.get())


def consumed(value: Any) -> None:
    """Fill the arrays that can be written to with a mark: NaN, or the greatest integer."""
    for array in arrays_in(value):
        if array.flags.writeable:
            array[...] = _mark(array.dtype)


def _mark(dtype: np.dtype[Any]) -> Any:
    if dtype.kind in "fc" or dtype.kind == "V":
        return np.nan
    return True if dtype.kind == "b" else np.iinfo(dtype).max
