"""Plain values as bytes: what `fm.replicate` and the errors of other ranks travel as.  Nothing is pickled.

A nest of containers is described by JSON; its arrays and bytes stand behind, one after another.  What comes out is
equal to what went in and of the same class, or `NotPlain` is raised before.  A named tuple, a dataclass and other
containers of the user's travel by the names of their classes, which are looked up among the modules that are loaded.
"""

from __future__ import annotations

import ast
import enum
import importlib
import json
import math
import sys
from collections import OrderedDict
from collections.abc import Mapping, Set
from pathlib import PurePath
from typing import Any

import numpy as np

from fedmpi.language.types.containers import unpack
from fedmpi.local.columns.values import describe
from fedmpi.local.records import record_class

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Classes = Mapping[tuple[str, str], type]

KINDS = "arrays, numbers, texts, bytes and lists, tuples, dicts, named tuples, dataclasses of them"
# JSON writes integers in decimals, which Python refuses from 4,300 digits on.
_LONG = 4096
_KEYED: dict[str, type[dict[Any, Any]]] = {"dict": dict, "OrderedDict": OrderedDict}
_TEXT = ("utf-8", "surrogatepass")


class NotPlain(TypeError):
    """A value that does not travel; ``found`` says what it is, ``path`` where in the whole it stands."""

    def __init__(self, found: str, hint: str = "") -> None:
        super().__init__(found)
        self.found, self.hint, self.path = found, hint, ""

    def inside(self, step: str) -> NotPlain:
        """Return the same error for the container that the value is in."""
        self.path = step + self.path
        return self


def to_bytes(value: Any, classes: Classes | None = None) -> Bytes:
    """Return a value as uint8[n]; raise `NotPlain` if it is not made of what travels.

    ``classes`` are classes of containers that need not be found in their modules, by module and qualified name; with
    None, no containers of the user's travel.
    """
    pieces: list[bytes] = []
    try:
        text = json.dumps(_Writer(pieces, classes).describe(value), ensure_ascii=False).encode(*_TEXT)
    except RecursionError:
        raise NotPlain("a nest that is too deep") from None
    return np.frombuffer(b"".join([len(text).to_bytes(8, "little"), text, *pieces]), dtype=np.uint8)


def from_bytes(data: Bytes, classes: Classes | None = None) -> Any:
    """Return the value that `to_bytes` was given; raise `NotPlain` for a class that this process does not have."""
    raw = data.tobytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    return _Reader(raw, start, classes or {}).value(json.loads(raw[8:start].decode(*_TEXT)))


def found_class(module: str, name: str) -> Any:
    """Return what a loaded module has by a qualified name; None if there is no such module or name."""
    found: Any = sys.modules.get(module)
    try:
        for part in name.split("."):
            found = getattr(found, part, None)
    except Exception:  # a module that imports what it is asked for
        return None
    return found


