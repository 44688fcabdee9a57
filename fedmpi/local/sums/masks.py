"""Secure sums: integers under masks that cancel in the sum over all clients (docs/secure.md says what that protects).

Clients stand in a circle, those of a rank side by side; each shares a mask with `NEIGHBOURS` clients on either side
(all others, if there are few).  Of a pair one adds its mask, the other takes it away, modulo 2^64, or modulo the
modulus of a modular sum.  The masks of a pair are the key stream of ChaCha20 (RFC 8439), with the reduction and the
pair as the nonce, under a key that the server gets only if it hosts clients.  Pairs whose clients are both on this rank
cancel before anything is sent, so they are not drawn at all.

(K. Bonawitz et al., "Practical secure aggregation for privacy-preserving machine learning", CCS 2017; few neighbours
instead of all: J. Bell et al., "Secure single-server aggregation with (poly)logarithmic overhead", CCS 2020.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.local.jit.kernel import jit

NEIGHBOURS = 4
KEY_WORDS = 8  # uint32: a key of 256 bits
_WORDS = 8  # uint64 of one block of the cipher
_SIGMA = np.array([0x61707865, 0x3320646E, 0x79622D32, 0x6B206574], np.uint32)  # "expand 32-byte k"
_LOW = np.uint64(0xFFFFFFFF)


def check_inside(array: Any, limit: int) -> None:
    """Raise `ValueError` if an integer is negative or above the limit."""
    wrong = next((n for n in np.asarray(array).reshape(-1).tolist() if not 0 <= n <= limit), None)
    if wrong is not None:
        raise OutsideError(wrong < 0, limit)


class OutsideError(ValueError):
    """Makes the ValueError in Python: to put the limit into its text would take Numba a second to compile.

    The text goes to all ranks, so the client's number is not in it.
    """

    def __new__(cls, negative: bool, limit: int) -> Any:
        found = "a negative one" if negative else "a greater one"
        return ValueError(f"a number of a secure sum must be in 0 … {limit}, found {found}")


@jit
def expect_inside(x: Any, limit: Any) -> None:
    """Raise `ValueError` if one of the integers x[n] is negative or above ``limit``."""
    for i in range(x.size):
        expect_one_inside(x[i], limit)


@jit
def expect_one_inside(x: Any, limit: Any) -> None:
    """Raise `ValueError` if an integer is negative or above ``limit``."""
    if x < 0 or np.uint64(np.int64(x)) > limit:
        raise OutsideError(x < 0, limit)


@jit
def add_inside(sums: Any, at: Any, x: Any, limit: Any, modular: Any) -> None:
    """Add integers x[n], whose limits are checked, to sums uint64 from ``at`` on, modulo 2^64.

    Modular ones are added modulo limit + 1, whatever they are.
    """
    for i in range(x.size):
        add_one_inside(sums, at + i, x[i], limit, modular)


@jit
def add_one_inside(sums: Any, at: Any, x: Any, limit: Any, modular: Any) -> None:
    """Add one integer; see `add_inside`."""
    if modular:
        modulus = limit + np.uint64(1)
        number = np.int64(x)
        rest = limit - np.uint64(-(number + 1)) % modulus if x < 0 else np.uint64(number) % modulus
        sums[at] = (sums[at] + rest) % modulus
    else:
        sums[at] += np.uint64(np.int64(x))


def boundary(owner: Any, rank: int) -> Any:
    """Return the pairs of which one client is this rank's and the other is not, int64[pairs, 2], mine first.

    ``owner`` int[clients] gives each client's rank.
    """
    clients = len(owner)
    reach = min(NEIGHBOURS, clients // 2)
    # A rank's clients side by side: however many there are, its pairs are those at its two borders.
    circle = np.argsort(owner, kind="stable")
    mine = np.flatnonzero(owner[circle] == rank)
    pairs = []
    for step in range(1, reach + 1):
        for other in ((mine + step) % clients, (mine - step) % clients):
            across = owner[circle[other]] != rank
            pairs.append(np.stack([circle[mine[across]], circle[other[across]]], axis=1))
            if 2 * step == clients:
                break  # the client opposite stands on both sides
    return np.concatenate(pairs) if pairs else np.empty((0, 2), np.int64)


@jit
def add_masks(sums: Any, at: Any, count: Any, limit: Any, modular: Any, key: Any, number: Any, pairs: Any) -> None:
    """Add to ``count`` sums from ``at`` on the masks of ``pairs``: each that of its first client.

    Modular sums are modulo limit + 1.  Element e takes word e of a pair's key stream; ``number``, below 2^32, is that
    of no other reduction under this key.
    """
    nonce = np.zeros(3, np.uint32)
    words = np.zeros(_WORDS, np.uint64)
    nonce[0] = number
    for p in range(pairs.shape[0]):
        mine, other = pairs[p, 0], pairs[p, 1]
        nonce[1], nonce[2] = min(mine, other), max(mine, other)
        block = -1
        for e in range(at, at + count):
            if e // _WORDS != block:
                block = e // _WORDS
                key_stream(key, block, nonce, words)
            mask = words[e % _WORDS]
            if modular:
                modulus = limit + np.uint64(1)
                mask %= modulus
                if mine > other and mask != 0:
                    mask = modulus - mask
                total = sums[e] + mask
                sums[e] = total - modulus if total >= modulus else total
            else:
                sums[e] += mask if mine < other else np.uint64(0) - mask


@jit
def key_stream(key: Any, counter: Any, nonce: Any, words: Any) -> None:
    """Write block ``counter`` of ChaCha20's key stream into words uint64[8] (RFC 8439, section 2.3).

    ``key`` uint32[8], ``nonce`` uint32[3]; two words of the cipher make one of 64 bits, the first the lower half.
    """
    start = np.empty(16, np.uint32)
    start[:4] = _SIGMA
    for i in range(8):
        start[4 + i] = key[i]
    start[12] = counter
    for i in range(3):
        start[13 + i] = nonce[i]
    state = start.copy()
    for _ in range(10):
        for i in range(4):  # columns
            _quarter(state, i, 4 + i, 8 + i, 12 + i)
        for i in range(4):  # diagonals
            _quarter(state, i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4)
    for i in range(_WORDS):
        low, high = np.uint64(state[2 * i]), np.uint64(state[2 * i + 1])
        low = (low + np.uint64(start[2 * i])) & _LOW
        high = (high + np.uint64(start[2 * i + 1])) & _LOW
        words[i] = low | (high << np.uint64(32))


@jit
def _quarter(state: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    """The quarter round of RFC 8439, section 2.1."""
    _mix(state, a, b, d, 16)
    _mix(state, c, d, b, 12)
    _mix(state, a, b, d, 8)
    _mix(state, c, d, b, 7)


@jit
def _mix(state: Any, a: Any, b: Any, d: Any, turn: Any) -> None:
    """state[a] += state[b]; state[d] = (state[d] ^ state[a]) turned left: of 32 bits, which Numba widens."""
    total = (np.uint64(state[a]) + np.uint64(state[b])) & _LOW
    state[a] = np.uint32(total)
    mixed = np.uint64(state[d]) ^ total
    state[d] = np.uint32(((mixed << np.uint64(turn)) | (mixed >> np.uint64(32 - turn))) & _LOW)
