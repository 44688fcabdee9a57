"""Keys that have been met: so that a rank makes the part of a key once, whichever of its clients has that key."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 by the golden ratio: D. Knuth, The Art of Computer Programming, 6.4


class KeyOutsideError(ValueError):
    """Makes the ValueError in Python: to put the numbers into its text would take Numba a second to compile."""

    def __new__(cls, key: int, max_key: int) -> Any:
        return ValueError(f"a key is not in 0 to max_key: {key} is not in 0 … {max_key}")


@jit
def find_key(table: Any, key: Any, max_key: Any) -> Any:
    """Return the row of a key in table int64[rows, 2], or the empty row where it belongs.

    A row holds a key plus one, or 0, and a number; the rows are a power of two, half of them empty at least.  Raises
    `ValueError` for a key that is not in 0 to max_key.
    """
    if key < 0 or key > max_key:
        raise KeyOutsideError(key, max_key)
    last = table.shape[0] - 1
    mixed = np.uint64(key) * _GOLDEN
    at = np.int64(mixed >> np.uint64(32)) & last  # its upper half: the lower one of an even key is even
    while table[at, 0] != 0 and table[at, 0] != key + 1:
        at = (at + 1) & last
    return at