class _Writer:
    """Turns values into what JSON can hold; the bytes of arrays and texts go into ``pieces``."""

    def __init__(self, pieces: list[bytes], classes: Classes | None) -> None:
        self.pieces, self.classes = pieces, classes
        self.inside: set[int] = set()  # the containers that are being described

    def describe(self, value: Any) -> Any:
        kind = type(value)
        if value is None or kind in (bool, str, float) or (kind is int and value.bit_length() < _LONG):
            return value
        if kind is int:
            return ["int", f"{value:x}"]
        if kind is complex:
            return ["complex", value.real, value.imag]
        if kind in (bytes, bytearray):
            return [kind.__name__, self.piece(bytes(value))]
        if kind in (np.str_, np.bytes_):  # as arrays they would lose zeros at their ends
            return ["np.str_", str.__str__(value)] if kind is np.str_ else ["np.bytes_", self.piece(bytes(value))]
        if isinstance(value, np.ndarray):
            return self.array("array", value) if kind in (np.ndarray, np.memmap) else self.instance(value)
        if isinstance(value, np.generic):
            return self.array("scalar", np.asarray(value)) if kind is value.dtype.type else self.instance(value)
        if isinstance(value, PurePath) and kind.__module__.partition(".")[0] == "pathlib":
            return ["path", kind.__name__, str(value)]
        return self.container(value)

    def piece(self, data: bytes) -> int:
        self.pieces.append(data)
        return len(data)

    def array(self, form: str, array: np.ndarray[Any, Any]) -> Any:
        if array.dtype == object:
            return ["objects", array.shape, [self.part(v, f"[{i}]") for i, v in enumerate(array.ravel().tolist())]]
        text = _dtype_text(array.dtype)
        if text is None:
            raise NotPlain(f"an array of dtype {array.dtype}", _hint(array))
        self.piece(array.tobytes())
        return [form, text, array.shape]

    def container(self, value: Any) -> Any:
        if id(value) in self.inside:
            raise NotPlain("a container that holds itself")
        self.inside.add(id(value))
        try:
            return self.parts(value)
        finally:
            self.inside.discard(id(value))

    def parts(self, value: Any) -> Any:
        kind = type(value)
        if kind in (list, tuple):
            return [kind.__name__, [self.part(v, f"[{i}]") for i, v in enumerate(value)]]
        if kind in _KEYED.values():
            return [kind.__name__, [[self.part(k, " (a key)"), self.part(v, f"[{k!r}]")] for k, v in value.items()]]
        if isinstance(value, tuple) and (names := getattr(kind, "element_names", None)) is not None:
            return ["record", list(names), [self.part(v, f"[{i}]") for i, v in enumerate(value)]]
        return self.instance(value)

    def instance(self, value: Any) -> Any:
        kind = type(value)
        items = None if isinstance(value, str | int | float | bytes | type | enum.Enum) else _items(value)
        if self.classes is None or items is None or not _gives_back(value, items):
            raise NotPlain(_found(value), _hint(value))
        name = kind.__module__, kind.__qualname__
        if (self.classes.get(name) or found_class(*name)) is not kind:
            raise NotPlain(
                f"a {kind.__qualname__}, whose class is not to be found in the module {kind.__module__}",
                "define the class at the top of a module, by its own name",
            )
        return ["class", *name, [[key, self.part(v, f".{key}")] for key, v in items]]

    def part(self, value: Any, step: str) -> Any:
        try:
            return self.describe(value)
        except NotPlain as refused:
            raise refused.inside(step) from None


class _Reader:
    """Makes values of what `_Writer` wrote."""

    def __init__(self, raw: bytes, at: int, classes: Classes) -> None:
        self.raw, self.at, self.classes = raw, at, classes

    def piece(self, size: int) -> bytes:
        self.at += size
        return self.raw[self.at - size : self.at]

    def value(self, told: Any) -> Any:
        if not isinstance(told, list):
            return told
        match told:
            case ["int", text]:
                return int(text, 16)
            case ["complex", real, imag]:
                return complex(real, imag)
            case ["bytes" | "bytearray" | "np.bytes_" as kind, size]:
                return {"bytes": bytes, "bytearray": bytearray, "np.bytes_": np.bytes_}[kind](self.piece(size))
            case ["np.str_", text]:
                return np.str_(text)
            case ["array" | "scalar" as kind, dtype, shape]:
                array = self.array(_dtype_of(dtype), shape)
                return array if kind == "array" else array[()]
            case ["objects", shape, items]:
                objects = np.empty(shape, dtype=object)
                objects.reshape(-1)[:] = _objects([self.value(item) for item in items])
                return objects
            case ["path", name, text]:
                return getattr(sys.modules["pathlib"], name)(text)
            case ["list" | "tuple" as kind, items]:
                parts = [self.value(item) for item in items]
                return parts if kind == "list" else tuple(parts)
            case ["record", names, items]:
                return record_class(tuple(names))(*(self.value(item) for item in items))
            case ["class", module, name, items]:
                return self.instance(module, name, [(key, self.value(item)) for key, item in items])
        kind, items = told
        return _KEYED[kind]((self.value(key), self.value(item)) for key, item in items)

    def array(self, dtype: np.dtype[Any], shape: list[int]) -> np.ndarray[Any, Any]:
        size = math.prod(shape) * dtype.itemsize
        if not size:
            return np.zeros(shape, dtype)
        return np.frombuffer(self.piece(size), np.uint8).copy().view(dtype).reshape(shape)

    def instance(self, module: str, name: str, items: list[tuple[Any, Any]]) -> Any:
        kind = self.classes.get((module, name)) or found_class(module, name)
        if not isinstance(kind, type):
            raise NotPlain(f"a {name}, whose class is not to be found in the module {module}")
        return _made_of(kind, items)


