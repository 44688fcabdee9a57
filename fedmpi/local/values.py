"""From a user's Python values to normalised ones and back, with every check against the types.

`normalise` is strict (language.md's rules): a tensor must be of the type's kind and fit its dtype, a mapping binds by
key, a sequence is a list.  `cast_result` is for what a local computation returned: a dtype of the same kind is cast.
`present` gives results in the containers that the program used.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmpi.language.computation import PolymorphicComputation
from fedmpi.language.containers import rebuild
from fedmpi.language.types import FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.local.columns import PackedSequence, conformed_sequence, is_text, pack
from fedmpi.local.given import GivenSequence
from fedmpi.local.records import element_names


class ArgumentError(TypeError):
    """A value that does not have its type: where in the value, what was expected, what was found."""

    def __init__(self, expected: str, found: str, hint: str = "") -> None:
        super().__init__(expected, found, hint)
        self.expected, self.found, self.hint = expected, found, hint
        self.path: list[str] = []

    def inside(self, place: str) -> ArgumentError:
        """Add the enclosing place and return the same error."""
        self.path.insert(0, place)
        return self

    @property
    def text(self) -> str:
        """What it says, without the hint."""
        place = ", ".join(self.path)
        return f"{place + ': ' if place else ''}expected {self.expected}, found {self.found}"

    def __str__(self) -> str:
        return self.text + (f" ({self.hint})" if self.hint else "")


class ShapeError(TypeError):
    """Raised by compiled code for an array that does not have its declared dimensions."""

    def __init__(self, label: str, expected: str, dtype: str, shape: tuple[int, ...]) -> None:
        super().__init__(label, expected, dtype, shape)
        self._text = f"{label}: " if label else ""
        self._text += f"expected {expected}, found {dtype}[{','.join(map(str, shape))}]"

    def __str__(self) -> str:
        return self._text


class UnequalShapesError(ValueError):
    """Raised for arithmetic on arrays of open dimensions that differ: NumPy would stretch those of size 1."""

    def __init__(self, op: str, left: tuple[int, ...], right: tuple[int, ...]) -> None:
        super().__init__(op, left, right)
        self._text = f"{op}: both sides must have one shape, found {list(left)} and {list(right)}"

    def __str__(self) -> str:
        return self._text


def describe(value: Any) -> str:
    """Say in a few words what a Python value is."""
    if isinstance(value, np.ndarray | np.generic):
        shape = f"[{','.join(map(str, value.shape))}]" if value.shape else ""
        name = "str" if value.dtype.kind in "US" else value.dtype.name
        return f"{name}{shape}" if isinstance(value, np.ndarray) else f"{name} {value}"
    if isinstance(value, Mapping):
        return f"a {type(value).__name__} with the keys {', '.join(map(repr, value)) or '(none)'}"
    if isinstance(value, list | tuple) and element_names(value) is None:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, bool | int | float | complex | str) or value is None:
        text = repr(value)
        return f"{type(value).__name__} {text if len(text) < 40 else text[:36] + '…'}" if value is not None else "None"
    return getattr(value, "fedmpi_description", None) or f"a {type(value).__name__}"


def _kind(dtype: np.dtype[Any]) -> str:
    # Integers of both signs are one kind: whether a value fits is np.can_cast's to say.
    return "i" if dtype.kind in "iu" else dtype.kind


def normalise(value: Any, type_: Type) -> Any:
    """Return ``value`` normalised (see `fedmpi.local.columns`), its arrays read-only, or raise `ArgumentError`."""
    match type_:
        case TensorType():
            if type(value) is np.ndarray and value.dtype is type_.dtype and value.shape == type_.shape:
                return _readonly(value)  # what comes round after round
            return _text(value, type_) if is_text(type_) else _tensor(value, type_)
        case StructType():
            parts = struct_parts(value, type_)
            named = enumerate(zip(type_.items(), parts, strict=True))
            return tuple([_inside(name, i, part, t) for i, ((name, t), part) in named])
        case SequenceType(element):
            return _sequence(value, type_, element)
        case FunctionType():
            return _function(value, type_)
    raise ArgumentError(str(type_), describe(value))


def _inside(name: str | None, index: int, value: Any, type_: Type) -> Any:
    try:
        return normalise(value, type_)
    except ArgumentError as error:
        raise error.inside(name if name is not None else f"element {index}") from None


def _tensor(value: Any, type_: TensorType) -> Any:
    dtype = type_.dtype
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        fits = _kind(array.dtype) == _kind(dtype) and np.can_cast(array.dtype, dtype, "safe")
    elif isinstance(value, bool | int | float | complex | list | tuple) or _is_array_like(value):
        array = _as_array(value, type_)
        literal = isinstance(value, bool | int | float | complex | list | tuple)
        fits = _kind(array.dtype) == _kind(dtype) and (literal or np.can_cast(array.dtype, dtype, "safe"))
        if fits and _kind(dtype) == "i" and array.size:
            info = np.iinfo(dtype)
            fits = bool(info.min <= array.min() and array.max() <= info.max)
    else:
        raise ArgumentError(str(type_), describe(value))
    if dtype.kind == "V" and array.dtype.kind == "f" and not isinstance(value, np.ndarray | np.generic):
        fits = True  # bfloat16 is no NumPy kind; a Python float is meant for it
    if not fits:
        raise ArgumentError(
            str(type_),
            describe(value if isinstance(value, np.ndarray | np.generic) else array if array.ndim else value),
            _cast_hint(value, array, dtype),
        )
    check_shape(array.shape, type_, array)
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if dtype.kind in "fc" and cast is not array and np.any(np.isinf(cast) & ~np.isinf(array)):
        raise ArgumentError(str(type_), f"{describe(value)}, which is too large")
    array = cast
    # NumPy has two dtypes of the same size for some integers, equal but of different classes: np.ulonglong, np.uint64.
    return _readonly(array if array.dtype.num == dtype.num else array.view(dtype))


def _is_array_like(value: Any) -> bool:
    return hasattr(value, "__array__") and not hasattr(value, "fedmpi_description")  # as a placeholder has


def _as_array(value: Any, type_: TensorType) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise ArgumentError(
            str(type_), f"{describe(value)} that is no array: its rows differ in length or kind"
        ) from None
    if array.dtype == object:
        raise ArgumentError(str(type_), f"{describe(value)} that is no array of numbers")
    if array.size == 0 and isinstance(value, list | tuple):
        array = array.astype(type_.dtype)  # an empty list has no dtype of its own
    return array


def _cast_hint(value: Any, array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> str:
    if array.dtype.kind not in "biufc" or dtype.kind == "U":
        return ""
    if type(value) is int and _kind(dtype) == "i":
        return f"{dtype.name} holds {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
    if type(value) is int and dtype.kind == "f":
        return f"write {value}.0"
    name = "bool_" if dtype.kind == "b" else dtype.name
    if array.ndim == 0:
        return f"write np.{name}(…) where that is meant"
    if isinstance(value, list | tuple):
        return f"write np.array(value, np.{name}) where that is meant"
    return f"write value.astype(np.{name}) where that is meant"


def check_shape(shape: tuple[int, ...], type_: TensorType, found: Any = None) -> None:
    """Raise `ArgumentError` unless an array of this shape may stand for the tensor."""
    wanted = type_.shape
    if wanted is None or (
        len(shape) == len(wanted) and all(w in (None, s) for w, s in zip(wanted, shape, strict=True))
    ):
        return
    text = describe(np.asarray(found)) if found is not None else f"shape [{','.join(map(str, shape))}]"
    raise ArgumentError(str(type_), text)


def _readonly(array: np.ndarray[Any, Any]) -> Any:
    if not array.shape:
        return array[()]
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=["C", "A"])
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


def _text(value: Any, type_: TensorType) -> Any:
    if isinstance(value, np.ndarray) and not value.shape:
        value = value.item()
    if isinstance(value, str | bytes):
        if type_.shape not in ((), None):
            raise ArgumentError(str(type_), describe(value))
        return _decoded(value, type_)
    numbers = isinstance(value, np.ndarray) and value.dtype.kind not in "USO"
    if numbers or not isinstance(value, np.ndarray | list | tuple) or type_.shape == ():
        raise ArgumentError(str(type_), describe(value))
    array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype=object)
    texts = np.empty(array.shape, object)
    texts.reshape(-1)[:] = [_decoded(text, type_) for text in array.reshape(-1).tolist()]
    check_shape(texts.shape, type_, texts.astype(np.str_))
    return texts


def _decoded(text: Any, type_: TensorType) -> str:
    if isinstance(text, bytes):
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            raise ArgumentError(str(type_), "bytes that are no UTF-8 text") from None
    if not isinstance(text, str):
        raise ArgumentError(str(type_), describe(text))
    return str(text)


def struct_parts(value: Any, type_: StructType) -> list[Any]:
    """Return the elements of a Python container in the order of the type; mappings and named tuples bind by name."""
    names = [name for name, _ in type_.items()]
    if type(value) in (dict, OrderedDict) and len(value) == len(names) and all(name in value for name in names):
        return [value[name] for name in names]  # what comes round after round
    given = value
    fields = _fields(value)
    if fields is not None:
        value = dict(fields) if type_.fields() else [part for _, part in fields]
    if isinstance(value, tuple) and element_names(value) is not None and None not in names:
        keys = element_names(value) or ()
        if None not in keys:
            value = dict(zip(keys, value, strict=True))
    if isinstance(value, Mapping):
        if value and None in names:
            raise ArgumentError(str(type_), describe(given), "elements without names are given by a list or a tuple")
        missing = [n for n in names if n not in value]
        unknown = [k for k in value if k not in names]
        if missing or unknown:
            text = " and ".join(
                [f"no {', '.join(map(repr, missing))}"] * bool(missing)
                + [f"unknown {', '.join(map(repr, unknown))}"] * bool(unknown)
            )
            raise ArgumentError(str(type_), f"{describe(given)}: {text}")
        return [value[n] for n in names]
    if not isinstance(value, list | tuple):
        raise ArgumentError(str(type_), describe(value))
    if len(value) != len(names):
        raise ArgumentError(f"{type_}, {len(names)} elements", describe(given))
    return list(value)


def _fields(value: Any) -> list[tuple[str, Any]] | None:
    """The fields of an instance of a dataclass or an attrs class; None for anything else."""
    if isinstance(value, type):
        return None
    if dataclasses.is_dataclass(value):
        return [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    if hasattr(value, "__attrs_attrs__"):
        return [(a.name, getattr(value, a.name)) for a in value.__attrs_attrs__]
    return None


def _sequence(value: Any, type_: SequenceType, element: Type) -> Any:
    if isinstance(value, PackedSequence):
        if not element.is_assignable_from(value.column.type):
            raise ArgumentError(str(type_), f"{value.column.type}*")
        return conformed_sequence(value, element)
    if not isinstance(value, list | tuple | GivenSequence):
        raise ArgumentError(str(type_), describe(value), "a sequence is a list of its elements")
    members = []
    for i, member in enumerate(value):
        try:
            members.append(normalise(member, element))
        except ArgumentError as error:
            # The elements of sequences of structs are what users call batches.
            raise error.inside(f"batch {i}" if isinstance(element, StructType) else f"element {i}") from None
    return PackedSequence(pack(element, members), 0, len(members))


def _function(value: Any, type_: FunctionType) -> Any:
    if isinstance(value, PolymorphicComputation) and type_.parameter is not None:
        value = value.fn_for_argument_type(type_.parameter)
    signature = getattr(value, "type_signature", None)
    if signature is None or not hasattr(value, "expression"):
        raise ArgumentError(str(type_), describe(value), "a function argument is a computation")
    if not type_.is_assignable_from(signature):
        raise ArgumentError(str(type_), str(signature))
    return value


def check_normalised(value: Any, type_: Type) -> None:
    """Raise `ArgumentError` unless a normalised value is exactly what its type says: nothing is cast."""
    match type_:
        case TensorType(dtype):
            text = is_text(type_)
            is_array = isinstance(value, np.ndarray | np.generic) and value.dtype == (object if text else dtype)
            if not is_array and not (text and isinstance(value, str)):
                raise ArgumentError(str(type_), describe(value))
            check_shape(np.shape(value), type_, value)
        case StructType():
            if not isinstance(value, tuple) or len(value) != len(type_):
                raise ArgumentError(f"{type_}, {len(type_)} elements", describe(value))
            for index, ((name, part_type), part) in enumerate(zip(type_.items(), value, strict=True)):
                try:
                    check_normalised(part, part_type)
                except ArgumentError as error:
                    raise error.inside(name if name is not None else f"element {index}") from None
        case SequenceType(element):
            if not isinstance(value, PackedSequence):
                raise ArgumentError(str(type_), describe(value))
            for index, part in enumerate(value):
                try:
                    check_normalised(part, element)
                except ArgumentError as error:
                    raise error.inside(f"element {index}") from None


# --- what local computations return ----------------------------------------------------------------------------------


def cast_result(value: Any, type_: Type) -> Any:
    """Return what a local computation returned as normalised ``type_``; a dtype of the same kind is cast.

    The result owns its arrays: an alias of an argument is copied.
    """
    match type_:
        case TensorType(dtype, _) if not is_text(type_):
            array = _as_array(value, type_)
            if _kind(array.dtype) != _kind(dtype):
                raise ArgumentError(str(type_), describe(value))
            check_shape(array.shape, type_, array)
            with np.errstate(over="ignore"):
                return _readonly(np.array(array, dtype=dtype, order="C"))
        case StructType():
            parts = struct_parts(value, type_)
            out = []
            for i, ((name, t), part) in enumerate(zip(type_.items(), parts, strict=True)):
                try:
                    out.append(cast_result(part, t))
                except ArgumentError as error:
                    raise error.inside(name if name is not None else f"element {i}") from None
            return tuple(out)
        case SequenceType(element):
            if not isinstance(value, PackedSequence | GivenSequence | list | tuple):
                raise ArgumentError(str(type_), describe(value), "a sequence is a list of its elements")
            members = []
            for i, member in enumerate(value):
                try:
                    members.append(cast_result(member, element))
                except ArgumentError as error:
                    raise error.inside(f"element {i}") from None
            return PackedSequence(pack(element, members), 0, len(members))
    return normalise(value, type_)


def present(value: Any, type_: Type) -> Any:
    """Return a normalised value in the Python containers that its type records (see language.md, 4.4)."""
    match type_:
        case StructType():
            return rebuild(type_, [present(v, t) for v, t in zip(value, type_, strict=True)])
        case SequenceType(element):
            return [present(v, element) for v in value]
        case TensorType() if isinstance(value, np.ndarray):
            return value if value.flags.writeable else value.copy()  # a result is the caller's own
    return value
