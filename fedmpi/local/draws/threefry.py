"""Threefry-2x32 with 20 rounds, the counter-based generator under all draws.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC11, 2011.  A key of
two words and a counter of two words give two words; equal ones give equal words, and nothing is kept between calls.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

_PARITY = np.uint32(0x1BD11BDA)
# What keys are made of is not what numbers are drawn from: these words are added to the key modulo 2.
_FOLD, _SPLIT = np.uint32(0x666F6C64), np.uint32(0x73706C74)
_U32 = np.uint64(0xFFFFFFFF)


@jit
def rotated(word: Any, by: Any) -> Any:
    """Return a uint32 turned left."""
    return np.uint32(np.uint32(word << np.uint32(by)) | np.uint32(word >> np.uint32(32 - by)))


@jit
def block(key0: Any, key1: Any, counter0: Any, counter1: Any) -> Any:
    """Return the two uint32 words of a key and a counter."""
    key2 = np.uint32(key0 ^ key1 ^ _PARITY)
    x, y = np.uint32(counter0 + key0), np.uint32(counter1 + key1)
    keys = (key0, key1, key2)
    for group in range(5):
        turns = (13, 15, 26, 6) if group % 2 == 0 else (17, 29, 16, 24)
        for i in range(4):
            x = np.uint32(x + y)
            y = np.uint32(rotated(y, turns[i]) ^ x)
        x = np.uint32(x + keys[(group + 1) % 3])
        y = np.uint32(y + keys[(group + 2) % 3] + np.uint32(group + 1))
    return x, y


@jit
def word(key: Any, number: Any) -> Any:
    """Return word ``number`` of 64 bits that a key gives."""
    x, y = block(key[0], key[1], np.uint32(np.uint64(number) >> np.uint64(32)), np.uint32(np.uint64(number) & _U32))
    return (np.uint64(x) << np.uint64(32)) | np.uint64(y)


@jit
def key_of(seed: Any) -> Any:
    """Return the key of an integer: its 64 bits."""
    bits = np.uint64(np.int64(seed))
    key = np.empty(2, np.uint32)
    key[0], key[1] = np.uint32(bits >> np.uint64(32)), np.uint32(bits & _U32)
    return key


@jit
def folded(key: Any, number: Any) -> Any:
    """Return the key of a key and an integer."""
    bits = np.uint64(np.int64(number))
    made = np.empty(2, np.uint32)
    key0, key1 = np.uint32(key[0] ^ _FOLD), np.uint32(key[1] ^ _FOLD)
    made[0], made[1] = block(key0, key1, np.uint32(bits >> np.uint64(32)), np.uint32(bits & _U32))
    return made


@jit
def several(key: Any, count: Any) -> Any:
    """Return ``count`` keys of a key, uint32[count, 2]."""
    made = np.empty((count, 2), np.uint32)
    key0, key1 = np.uint32(key[0] ^ _SPLIT), np.uint32(key[1] ^ _SPLIT)
    for i in range(count):
        made[i, 0], made[i, 1] = block(key0, key1, np.uint32(0), np.uint32(i))
    return made
