"""`fm.replicate`: a value of rank 0 on every rank.

A nest of containers travels as JSON that describes it, its arrays as their bytes; nothing is pickled.  Where the other
ranks hold placeholders, those say which Python containers to make.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np

from fedmpi.language.containers import rebuild, unpack
from fedmpi.language.types import FederatedType, SequenceType, StructType, Type
from fedmpi.local.records import element_names
from fedmpi.local.values import describe
from fedmpi.runtime.comm import Communicator
from fedmpi.runtime.header import UNKNOWN
from fedmpi.runtime.placeholder import Placeholder
from fedmpi.runtime.rounds import Round


def encode(value: Any) -> np.ndarray[Any, Any]:
    """Return a nest of arrays, numbers, texts and bytes as bytes."""
    arrays: list[np.ndarray[Any, Any]] = []
    text = json.dumps(_describe(value, arrays)).encode("utf-8")
    pieces = [np.array([len(text)], dtype=np.int64).tobytes(), text, *(a.tobytes() for a in arrays)]
    return np.frombuffer(b"".join(pieces), dtype=np.uint8)


def _describe(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        if value.dtype.hasobject:
            return {"texts": _describe(np.asarray(value).tolist(), arrays)}
        arrays.append(np.ascontiguousarray(value))
        return {
            "array": value.dtype.str if value.dtype.isbuiltin else value.dtype.name,
            "shape": value.shape,
            "scalar": isinstance(value, np.generic),
        }
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, dtype=np.uint8))
        return {"bytes": len(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return {"plain": value}
    if isinstance(value, Mapping):
        kind = "OrderedDict" if isinstance(value, OrderedDict) else "dict"
        return {kind: [[str(k), _describe(v, arrays)] for k, v in value.items()]}
    if (named := _named(value)) is not None:
        return {"named": [[n, _describe(v, arrays)] for n, v in named]}
    if isinstance(value, list | tuple):
        return {"list" if isinstance(value, list) else "tuple": [_describe(v, arrays) for v in value]}
    raise TypeError(
        "replicate: value must be made of arrays, numbers, texts, bytes and containers of them, "
        f"found {describe(value)}"
    )


def _named(value: Any) -> list[tuple[str | None, Any]] | None:
    """Return the fields of a named tuple, a record, a dataclass or an attrs object; None for all else."""
    if isinstance(value, tuple) and (names := element_names(value)) is not None:
        return list(zip(names, value, strict=True))
    return None if isinstance(value, list | tuple | Mapping | type) else unpack(value)


def decode(data: np.ndarray[Any, Any], like: Any) -> Any:
    """Return the nest that `encode` wrote, in the containers of the placeholders in ``like``."""
    raw = data.tobytes()
    length = int.from_bytes(raw[:8], "little")
    description = json.loads(raw[8 : 8 + length].decode("utf-8"))
    value, _ = _rebuild(description, raw, 8 + length)
    return _contained(value, like)


def _rebuild(description: Any, raw: bytes, at: int) -> tuple[Any, int]:
    ((kind, content), *rest) = description.items()
    if kind == "array":
        dtype = np.dtype(content)
        shape, scalar = (v for _, v in rest)
        count = int(np.prod(shape, dtype=np.int64))
        array = np.frombuffer(raw, dtype=dtype, count=count, offset=at).reshape(shape).copy()
        return (array[()] if scalar else array), at + count * dtype.itemsize
    if kind == "texts":
        texts, at = _rebuild(content, raw, at)
        return np.array(texts, dtype=object), at
    if kind == "bytes":
        return raw[at : at + content], at + content
    if kind == "complex":
        return complex(*content), at
    if kind == "plain":
        return content, at
    pairs = content if kind in ("OrderedDict", "dict", "named") else [[None, c] for c in content]
    parts = []
    for _, part in pairs:
        value, at = _rebuild(part, raw, at)
        parts.append(value)
    if kind in ("list", "tuple"):
        return (parts if kind == "list" else tuple(parts)), at
    made = OrderedDict(zip((name for name, _ in pairs), parts, strict=True))
    return (dict(made) if kind == "dict" else made), at


def _contained(value: Any, like: Any) -> Any:
    """Return the value in the containers that a placeholder's type records."""
    if isinstance(like, Placeholder):
        return _typed(value, like.type_signature)
    if isinstance(like, Mapping) and isinstance(value, Mapping):
        container: Any = type(value)
        return container((k, _contained(v, like.get(k))) for k, v in value.items())
    named = _named(like)
    if named is not None and isinstance(value, list | tuple | Mapping) and len(value) == len(named):
        names = [name for name, _ in named]
        content = value if isinstance(value, Mapping) else dict(zip(names, value, strict=True))
        if all(name in content for name in names):
            parts = {str(name): _contained(content[name], part) for name, part in named}
            return type(like)(*parts.values()) if isinstance(like, tuple) else type(like)(**parts)
    if isinstance(like, list | tuple) and isinstance(value, list | tuple) and len(like) == len(value):
        return type(value)([_contained(v, part) for v, part in zip(value, like, strict=True)])
    return value


def _typed(value: Any, type_: Type) -> Any:
    if isinstance(type_, FederatedType):
        if isinstance(value, list) and not type_.all_equal:
            return [_typed(v, type_.member) for v in value]
        return _typed(value, type_.member)
    if isinstance(type_, SequenceType):
        return [_typed(v, type_.element) for v in value]
    if isinstance(type_, StructType):
        parts = list(value.values()) if isinstance(value, Mapping) else list(value)
        return rebuild(type_, [_typed(v, t) for v, t in zip(parts, type_, strict=True)])
    return value


def replicate(comm: Communicator, value: Any) -> Any:
    """Return rank 0's value on every rank (collective)."""
    with Round(comm, "replicate") as step:
        data: Any = step.attempt(lambda: encode(value)) if comm.rank == 0 else None
        step.check_in("replicate", UNKNOWN)
        if comm.size > 1:
            data = comm.bcast_bytes(data, root=0)
    return value if comm.rank == 0 else decode(data, value)
