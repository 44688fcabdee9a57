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

from fedmpi.language.tracing.computation import PolymorphicComputation
from fedmpi.language.types import FunctionType, SequenceType, StructType, TensorType, Type
from fedmpi.language.types.presenting import rebuild
from fedmpi.local.columns.column import PackedSequence, conformed_sequence, is_text, pack
from fedmpi.local.columns.numbers import check_range, numbers, refuse_more_than_numbers
from fedmpi.local.records import element_names
from fedmpi.local.value_errors import ArgumentError as ArgumentError
from fedmpi.local.value_errors import DoesNotFitError
from fedmpi.local.value_errors import ShapeError as ShapeError
from fedmpi.local.value_errors import UnequalShapesError as UnequalShapesError
from fedmpi.local.value_errors import describe as describe


def normalise(value: Any, type_: Type) -> Any:
    """Return ``value`` normalised (see `columns.column`), its arrays read-only, or raise `ArgumentError`."""
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
    """Return a tensor in its dtype: nothing is converted that the dtype does not hold as it is."""
    array = numbers(value, type_, safe=True)
    check_shape(array.shape, type_, array)
    return _readonly(_in_dtype(array, type_, value))


def _in_dtype(array: np.ndarray[Any, Any], type_: TensorType, value: Any, *, infinite: bool = False) -> Any:
    """Return an array of the type's kind in its dtype; a number that is too large for it is an error.

    With ``infinite`` a float that is too large becomes infinite, as in compiled code.
    """
    dtype = type_.dtype
    with np.errstate(over="ignore"):
        cast = array.astype(dtype, copy=False)
    if cast is array:
        # NumPy has two dtypes of one size for some integers, equal but of different classes: np.ulonglong, np.uint64.
        return array if array.dtype.num == dtype.num else array.view(dtype)
    if dtype.kind in "iu" and not np.can_cast(array.dtype, dtype, "safe"):
        check_range(array, type_, value)
    if not infinite and dtype.kind in "fcV":
        large = np.isinf(cast)
        if large.any() and (large & ~np.isinf(array)).any():
            raise DoesNotFitError(str(type_), f"{describe(value)}, which is too large")
    return cast


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
    refuse_more_than_numbers(value, type_)
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
    if not isinstance(value, list | tuple):
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


def cast_result(value: Any, type_: Type, *, infinite: bool = False) -> Any:
    """Return what a local computation returned as normalised ``type_``; a dtype of the same kind is cast.

    The result owns its arrays: an alias of an argument is copied.  A number that does not fit the type is a
    `DoesNotFitError`; with ``infinite`` floats become infinite instead, as in compiled code.
    """
    match type_:
        case TensorType(dtype, _) if not is_text(type_):
            array = numbers(value, type_, safe=False)
            check_shape(array.shape, type_, array)
            return _readonly(np.array(_in_dtype(array, type_, value, infinite=infinite), dtype=dtype, order="C"))
        case StructType():
            parts = struct_parts(value, type_)
            named = enumerate(zip(type_.items(), parts, strict=True))
            return tuple(
                [_cast_part(f"element {i}" if n is None else n, part, t, infinite) for i, ((n, t), part) in named]
            )
        case SequenceType(element):
            if not isinstance(value, PackedSequence | list | tuple):
                raise ArgumentError(str(type_), describe(value), "a sequence is a list of its elements")
            members = [_cast_part(f"element {i}", member, element, infinite) for i, member in enumerate(value)]
            return PackedSequence(pack(element, members), 0, len(members))
    return normalise(value, type_)


def _cast_part(place: str, value: Any, type_: Type, infinite: bool) -> Any:
    try:
        return cast_result(value, type_, infinite=infinite)
    except ArgumentError as error:
        raise error.inside(place) from None


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
