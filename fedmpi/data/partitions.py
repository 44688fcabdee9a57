"""Partitions of a data set among clients: `by_digit`, the tutorial's."""

from __future__ import annotations

import operator
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from fedmpi.data.mnist import DIGITS, Split

Batch = OrderedDict[str, NDArray[np.float32] | NDArray[np.int32]]

# float32(u / 255.0) for every pixel value: the division in float64, rounded once, as the tutorial computes it.
PIXEL = (np.arange(256) / 255.0).astype(np.float32)


def by_digit(
    split: Split, examples: int | None = 1000, batch_size: int = 100, clients: int = DIGITS
) -> list[list[Batch]]:
    """The tutorial's clients: client d holds the first `examples` (None: all) examples of digit d, in batches.

    Each client is a list of batches ``OrderedDict(x=float32[n, 784], y=int32[n])`` in the order of `split`, the last
    one shorter where it must be; a client without examples is an empty list.  With more clients, digit d goes to the
    clients d, d + 10, d + 20, …, which divide its chosen examples contiguously into parts that differ by one example at
    most.  The batches of a client are views of one array.  Raises TypeError or ValueError for bad arguments.
    """
    if not isinstance(split, Split):
        raise TypeError(f"by_digit: split must be a Split such as mnist().train, found {type(split).__name__}")
    limit = None if examples is None else _count("examples", examples, 0)
    size, clients = _count("batch_size", batch_size, 1), _count("clients", clients, DIGITS)
    rows_of: list[NDArray[np.intp]] = [np.empty(0, np.intp)] * clients
    for digit in range(DIGITS):
        rows = np.flatnonzero(split.labels == digit)[:limit]
        holders = range(digit, clients, DIGITS)
        for client, part in zip(holders, np.array_split(rows, len(holders)), strict=True):
            rows_of[client] = part
    return [_batches(split, rows, size) for rows in rows_of]


def _batches(split: Split, rows: NDArray[np.intp], size: int) -> list[Batch]:
    x = PIXEL[split.images[rows].reshape(len(rows), 784)]
    y = split.labels[rows].astype(np.int32)
    return [OrderedDict(x=x[at : at + size], y=y[at : at + size]) for at in range(0, len(rows), size)]


def _count(name: str, value: int, least: int) -> int:
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        count = operator.index(value)
    except TypeError:
        raise TypeError(f"by_digit: {name} must be a whole number, found {value!r}") from None
    if count < least:
        raise ValueError(f"by_digit: {name} must be at least {least}, found {count}")
    return count
