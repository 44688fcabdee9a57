"""Records: how a struct arrives in a local computation.

A record is a named tuple whose elements can also be reached by name in brackets, so that ``model.weights``,
``model["weights"]``, ``model[0]`` and ``weights, bias = model`` all work, in Python and in compiled code alike
(`fedmpi.local.typed.numba_types` teaches Numba the brackets).  Any string may name an element; one that is no
identifier is reached through the brackets only.
"""

from __future__ import annotations

import functools
import operator
from collections import namedtuple
from collections.abc import Callable
from typing import Any

from fedmpi.language.types import StructType

_OURS = ("fedmpi_names", "fedmpi_container")
# Arithmetic of records, by its operator: a function of the name, the left and the right side (`local.whole` fills it).
ARITHMETIC: dict[str, Callable[..., Any]] = {}


def _is_attribute(name: str | None) -> bool:
    """Say whether an element can be reached as an attribute: its name is an identifier that Python leaves to it."""
    return name is not None and name.isidentifier() and not hasattr(_PLAIN, name) and name not in _OURS


_PLAIN = namedtuple("_PLAIN", ())
_OVERRIDDEN = frozenset({"count", "index"})  # of tuples, which a named tuple's fields may be called


def _fields(names: tuple[str | None, ...]) -> tuple[str, ...]:
    """Return the attributes of a record: the names, and others for elements that are reached through brackets only."""
    fields = []
    for position, name in enumerate(names):
        usable = _is_attribute(name) or name in _OVERRIDDEN
        made = str(name) if usable else f"element{position}_"
        while not usable and made in names:
            made += "_"
        fields.append(made)
    return tuple(fields)


@functools.cache
def record_class(names: tuple[str | None, ...]) -> type[tuple[Any, ...]]:
    """Return the record class for elements of these names (None: no name).

    One class for each tuple of names: Numba unifies two values of a variable only if their classes are the same.
    """
    fields = _fields(names)
    base: Any = namedtuple("Record", fields, rename=True)  # type: ignore[misc]
    # What `namedtuple` does not take, Numba finds in `_fields`.
    properties = {field: property(operator.itemgetter(i)) for i, field in enumerate(fields) if field != base._fields[i]}

    def getitem(self: tuple[Any, ...], key: Any) -> Any:
        if isinstance(key, str):
            if key not in names:
                raise KeyError(f"no element {key!r}; there are {', '.join(map(str, names))}")
            key = names.index(key)
        return tuple.__getitem__(self, key)

    # What errors of Python and of Numba call it.
    shown = f"struct<{','.join('' if name is None else name for name in names)}>"
    own = {"__module__": __name__, "__slots__": (), "__getitem__": getitem, "_fields": fields, "fedmpi_names": names}
    return type(shown, (base,), {**properties, **own, **_OPERATORS})


def _operators() -> dict[str, Any]:
    """Return the methods of whole-model arithmetic: where a tuple would be joined or repeated, a record is computed."""

    def method(op: str, *, swapped: bool) -> Any:
        def apply(self: Any, other: Any) -> Any:
            return ARITHMETIC[op](op, other, self) if swapped else ARITHMETIC[op](op, self, other)

        return apply

    made: dict[str, Any] = {"__neg__": lambda self: ARITHMETIC["negative"](self)}
    for op, name in (("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("divide", "truediv")):
        made |= {f"__{name}__": method(op, swapped=False), f"__r{name}__": method(op, swapped=True)}
    return {**made, "__array_ufunc__": None}  # so that `np.float32(2) * record` asks the record


_OPERATORS = _operators()


def names_of(struct: StructType) -> tuple[str | None, ...]:
    """Return the names of a struct's elements, None for an element without one."""
    return tuple(name for name, _ in struct.items())


def record_of(struct: StructType) -> type[tuple[Any, ...]]:
    """Return the record class of a struct type."""
    return record_class(names_of(struct))


@functools.cache
def python_record_class(names: tuple[str | None, ...], container: type | None) -> type[tuple[Any, ...]]:
    """Return the record class that Python code meets: it knows the struct's Python container."""
    base = record_class(names)
    return type(base.__name__, (base,), {"__module__": __name__, "__slots__": (), "fedmpi_container": container})


def element_names(value: Any) -> tuple[str | None, ...] | None:
    """Return the names of a record's or named tuple's elements; None for a plain tuple."""
    names = getattr(value, "fedmpi_names", None)
    if names is None:
        names = getattr(value, "_fields", None)
    return None if names is None else tuple(names)
