"""``federated_select`` for clients that are run client by client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.types import SequenceType, Type
from fedmpi.local.columns.column import PackedSequence, pack


class Selection:
    """Makes the parts of a server's value that a client has keys of; each key's once, whichever clients have it."""

    def __init__(self, function: Callable[[np.int32], Any], max_key: int, result: Type) -> None:
        assert isinstance(result, SequenceType)
        self._function, self._max_key, self._element = function, max_key, result.element
        self._made: dict[int, Any] = {}

    def __call__(self, keys: Any) -> PackedSequence:
        """Return the parts of keys int32[n]; raise `ValueError` for a key outside of 0 … ``max_key``."""
        parts = [self._part(key) for key in keys.tolist()]
        return PackedSequence(pack(self._element, parts), 0, len(parts))

    def _part(self, key: int) -> Any:
        if not 0 <= key <= self._max_key:
            from fedmpi.local.loops.met_keys import KeyOutsideError  # it loads Numba

            raise KeyOutsideError(key, self._max_key)
        if key not in self._made:
            self._made[key] = self._function(np.int32(key))
        return self._made[key]
