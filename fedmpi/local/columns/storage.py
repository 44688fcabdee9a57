"""In which form a column stores its float leaves: as they are, as bytes, or only what is not zero.

=============  =====================================================================================================
storage        float leaves
=============  =====================================================================================================
``"auto"``     bytes where all numbers are u / 255.0 for a byte u (pixels; features of 0 and 1), else dense
``"dense"``    dense
``"bytes"``    bytes; a number that is no u / 255.0 is an error
``"sparse"``   ``float[?, d]`` as compressed sparse rows, others as with "auto"
``"density"``  "sparse" where less than a quarter of the numbers are not zero and all are finite, else "auto"
=============  =====================================================================================================

Bytes need a tensor with a dimension of known size besides ``?``.  A memory map stays as it is with "auto", which would
read all of it.  Nothing is lost: an element read is the same to the
bit.  Which form a leaf gets depends on the values of all clients, wherever they are: each rank surveys its own, the
surveys are added, and every rank stores alike.
"""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from fedmpi.language.types import TensorType, Type
from fedmpi.local.columns.column import Array, Column, Leaf, form, layout, leaves
from fedmpi.local.columns.pixels import first_other, narrow
from fedmpi.local.columns.sparse import compressed, count_stored

STORAGES = ("auto", "dense", "bytes", "sparse", "density")
# int64[leaves, 4]: numbers, whether some is no u / 255.0, numbers not zero, whether some is not finite (0: not asked).
Survey = np.ndarray[Any, np.dtype[np.int64]]
_OTHERS = 1


class NotBytes(Exception):
    """A number of value ``position`` of a column is no u / 255.0."""

    def __init__(self, position: int, path: tuple[str, ...], tensor: TensorType, value: Any) -> None:
        super().__init__(position, path, tensor, value)
        self.position, self.path, self.tensor, self.value = position, path, tensor, value


def check_storage(storage: str, operation: str) -> None:
    """Raise `ValueError` for a word that is none of `STORAGES`."""
    if storage not in STORAGES:
        words = ", ".join(map(repr, STORAGES[:-1]))
        raise ValueError(f"{operation}: storage must be {words} or {STORAGES[-1]!r}, found {storage!r}")


def may_be_bytes(tensor: TensorType) -> bool:
    """Tell whether a leaf can be stored as bytes: floats in rows of known size."""
    if tensor.dtype not in (np.float32, np.float64) or layout(tensor) not in ("fixed", "rows"):
        return False
    return any(d is not None for d in tensor.shape or ())


def may_be_sparse(tensor: TensorType) -> bool:
    """Tell whether a leaf can be stored as compressed sparse rows."""
    shape = tensor.shape or ()
    return may_be_bytes(tensor) and layout(tensor) == "rows" and len(shape) == 2 and (shape[1] or 0) < 2**31


def form_for(tensor: TensorType, storage: str, seen: Array) -> str:
    """Return the form of a leaf, "dense", "bytes" or "sparse", from its row of the survey of all clients."""
    numbers, others, stored, wild = (int(n) for n in seen)
    if may_be_sparse(tensor) and (storage == "sparse" or (storage == "density" and 4 * stored < numbers and not wild)):
        return "sparse"
    return "bytes" if may_be_bytes(tensor) and storage != "dense" and numbers and not others else "dense"


def chooses(type_: Type, storage: str) -> bool:
    """Tell whether values have to be looked at to store a type."""
    return storage != "dense" and any(may_be_bytes(leaf.type) for leaf in leaves(type_))


def survey(column: Column, storage: str) -> Survey:
    """Return what decides the forms of a column's dense leaves; surveys of several ranks are added.

    Raises `NotBytes` for ``storage="bytes"`` and a number that is none.
    """
    found = np.zeros((len(leaves(column.type)), 4), dtype=np.int64)
    for row, leaf in zip(found, leaves(column.type), strict=True):
        data = column.arrays[leaf.at]
        if not may_be_bytes(leaf.type) or storage == "dense" or form(data, leaf.type) != "dense":
            continue
        if storage == "auto" and is_mapped(data):
            continue
        row[:] = _survey_data(_used(column, leaf), leaf.type, storage)
        if storage == "bytes" and row[_OTHERS]:
            raise _not_bytes(column, leaf)
    return found


def is_mapped(array: Any) -> bool:
    """Tell whether an array is a view of a memory map."""
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return isinstance(array, mmap.mmap)


def _used(column: Column, leaf: Leaf) -> Array:
    """Return the part of a leaf's data that belongs to values: shared arrays may have more."""
    data: Array = column.arrays[leaf.at]
    return data[slice(*column.arrays[leaf.at + 1][[0, -1]])] if layout(leaf.type) == "rows" else data


def _survey_data(data: Array, tensor: TensorType, storage: str) -> tuple[int, int, int, int]:
    if storage == "sparse" and may_be_sparse(tensor):
        return data.size, 0, 0, 0
    others = int(first_other(data) >= 0)
    if storage != "density" or not may_be_sparse(tensor):
        return data.size, others, 0, 0
    return data.size, others, count_stored(data), int(not _all_finite(data))


def _all_finite(data: Array) -> bool:
    step = 1 << 20
    flat = data.reshape(-1)
    return all(bool(np.isfinite(flat[at : at + step]).all()) for at in range(0, flat.size, step))


def _not_bytes(column: Column, leaf: Leaf) -> NotBytes:
    data = _used(column, leaf)
    at = first_other(data)
    position, number = divmod(at, int(np.prod(data.shape[1:], dtype=np.int64)))
    if layout(leaf.type) == "rows":
        offsets = column.arrays[leaf.at + 1]
        position = int(np.searchsorted(offsets, offsets[0] + position, "right")) - 1
    if leaf.sequence is not None:
        position = int(np.searchsorted(column.arrays[leaf.sequence], position, "right")) - 1
    return NotBytes(position, *leaf.tensor(number), data.reshape(-1)[at])


def stored(column: Column, storage: str, seen: Survey) -> Column:
    """Return a column with its dense leaves in the forms that the survey of all clients decides."""
    arrays = list(column.arrays)
    for row, leaf in zip(seen, leaves(column.type), strict=True):
        wanted = form_for(leaf.type, storage, row)
        if wanted == "sparse":
            arrays[leaf.at] = compressed(arrays[leaf.at])
        elif wanted == "bytes":
            arrays[leaf.at] = narrow(arrays[leaf.at])
            arrays[leaf.at].flags.writeable = False
    return Column(column.type, column.count, tuple(arrays))
