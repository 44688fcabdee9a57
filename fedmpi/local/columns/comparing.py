"""Whether two results are the same, and where they first are not: for debug mode and the tests.

Results may be normalised or as a program gets them.  What counts as the same number is the caller's to say: most want
every bit, but for those of NaN (`but_for_nan`).  `fedmpi verify` compares hashes, which are equal where no bit differs
(`to_the_bit`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fedmpi.language.types.containers import unpack
from fedmpi.local.columns.column import PackedSequence
from fedmpi.local.columns.flat import Flat

Array = np.ndarray[Any, Any]
Same = Callable[[Array, Array], Any]  # for two arrays of one dtype and shape: which of their elements are the same


def to_the_bit(found: Array, wanted: Array) -> Any:
    """Tell which elements have the same bits, NaN included."""
    if found.dtype.hasobject:
        return found == wanted
    return (_bytes(found) == _bytes(wanted)).all(axis=-1).reshape(found.shape)


def but_for_nan(found: Array, wanted: Array) -> Any:
    """Tell which elements have the same bits, or are NaN both: -0.0 is not 0.0."""
    return to_the_bit(found, wanted) | _both_nan(found, wanted)


def as_numbers(found: Array, wanted: Array) -> Any:
    """Tell which elements are equal, or NaN both: -0.0 is 0.0."""
    return (found == wanted) | _both_nan(found, wanted)


def difference(found: Any, wanted: Any, same: Same = but_for_nan, path: str = "") -> str:
    """Return where and how a result first differs from another, ``[1].weights: 3.0 against 4.0 at [2, 0]``, or "".

    Containers must be of one class; tensors must have one dtype and one shape, and ``same`` elements.
    """
    problem = _unlike(found, wanted, same)
    if problem:
        return f"{path}: {problem}" if path else problem
    parts = _parts(wanted) or []
    for (step, part), (_, other) in zip(_parts(found) or [], parts, strict=True):
        if inside := difference(part, other, same, path + step):
            return inside
    return ""


def _unlike(found: Any, wanted: Any, same: Same) -> str:
    """Return how two values differ that have no parts, or whose parts are others; "" if they do not."""
    if _class(found) is not _class(wanted):
        return f"{type(found).__name__} against {type(wanted).__name__}"
    if isinstance(wanted, np.ndarray | np.generic):
        return _tensors_unlike(np.asarray(found), np.asarray(wanted), same)
    ours, theirs = _parts(found), _parts(wanted)
    if ours is None or theirs is None:
        alike = found == wanted or (found != found and wanted != wanted)
        return "" if alike else f"{found!r} against {wanted!r}"
    if len(ours) != len(theirs):
        return f"{len(ours)} elements against {len(theirs)}"
    names, others = ([step for step, _ in parts] for parts in (ours, theirs))
    return "" if names == others else f"elements {', '.join(names)} against {', '.join(others)}"


def _class(value: Any) -> type:
    return tuple if isinstance(value, Flat) else type(value)


def _tensors_unlike(found: Array, wanted: Array, same: Same) -> str:
    if found.dtype != wanted.dtype:
        return f"{found.dtype} against {wanted.dtype}"
    if found.shape != wanted.shape:
        return f"shape {list(found.shape)} against {list(wanted.shape)}"
    with np.errstate(all="ignore"):
        alike = np.asarray(same(found, wanted), bool)
    if alike.all():
        return ""
    index = tuple(int(i) for i in np.unravel_index(int(np.argmin(alike)), alike.shape))
    ours, theirs = (repr(a[index]) if a.dtype.hasobject else str(a[index]) for a in (found, wanted))
    text = f"{ours} against {theirs}" if ours != theirs else f"{ours} against the same in other bits"
    return f"{text} at {list(index)}" if index else text


def _parts(value: Any) -> list[tuple[str, Any]] | None:
    """Return the parts of a container, each with how Python gets at it; None if the value is none."""
    if isinstance(value, Mapping):
        return [(f".{key}" if isinstance(key, str) else f"[{key!r}]", part) for key, part in value.items()]
    named = [(None, part) for part in value] if isinstance(value, PackedSequence) else unpack(value)
    if named is None:
        return None
    return [(f"[{i}]" if name is None else f".{name}", part) for i, (name, part) in enumerate(named)]


def _both_nan(found: Array, wanted: Array) -> Any:
    return (found != found) & (wanted != wanted)


def _bytes(array: Array) -> Array:
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.dtype.itemsize)