def _objects(items: list[Any]) -> np.ndarray[Any, Any]:
    """Return the items as object[n], whatever they are: NumPy would look into those that are sequences."""
    made = np.empty(len(items), dtype=object)
    for i, item in enumerate(items):
        made[i] = item
    return made


# Containers of the user's: named tuples, dataclasses, attrs classes, subclasses of list, tuple, dict.


def _items(value: Any) -> list[tuple[Any, Any]] | None:
    """Return what a container of the user's is made of, with names where it has some; None for all else."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(type(value), "fedmpi_description"):
        return None
    if isinstance(value, list | tuple | Mapping):
        return unpack(value) if all(isinstance(key, str) for key in value) or not isinstance(value, Mapping) else None
    return unpack(value)


def _made_of(kind: type, items: list[tuple[Any, Any]]) -> Any:
    """Return a container of the class with these items, as results of computations are made."""
    if issubclass(kind, Mapping):
        return kind(items)  # type: ignore[call-arg]
    if (items and items[0][0] is None) or (not items and issubclass(kind, list | tuple)):
        return kind([part for _, part in items])  # type: ignore[call-arg]
    return kind(**dict(items))


def _gives_back(value: Any, items: list[tuple[Any, Any]]) -> bool:
    """Tell whether the class makes of the value's items another one with the same items, and there is no more to it."""
    try:
        made = _made_of(type(value), items)
        again = _items(made)
    except Exception:
        return False
    return (
        type(made) is type(value)
        and again is not None
        and len(again) == len(items)
        and all(a is b and key == other for (key, a), (other, b) in zip(items, again, strict=True))
        and getattr(made, "__dict__", {}).keys() == getattr(value, "__dict__", {}).keys()
    )


# dtypes.


def _dtype_text(dtype: np.dtype[Any]) -> str | None:
    """Return a text that `_dtype_of` makes the same dtype of; None if there is none."""
    if dtype.hasobject or dtype.kind == "T":
        return None
    registered = dtype.isbuiltin == 2  # bfloat16 and its kin, whose other description is "two bytes"
    text = repr([dtype.type.__module__, dtype.name] if registered else np.lib.format.dtype_to_descr(dtype))
    try:
        return text if _dtype_of(text) == dtype else None
    except Exception:
        return None


def _dtype_of(text: str) -> np.dtype[Any]:
    match ast.literal_eval(text):
        case [str(module), str(name)]:
            if module == "ml_dtypes":
                importlib.import_module(module)  # it tells NumPy of its names
            return np.dtype(name)
        case described:
            return np.lib.format.descr_to_dtype(described)


# Refusals.


def _found(value: Any) -> str:
    if isinstance(value, np.ndarray | np.generic) and type(value) is not np.ndarray:
        return f"a {type(value).__name__} of {value.dtype}{list(value.shape) or ''}"
    if isinstance(value, enum.Enum) or (isinstance(value, str | int | float | bytes) and not isinstance(value, bool)):
        return f"a {type(value).__name__}"
    return describe(value)


def _hint(value: Any) -> str:
    match value:
        case np.ma.MaskedArray():
            return "give x.filled(…), or its data and its mask: np.ma.getdata(x), np.ma.getmaskarray(x)"
        case np.ndarray() if type(value) is not np.ndarray:
            return "give a plain array: np.asarray(x)"
        case np.ndarray() if value.dtype.kind == "T":
            return 'give texts of one length: x.astype("U")'
        case enum.Enum():
            return "give its value: x.value"
        case Mapping():
            return "give a plain dict: dict(x)"
        case Set():
            return "give a list: sorted(x)"
        case str() | int() | float() | bytes() | list() | tuple():
            base = next(c for c in (str, int, float, bytes, list, tuple) if isinstance(value, c))
            return f"give a plain {base.__name__}: {base.__name__}(x)"
    return "give what it is made of" if not hasattr(value, "__array__") else "give an array: np.asarray(x)"
