"""Secure sums on these ranks: exact, refused outside of their limits, and masked in what is sent."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere
from tests.mpi.test_operators import DTYPES, FUSE, run

pytestmark = pytest.mark.mpi

I32 = np.int32
INTEGERS = [dtype for dtype in DTYPES if np.dtype(dtype).kind in "iu"]
fc = fm.federated_computation
clients, server = fm.type_at_clients, fm.type_at_server


@pytest.mark.parametrize(("dtype", "fuse"), [*((d, False) for d in INTEGERS), (np.int8, True), (np.uint64, True)])
def test_sums_are_exact(comm, dtype, fuse):
    program = fc(
        lambda x: (
            fm.federated_secure_sum(x, 5),
            fm.federated_secure_sum_bitwidth(x, 3),
            fm.federated_secure_modular_sum(x, 7),
            fm.federated_sum(x),
        ),
        clients((dtype, [2, 2])),
    )
    for count in (1, 2, 3, 9, 20):
        values = [np.random.default_rng(count).integers(0, 6, (2, 2)).astype(dtype) for _ in range(count)]
        true = sum(value.astype(int) for value in values)
        for trains in (False, True):
            got = run(fuse, program, values, server_trains=trains)
            assert [part.tolist() for part in got] == [part.tolist() for part in (true, true, true % 7, true)]
            assert all(part.dtype == dtype for part in got)


@FUSE
def test_large_numbers_and_a_large_modulus(comm, fuse):
    big = 2**61 - 1
    program = fc(
        lambda x: (
            fm.federated_secure_sum(x, np.int64(big)),
            fm.federated_secure_sum_bitwidth(x, 61),
            fm.federated_secure_modular_sum(x, np.int64(big - 1)),
        ),
        clients(np.int64),
    )
    assert run(fuse, program, [big, 0, big]) == (2 * big, 2 * big, 2)


@FUSE
def test_a_modular_sum_takes_any_number(comm, fuse):
    numbers = [-1, -(2**63), 2**63 - 1, 0, -7, 1000]
    program = fc(lambda x, m: fm.federated_secure_modular_sum(x, m), clients(np.int64), I32)
    for modulus in (1, 2, 7, 2**31 - 1):
        assert run(fuse, program, numbers, modulus) == sum(numbers) % modulus


@FUSE
def test_structs_with_a_limit_for_each_tensor(comm, fuse):
    type_ = collections.OrderedDict(a=np.uint8, b=(I32, [2]))
    limits = collections.OrderedDict(a=100, b=np.int64(10**6))
    values = [{"a": np.uint8(20 * i), "b": np.array([i, 10**5], I32)} for i in range(5)]
    one = fc(lambda x: fm.federated_secure_sum(x, 10**6), clients(type_))
    each = fc(lambda x: fm.federated_secure_sum(x, limits), clients(type_))
    for program in (one, each):
        got = run(fuse, program, values)
        assert (got["a"], got["b"].tolist()) == (200, [10, 5 * 10**5])
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    values[3]["a"] = np.uint8(101)
    text = raises_everywhere(comm, ValueError, lambda: each(values))
    assert "federated_secure_sum at test_secure_sums.py:" in text
    assert "client 3 of x (rank " in text
    assert "a number of a secure sum must be in 0 … 100, found a greater one" in text


@FUSE
@pytest.mark.parametrize("wrong", [-1, 8])
def test_numbers_outside_of_the_limits(comm, fuse, wrong):
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    for program in (
        fc(lambda x: fm.federated_secure_sum(x, 7), clients(I32)),
        fc(lambda x: fm.federated_secure_sum_bitwidth(x, 3), clients(I32)),
    ):
        text = raises_everywhere(comm, ValueError, lambda program=program: program([1, 2, wrong, 3]))
        assert "client 2 of x (rank " in text
        found = "a negative one" if wrong < 0 else "a greater one"  # no message says which
        assert text.endswith(f": a number of a secure sum must be in 0 … 7, found {found}")
        with pytest.raises(ValueError, match=f"client 2: a number must be in 0 … 7, found {wrong}"):
            fm.ReferenceContext().invoke(program, [1, 2, wrong, 3])


@pytest.mark.parametrize(
    ("operator", "limit", "text"),
    [
        (fm.federated_secure_sum, -1, "max_input must be in 0 … 9223372036854775807, found -1"),
        (fm.federated_secure_sum_bitwidth, 63, "bitwidth must be in 0 … 62, found 63"),
        (fm.federated_secure_sum_bitwidth, -1, "bitwidth must be in 0 … 62, found -1"),
        (fm.federated_secure_modular_sum, 0, "modulus must be in 1 … 9223372036854775807, found 0"),
        (
            fm.federated_secure_sum,
            2**62,
            "with max_input 4611686018427387904 the sum over 3 clients could exceed 63 bits",
        ),
        (fm.federated_secure_sum_bitwidth, 62, "with bitwidth 62 the sum over 3 clients could exceed 63 bits"),
        (fm.federated_secure_modular_sum, 2**62, "the sum over 3 clients could exceed 63 bits"),
    ],
)
def test_limits_that_none_can_be(comm, operator, limit, text):
    program = fc(lambda x, limit: operator(x, limit), clients(I32), np.int64)
    fm.set_default_context(fm.MpiContext())
    found = raises_everywhere(comm, ValueError, lambda: program([1, 2, 3], limit))
    assert text in found
    assert f"{operator.__name__}: " in found
    with pytest.raises(ValueError, match=r"could exceed 63 bits|must be in"):
        fm.ReferenceContext().invoke(program, ([1, 2, 3], limit))


def test_a_sum_that_does_not_fit_its_type(comm):
    program = fc(lambda x: fm.federated_secure_sum(x, 200), clients(np.uint8))
    fm.set_default_context(fm.MpiContext())
    text = raises_everywhere(comm, OverflowError, lambda: program([np.uint8(200), np.uint8(100)]))
    assert "the sum does not fit uint8: it is 300" in text


def test_no_clients(comm):
    program = fc(lambda x: (fm.federated_secure_sum(x, 5), fm.federated_secure_modular_sum(x, 5)), clients(I32))
    assert run(None, program, []) == (0, 0)


@FUSE
def test_what_a_rank_sends_is_masked(comm, fuse, monkeypatch):
    """No message holds a rank's sum where another rank hosts clients too; the server has no key then."""
    sent = []
    reduce = comm.reduce

    def noted(buffer, *args):
        sent.append(buffer.copy())
        reduce(buffer, *args)

    program = fc(lambda x: fm.federated_secure_sum(x, 5), clients((I32, [4])))
    values = [np.full(4, i % 5, I32) for i in range(8)]
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    program(values)
    monkeypatch.setattr(comm, "reduce", noted)
    first, second = (np.asarray(fm.replicate(program(values))) for _ in range(2))
    assert first.tolist() == second.tolist() == [13] * 4
    messages = [np.asarray(m) for m in sent if m.size == 8]
    if comm.size > 2 and comm.rank > 0:
        assert len(messages) == 2
        whole = [m[:4] + m[4:] * 2.0**32 for m in messages]
        assert all((each > 2.0**40).all() for each in whole)
        assert (whole[0] != whole[1]).all()  # no mask is used twice
        hosts = tuple(range(1, comm.size))
        assert comm.secrets[hosts].size == 8
    if comm.size > 2 and comm.rank == 0:
        assert all(not m.any() for m in messages)
        assert comm.secrets[tuple(range(1, comm.size))].size == 0


def test_the_plan_shows_masked_sums(comm):
    program = fc(lambda x: fm.federated_secure_sum(x, 5), clients((I32, [4])))
    assert "Reduce 4 masked sums, 64 B" in str(fm.plan(program))


@FUSE
def test_clients_that_live_where_none_are_hosted(comm, fuse):
    """Packed with clients at the server too, summed in a context that would give it none."""
    program = fc(lambda x: (fm.federated_secure_sum(x, 9), fm.federated_secure_modular_sum(x, 7)), clients(I32))
    data = fm.MpiContext(server_trains=True).client_data(list(range(10)), I32)
    fm.set_default_context(fm.MpiContext(fuse=fuse, server_trains=False))
    assert fm.replicate(program(data)) == (45, 3)
    assert fm.replicate(program(data.select([9, 0, 5]))) == (14, 0)
