"""Keys and draws: the published cipher, its definition in Python's integers, distributions, the same everywhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import fedmpi as fm
from fedmpi.local.columns.comparing import difference, to_the_bit
from fedmpi.local.draws import elementary, threefry

F32, F64, I32, U32 = np.float32, np.float64, np.int32, np.uint32
random = fm.random
KEY = (U32, [2])
MASK = 0xFFFFFFFF


def block(key, counter):
    """Threefry-2x32-20 in Python's integers, from the paper."""
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    x, y = ((c + k) & MASK for c, k in zip(counter, key, strict=True))
    for r in range(20):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]
        x = (x + y) & MASK
        y = ((y << turn | y >> (32 - turn)) & MASK) ^ x
        if r % 4 == 3:
            group = r // 4 + 1
            x, y = (x + keys[group % 3]) & MASK, (y + keys[(group + 1) % 3] + group) & MASK
    return x, y


# kat_vectors of the authors' Random123: counter, key, result.
PUBLISHED = [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((MASK, MASK), (MASK, MASK), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), PUBLISHED)
def test_the_published_vectors(counter, key, result):
    assert tuple(map(int, threefry.block(*map(U32, (*key, *counter))))) == result
    assert block(key, counter) == result


def word(key, number):
    x, y = block(tuple(map(int, key)), (number >> 32, number & MASK))
    return x << 32 | y


def test_keys_by_their_definition():
    seed = 0x0123456789ABCDEF
    key = random.key(seed)
    assert key.dtype == U32
    assert key.tolist() == [0x01234567, 0x89ABCDEF]
    assert random.key(-1).tolist() == [MASK, MASK]
    fold, parts = (0x666F6C64,) * 2, (0x73706C74,) * 2
    own = tuple(map(int, key))
    for n in (0, 1, -1, 2**40):
        counter = ((n % 2**64) >> 32, n & MASK)
        assert tuple(random.fold_in(key, n).tolist()) == block(
            tuple(k ^ f for k, f in zip(own, fold, strict=True)), counter
        )
    made = random.split(key, 3)
    assert made.tolist() == [[*block(tuple(k ^ f for k, f in zip(own, parts, strict=True)), (0, i))] for i in range(3)]
    keys = {tuple(k) for k in [*random.split(key, 1000), *(random.fold_in(key, n) for n in range(1000)), key]}
    assert len(keys) == 2001


def test_draws_by_their_definition():
    key = random.key(42)
    words = [word(key, i) for i in range(6)]
    assert random.uniform(key, 6, dtype=F64).tolist() == [(w >> 11) / 2**53 for w in words]
    assert random.uniform(key, 6).tolist() == [float(F32((w >> 40) / 2**24)) for w in words]
    assert random.uniform(key, 6, -1.0, 3.0, F64).tolist() == [-1.0 + (w >> 11) / 2**53 * 4.0 for w in words]
    assert random.bernoulli(key, 0.25, 6).tolist() == [(w >> 11) / 2**53 < 0.25 for w in words]
    for low, high in ((0, 10), (-5, 7), (-(2**63), 2**63 - 1), (0, 2**62 + 3)):
        assert random.integers(key, low, high, 6).tolist() == [low + (w * (high - low) >> 64) for w in words]
    order = list(range(6))
    for i in range(5):
        j = i + (words[i] * (6 - i) >> 64)
        order[i], order[j] = order[j], order[i]
    assert random.permutation(key, 6).tolist() == order
    normal = random.normal(key, 6, F64)
    for pair in range(3):
        radius = math.sqrt(-2 * math.log(((words[2 * pair] >> 11) + 1) / 2**53))
        angle = 2 * math.pi * (words[2 * pair + 1] >> 11) / 2**53
        assert np.allclose(
            normal[2 * pair : 2 * pair + 2], (radius * math.cos(angle), radius * math.sin(angle)), rtol=1e-13
        )
    assert np.array_equal(random.normal(key, 6), normal.astype(F32))


def test_elementary_functions():
    numbers = np.random.default_rng(0).integers(1, 2**53 + 1, 500, dtype=np.uint64)
    edges = [1, 2, 3, 2**52, 2**53 - 1, 2**53, 2**50, 2**51 + 1]
    for n in map(int, [*numbers, *edges]):
        assert math.isclose(elementary.log_of_unit(np.uint64(n)), math.log(n / 2**53), rel_tol=1e-15, abs_tol=2e-16)
        cosine, sine = elementary.cosine_and_sine(np.uint64(n - 1))
        angle = 2 * math.pi * (n - 1) / 2**53
        assert math.isclose(cosine, math.cos(angle), abs_tol=1e-15)
        assert math.isclose(sine, math.sin(angle), abs_tol=1e-15)
    for x in np.random.default_rng(1).uniform(-700, 700, 300):
        assert math.isclose(elementary.exp_of(x), math.exp(x), rel_tol=1e-14)
        assert math.isclose(elementary.log_of(math.exp(x / 10)), x / 10, rel_tol=1e-13, abs_tol=1e-14)
    assert elementary.exp_of(-5000.0) == 0


