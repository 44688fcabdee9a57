"""Keys that have been met: so that a rank makes the part of a key once, whichever of its clients has that key."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.kernel import jit


@jit
def find_key(table: Any, key: Any, max_key: Any) -> Any:
    """Return the row of a key in table int64[rows, 2], or the empty row where it belongs.

    A row holds a key plus one, or 0, and a number; the rows are a power of two, half of them empty at least.  Raises
    `ValueError` for a key that is not in 0 to max_key.
    """
    if key < 0 or key > max_key:
        raise ValueError("a key is not in 0 to max_key")
    last = table.shape[0] - 1
    at = (np.int64(key) * 40503) & last
    while table[at, 0] != 0 and table[at, 0] != key + 1:
        at = (at + 1) & last
    return at
