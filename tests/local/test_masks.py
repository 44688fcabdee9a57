"""Masks of secure sums: the cipher by its standard's test vector, and that the masks of all ranks cancel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.local.sums import masks

KEY = np.arange(32, dtype=np.uint8).view(np.uint32)


def test_key_stream_is_that_of_rfc_8439():
    """RFC 8439, section 2.3.2."""
    words = np.zeros(8, np.uint64)
    nonce = np.frombuffer(bytes.fromhex("000000090000004a00000000"), np.uint32)
    masks.key_stream(KEY, 1, nonce, words)
    assert words.view(np.uint8).tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


@given(st.lists(st.integers(0, 4), max_size=25), st.sampled_from([None, 1, 2, 1000, 2**62]))
@settings(max_examples=150, deadline=None)
def test_masks_of_all_ranks_cancel(owner, modulus):
    owner, limit = np.array(owner, np.int64), np.uint64(0 if modulus is None else modulus - 1)
    sums = []
    for rank in range(5):
        mine, pairs = np.zeros(11, np.uint64), masks.boundary(owner, rank)
        masks.add_masks(mine, np.int64(1), np.int64(9), limit, modulus is not None, KEY, np.int64(7), pairs)
        sums.append([int(word) for word in mine])
        alone = len(set(owner.tolist()) - {rank}) == 0
        assert bool(len(pairs)) == (rank in owner and not alone)
        if len(pairs) and modulus in (None, 2**62):
            assert all(mine[1:10])
    assert [sum(column) % (modulus or 2**64) for column in zip(*sums, strict=True)] == [0] * 11


def test_neighbours_are_mutual_and_few():
    owner = np.arange(100)
    pairs = {tuple(pair) for rank in range(100) for pair in masks.boundary(owner, rank).tolist()}
    assert pairs == {(b, a) for a, b in pairs}
    assert len(pairs) == 100 * 2 * masks.NEIGHBOURS
    assert len(masks.boundary(np.arange(2), 0)) == 1
    assert sorted(other for _, other in masks.boundary(np.arange(4), 0).tolist()) == [1, 2, 3]


def test_a_rank_draws_masks_at_its_borders_alone():
    owner = np.random.default_rng(0).integers(0, 3, 1000)
    borders = 2 * sum(range(1, masks.NEIGHBOURS + 1))
    assert [len(masks.boundary(owner, rank)) for rank in range(3)] == [borders] * 3


def test_masks_differ_between_reductions_and_pairs():
    drawn = []
    for number, pair in ((1, (0, 1)), (2, (0, 1)), (1, (0, 2)), (1, (1, 2))):
        sums = np.zeros(20, np.uint64)
        masks.add_masks(sums, np.int64(0), np.int64(20), np.uint64(0), False, KEY, np.int64(number), np.array([pair]))
        drawn += sums.tolist()
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64, np.uint64])
def test_numbers_inside_and_outside(dtype):
    sums = np.array([2**64 - 1, 3], np.uint64)
    masks.add_inside(sums, np.int64(0), np.array([5, 0], dtype), np.uint64(5), False)
    assert sums.tolist() == [4, 3]
    masks.expect_inside(np.array([5, 0], dtype), np.uint64(5))
    for wrong in [6, *([] if np.dtype(dtype).kind == "u" else [-1])]:
        text = f"must be in 0 … 5, found a {'negative' if wrong < 0 else 'greater'} one"
        with pytest.raises(ValueError, match=text):
            masks.expect_inside(np.array([0, wrong], dtype), np.uint64(5))
        with pytest.raises(ValueError, match=text):
            masks.check_inside(np.array([0, wrong], dtype), 5)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(1, 2**62), st.integers(0, 2**62))
def test_modular_numbers(number, modulus, before):
    sums = np.array([before % modulus], np.uint64)
    masks.add_inside(sums, np.int64(0), np.array([number], np.int64), np.uint64(modulus - 1), True)
    assert int(sums[0]) == (before + number) % modulus