def drawn(key):
    return (
        fm.random.normal(key, (3, 2)), fm.random.uniform(key, 3, -1.0, 2.0), fm.random.integers(key, 0, 10, (2, 2)),
        fm.random.bernoulli(key, 0.3, 7), fm.random.permutation(key, 6), fm.random.choice(key, 10**7, 4),
        fm.random.gamma(key, 0.5, (2,)), fm.random.normal(key), fm.random.split(key, 3),
        fm.random.uniform(key, dtype=F64),
        fm.random.normal(fm.random.fold_in(key, 2), dtype=F64), fm.random.normal(fm.random.split(key)[1], 2),
        fm.random.integers(key, 0, 200, 3, np.uint8),
    )  # fmt: skip


def test_bodies_draw_what_python_draws():
    body = fm.numba_computation(drawn, KEY)
    key = random.key(7)
    found = body(key)
    assert difference(found, tuple(np.asarray(x)[()] for x in drawn(key)), to_the_bit) == ""
    with fm.debug():
        assert difference(found, body(key), to_the_bit) == ""


def test_a_million_draws_are_the_same_in_a_body_and_in_python():
    body = fm.numba_computation(lambda key: (fm.random.normal(key, 10**6), fm.random.uniform(key, 10**6)), KEY)
    key = random.key(1)
    assert difference(body(key), (random.normal(key, 10**6), random.uniform(key, 10**6)), to_the_bit) == ""


def test_a_result_does_not_depend_on_how_many_there_are():
    key = random.key(3)
    for draw in (
        random.normal,
        random.uniform,
        lambda k, n: random.gamma(k, 2.0, n),
        lambda k, n: random.bernoulli(k, 0.5, n),
    ):
        many = draw(key, 20)
        for n in range(20):
            assert np.array_equal(draw(key, n), many[:n])
    assert np.array_equal(random.choice(key, 50, 10), random.permutation(key, 50)[:10])
    assert np.array_equal(random.uniform(key, (4, 5)), random.uniform(key, 20).reshape(4, 5))
    assert np.ndim(random.normal(key)) == 0


def test_distributions():
    """Kolmogorov and Smirnov's test, and chi-square for what is counted; each fails once in ten thousand keys."""
    key, n = random.key(2026), 50_000
    for found, wanted in (
        (random.uniform(key, n, dtype=F64), stats.uniform()),
        (random.uniform(key, n, -3.0, 5.0, F64), stats.uniform(-3, 8)),
        (random.normal(key, n, F64), stats.norm()), (random.normal(key, n, F64)[::2], stats.norm()),
        *((random.gamma(key, a, n), stats.gamma(a)) for a in (0.1, 0.7, 1.0, 4.5, 100.0)),
        (random.dirichlet(key, [0.5, 1.0, 2.5], n)[:, 0], stats.beta(0.5, 3.5)),
        (np.array([random.uniform(random.fold_in(key, i), dtype=F64) for i in range(5000)]), stats.uniform()),
    ):  # fmt: skip
        assert stats.kstest(found, wanted.cdf).pvalue > 1e-4
    assert abs(random.bernoulli(key, 0.3, n).mean() - 0.3) < 0.01
    for counts in (
        np.bincount(random.integers(key, 0, 7, n)), np.bincount(random.integers(key, -2, 5, n) + 2),
        np.bincount([random.choice(random.fold_in(key, i), 6, 2)[1] for i in range(6000)]),
        np.bincount([random.permutation(random.fold_in(key, i), 5)[-1] for i in range(5000)]),
    ):  # fmt: skip
        assert stats.chisquare(counts).pvalue > 1e-4
    pairs = random.normal(key, (n, 2), F64)
    assert abs(np.corrcoef(pairs.T)[0, 1]) < 0.02
    assert abs(np.corrcoef(pairs[:-1, 0], pairs[1:, 0])[0, 1]) < 0.02


def test_shares_add_up_however_tiny_the_shapes_are():
    shares = random.dirichlet(random.key(0), np.full(10, 1e-3), (50, 2))
    assert shares.shape == (50, 2, 10)
    assert np.allclose(shares.sum(axis=-1), 1)
    assert np.all(np.isfinite(shares))


def test_choices_are_different_clients():
    for n, k in ((1, 1), (5, 0), (5, 5), (1000, 999), (10**12, 1000)):
        found = random.choice(random.key(n), n, k)
        assert len(set(found.tolist())) == k
        assert all(0 <= i < n for i in found)


