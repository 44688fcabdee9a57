"""The table of keys that a rank's clients have."""

from __future__ import annotations

import numpy as np
import pytest

from fedmpi.local.loops.met_keys import find_key


@pytest.mark.parametrize("step", [1, 2, 1000, 2**16, 2**20])
def test_keys_are_found_again_and_spread(step):
    keys = np.arange(0, min(2**31, 2000 * step), step, dtype=np.int32)
    table = np.zeros((4096, 2), np.int64)
    for number, key in enumerate(keys):
        at = find_key(table, key, np.int32(2**31 - 1))
        assert table[at, 0] == 0
        table[at] = key + 1, number
    assert [table[find_key(table, key, keys[-1]), 1] for key in keys] == list(range(len(keys)))
    empty = np.flatnonzero(table[:, 0] == 0)
    assert np.diff(empty).max() < 150  # the longest walk past keys of others


@pytest.mark.parametrize("key", [-1, 5, 2**31 - 1])
def test_keys_out_of_range(key):
    with pytest.raises(ValueError, match=rf"a key is not in 0 to max_key: {key} is not in 0 … 4"):
        find_key(np.zeros((4, 2), np.int64), np.int32(key), np.int32(4))