def test_in_a_traced_program():
    program = fm.federated_computation(
        lambda key, n: (
            fm.random.normal(fm.random.fold_in(key, n), (2,)), fm.random.integers(key, 0, n, 3), fm.random.split(key),
            fm.random.choice(key, 100, 2), fm.random.normal(fm.random.key(n)), fm.random.bernoulli(key, 0.5),
        ),
        KEY, np.int64,
    )  # fmt: skip
    key = random.key(9)
    wanted = (
        random.normal(random.fold_in(key, 5), (2,)), random.integers(key, 0, 5, 3), random.split(key),
        random.choice(key, 100, 2), random.normal(random.key(5)), random.bernoulli(key, 0.5),
    )  # fmt: skip
    assert difference(program(key, 5), tuple(np.asarray(x)[()] for x in wanted), to_the_bit) == ""


KEY7 = random.key(7)


@pytest.mark.parametrize(
    ("call", "kind", "text"),
    [
        (lambda: random.normal([1, 2]), TypeError, r"normal: key must be a key, uint32\[2\] .*, found a list of 2"),
        (lambda: random.normal(np.zeros(3, U32)), TypeError, r"found uint32\[3\]"),
        (lambda: random.normal(KEY7, -1), ValueError, r"shape must have sizes from 0, found \[-1\]"),
        (lambda: random.normal(KEY7, 2.5), TypeError, "shape must be an integer, found float 2.5"),
        (lambda: random.normal(KEY7, dtype=np.int32), TypeError, "dtype must be one of float32, float64, found"),
        (lambda: random.uniform(KEY7, 3, 2, 1), ValueError, "low must be below high, both finite, found 2 and 1"),
        (lambda: random.uniform(KEY7, 3, 0, math.nan), ValueError, "low must be below high"),
        (lambda: random.integers(KEY7, 0, 300, 3, np.uint8), ValueError, "uint8 holds 0 to 255, found 0 and 300"),
        (lambda: random.integers(KEY7, 3, 3), ValueError, "low must be below high"),
        (lambda: random.bernoulli(KEY7, 1.5), ValueError, "p must be from 0 to 1, found 1.5"),
        (lambda: random.choice(KEY7, 3, 5), ValueError, "k must be from 0 to n, found 5 of 3"),
        (lambda: random.permutation(KEY7, -1), ValueError, "n must be from 0, found -1"),
        (lambda: random.key("a"), TypeError, "seed must be an integer, found str 'a'"),
        (lambda: random.key(2**64), ValueError, "seed must be an integer of 64 bits"),
        (lambda: random.fold_in(KEY7, 1.0), TypeError, "n must be an integer, found float 1.0"),
        (lambda: random.split(KEY7, -1), ValueError, "num must be from 0, found -1"),
        (lambda: random.gamma(KEY7, 0), ValueError, "alpha must be positive and finite, found 0"),
        (lambda: random.dirichlet(KEY7, [1.0, -1.0]), ValueError, "alpha must be a vector of positive numbers"),
        (lambda: fm.numba_computation(lambda x: fm.random.normal(x), F32), TypeError, "key must be a key, uint32"),
        (lambda: fm.numba_computation(lambda x: fm.random.normal(x), F32, result=F32), TypeError, "key must be a key"),
        (lambda: fm.federated_computation(lambda x: fm.random.normal(x), F32), TypeError, "key must be uint32"),
        (lambda: fm.federated_computation(lambda k, n: random.split(k, n), KEY, I32), TypeError, "num must be known"),
        (lambda: fm.numba_computation(lambda k: random.choice(k, 3, 5), KEY)(KEY7), ValueError, "k must be"),
    ],
)  # fmt: skip
def test_what_is_refused(call, kind, text):
    with pytest.raises(kind, match=text):
        call()


def test_a_body_checks_what_it_is_given():
    for function, text in (
        (lambda k, n: fm.random.choice(k, n, 5), "choice: k must be from 0 to n"),
        (lambda k, n: fm.random.integers(k, 5, n), "integers: low must be below high"),
        (lambda k, n: fm.random.permutation(k, n - 9), "permutation: n must be from 0"),
        (lambda k, n: fm.random.bernoulli(k, n / 2), "bernoulli: p must be from 0 to 1"),
        (lambda k, n: fm.random.uniform(k, (), n, 1.0), "uniform: low must be below high"),
    ):
        body = fm.numba_computation(function, KEY, np.int64, result=_result(function))
        with pytest.raises(ValueError, match=text):
            body(KEY7, 3)


def _result(function):
    name = function.__code__.co_names[2] if len(function.__code__.co_names) > 2 else ""
    return {"choice": (np.int64, [None]), "permutation": (np.int64, [None]), "integers": np.int64}.get(
        name, np.bool_ if name == "bernoulli" else F32
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda key: F32(np.random.normal()), lambda key: F32(np.random.default_rng(3).standard_normal()),
        lambda key: F32(GENERATOR.standard_normal()),
    ],
)  # fmt: skip
def test_other_random_numbers_are_refused_by_name(function):
    with pytest.raises(
        TypeError, match=r"pass a key and draw with fm\.random: fm\.random\.normal\(fm\.random\.fold_in"
    ):
        fm.numba_computation(function, np.int64)


GENERATOR = np.random.default_rng(0)
