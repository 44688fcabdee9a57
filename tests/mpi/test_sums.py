"""Sums and means have the bits of the reference evaluator: on these ranks, in a compiled loop and client by client."""

from __future__ import annotations

import collections
import json
import logging

import numpy as np
import pytest

import fedmpi as fm
from tests import oracle
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
F32, F64 = np.float32, np.float64
WAYS = [(False, False), (True, False), (True, True)]  # fuse, server_trains

FLOATS = collections.OrderedDict(w=(F32, [3, 2]), s=F32, d=(F64, [5]), t=F64, c=(np.complex64, [2]), z=np.complex128)
INTEGERS = collections.OrderedDict(
    (name, (np.dtype(name).type, [2] * (i % 2)))
    for i, name in enumerate(("int8", "uint16", "uint8", "int16", "uint32", "uint64", "int64", "int32"))
)
MIXED = collections.OrderedDict(w=(F32, [3, 2]), d=F64, c=(np.complex128, [2]), empty=(F32, [0]))
ALL = collections.OrderedDict(floats=FLOATS, integers=INTEGERS)


@fm.federated_computation(fm.type_at_clients(ALL), fm.type_at_clients(F32))
def everything(values, weights):
    return fm.federated_sum(values), fm.federated_mean((values["floats"]["s"], values["floats"]["c"]), weights)


@fm.federated_computation(fm.type_at_clients((F64, [2])), fm.type_at_clients(np.int64))
def pair(values, weights):
    return fm.federated_sum(values), fm.federated_mean(values, weights), fm.federated_sum(weights)


@fm.federated_computation(fm.type_at_clients(MIXED), fm.type_at_clients(np.int64))
def mixed(values, weights):
    return fm.federated_mean(values, weights), fm.federated_sum(weights)


@fm.federated_computation(fm.type_at_clients(np.float16))
def halves(values):
    return fm.federated_sum(values), fm.federated_mean(values)


@fm.federated_computation(fm.type_at_clients((F32, [None])))
def open_mean(values):
    return fm.federated_mean(values)


def any_numbers(rng, type_, *, finite=True):
    """Return a value of a type: floats with any bits, among them subnormal ones, integers that have room for a sum."""
    if isinstance(type_, fm.StructType):
        return {name: any_numbers(rng, t, finite=finite) for name, t in type_.items()}
    dtype, shape = type_.dtype, type_.shape
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(info.min // 20, info.max // 20, shape, dtype)
    part, count = np.dtype(dtype.char.lower()), int(np.prod(shape)) * (2 if dtype.kind == "c" else 1)
    numbers = rng.integers(0, 256, count * part.itemsize, np.uint8).view(part)
    ordinary = rng.normal(size=count).astype(part)
    with np.errstate(all="ignore"):
        bad = ~np.isfinite(numbers) if finite else rng.random(count) < 0.3
    return np.where(bad | (rng.random(count) < 0.5), ordinary, numbers).view(dtype).reshape(shape)[()]


def texts_of_all(comm, text):
    """Return what every rank has to say."""
    parts = comm.allgather_bytes(np.frombuffer(json.dumps(text).encode(), np.uint8))
    return [json.loads(part.tobytes()) for part in parts]


def assert_reference_bits(program, arguments, fuse, server_trains):
    fm.set_default_context(fm.MpiContext(fuse=fuse, server_trains=server_trains))
    got = fm.replicate(program(*arguments))
    argument = arguments[0] if len(arguments) == 1 else arguments
    assert_same(got, fm.ReferenceContext().invoke(program, argument), bits=True)
    return got


@pytest.fixture
def records():
    """What is logged on this rank."""
    found: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = found.append
    logger = logging.getLogger("fedmpi")
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.mark.parametrize(("fuse", "server_trains"), WAYS)
def test_every_dtype_and_any_bits(comm, fuse, server_trains):
    rng = np.random.default_rng(1)
    type_ = fm.to_type(ALL)
    for count in (1, 2, 9):
        values = [any_numbers(rng, type_) for _ in range(count)]
        weights = np.abs(rng.normal(size=count)).astype(F32)
        assert_reference_bits(everything, (values, weights.tolist()), fuse, server_trains)


@pytest.mark.parametrize(("fuse", "server_trains"), WAYS)
def test_infinities_and_nan_propagate(comm, fuse, server_trains, records):
    rng = np.random.default_rng(2)
    type_ = fm.to_type(ALL)
    values = [any_numbers(rng, type_, finite=False) for _ in range(7)]
    values[2]["floats"]["d"] = np.array([1.0, np.nan, np.inf, -np.inf, np.inf])
    values[3]["floats"]["d"] = np.array([1.0, np.inf, np.inf, -np.inf, -np.inf])
    result = assert_reference_bits(everything, (values, [1.0, 2.0, 0.0, 1e-3, 1.0, 1.0, 1.0]), fuse, server_trains)
    if comm.rank == 0:
        ours, references = [record.getMessage().partition(": ")[2] for record in records]
        assert ours == references
        assert " such terms in all" in ours
    else:
        assert not records
    assert oracle.bits(result[0]["floats"]["d"][1:]) == oracle.bits([np.nan, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "float64", "fast"])
def test_the_first_client_that_is_not_finite_is_logged(comm, fuse, reduction, records):
    fm.set_default_context(fm.MpiContext(fuse=fuse, reduction=reduction))
    values = [[1.0, float(i)] for i in range(8)]
    values[6][0], values[4][1], values[5][1] = np.inf, -np.inf, np.nan
    total, mean, count = fm.replicate(pair([np.array(v) for v in values], [1] * 8))
    assert oracle.bits(total) == oracle.bits([np.inf, np.nan])
    assert oracle.bits(mean) == oracle.bits([np.inf, np.nan])
    assert count == 8
    found = [record.getMessage() for record in records if record.levelno == logging.WARNING]
    if comm.rank:
        assert not found
    else:
        (text,) = found
        assert "federated_sum at " in text
        assert text.endswith("client 4 has -inf in its value (6 such terms in all)")


def test_a_call_of_several_stages_warns_once(comm, records):
    """Also where it fails later on."""

    @fm.numba_computation(F64, F64)
    def less(x, mean):
        if x == 7:
            raise ValueError("seven")
        return x - mean

    @fm.federated_computation(fm.type_at_clients(F64))
    def twice(x):
        mean = fm.federated_broadcast(fm.federated_mean(x))
        return fm.federated_sum(fm.federated_map(less, (x, mean)))

    calls = ([1.0, 2.0, np.nan], [1.0, np.inf, 7.0], [1.0, 2.0, 3.0])
    for context in (fm.MpiContext(), fm.ReferenceContext()):
        fm.set_default_context(context)
        del records[:]
        twice(calls[0])
        with pytest.raises(ValueError, match="seven"):
            twice(calls[1])
        twice(calls[2])
        said = [record.getMessage().partition("federated_mean at test_sums.py:")[2][3:] for record in records]
        first, second = ": client 2 has nan in its value (4 such terms in all)", ": client 1 has inf in its value"
        assert said == ([] if comm.rank else [first, second])


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("reduction", ["exact", "float64"])
def test_nonfinite_raise_is_one_error_on_all_ranks(comm, fuse, reduction):
    fm.set_default_context(fm.MpiContext(fuse=fuse, reduction=reduction, nonfinite="raise"))
    good = [np.array([1.0, float(i)]) for i in range(8)]
    bad = [*good[:5], np.array([np.inf, 1.0]), *good[6:7], np.array([np.nan, np.nan])]
    for _ in range(2):
        with pytest.raises(ValueError, match=r"pair: federated_sum at .*: client 5 has inf in its value$") as caught:
            pair(bad, [1] * 8)
        assert len(set(texts_of_all(comm, str(caught.value)))) == 1
        total, _, _ = fm.replicate(pair(good, [1] * 8))
        np.testing.assert_array_equal(total, [8.0, 28.0])
    with pytest.raises(ValueError, match=r"pair: federated_sum at .*: client 5 has inf in its value$"):
        fm.ReferenceContext(nonfinite="raise").invoke(pair, (bad, [1] * 8))


def test_nonfinite_raise_names_the_leaf(comm):
    product = fm.federated_computation(lambda x, w: fm.federated_mean(x, w), *2 * [fm.type_at_clients(np.float64)])
    fm.set_default_context(fm.MpiContext(nonfinite="raise"))
    rng = np.random.default_rng(3)
    values = [any_numbers(rng, fm.to_type(ALL)) for _ in range(4)]
    values[3]["floats"]["z"] = complex(1, np.inf)
    with pytest.raises(ValueError, match=r"federated_sum at .*: client 3 has inf in floats\.z$"):
        everything(values, [1.0] * 4)
    with pytest.raises(ValueError, match=r"federated_sum at .*: client 3 has inf in floats\.z$"):
        fm.ReferenceContext(nonfinite="raise").invoke(everything, (values, [1.0] * 4))
    with pytest.raises(ValueError, match=r"open_mean: federated_mean at .*: client 1 has nan in its value$"):
        open_mean([np.ones(3, F32), np.array([1.0, np.nan, np.inf], F32)])
    for context in (fm.MpiContext(nonfinite="raise"), fm.ReferenceContext(nonfinite="raise")):
        fm.set_default_context(context)
        # Neither is infinite; the term is.
        with pytest.raises(ValueError, match=r"client 1 has inf in its value times its weight$"):
            product([1.0, 1e300], [1.0, 1e300])


@pytest.mark.parametrize(("fuse", "server_trains"), WAYS)
def test_sums_that_cancel_and_terms_far_apart(comm, fuse, server_trains):
    rows = [
        [(1e30, -1e30), (1.0, 1.0), (-1e30, 1e30)],
        [(1.7e308, 1.7e308), (1.7e308, 3.0), (-1.7e308, -1.7e308)],
        [(1e308, -1e-300), (1e308, 1e-300), (1e-300, -0.0)],
        [(1 + 2.0**-52, 1.0), (2.0**-53, 2.0**-53), (-(2.0**-160), 2.0**-170)],
        [(-0.0, 5e-324), (-0.0, -5e-324), (-0.0, 0.0)],
    ]
    for row in rows:
        values = [np.array(v, F64) for v in row]
        total, _, _ = assert_reference_bits(pair, (values, [1, 1, 1]), fuse, server_trains)
        assert oracle.bits(total) == oracle.bits([oracle.total([v[i] for v in row]) for i in range(2)])
        assert_reference_bits(pair, (values, [2**53 + 1, 2**62, 3]), fuse, server_trains)
        assert_reference_bits(pair, (values, [1, 0, 1]), fuse, server_trains)
        assert_reference_bits(pair, (values, [0, 0, 0]), fuse, server_trains)


@pytest.mark.parametrize("fuse", [False, True])
def test_more_clients_than_fit_without_a_carry(comm, fuse):
    count, rng = 4500, np.random.default_rng(4)
    values = rng.uniform(0.9, 1, (count, 2)) * [2.0**159, 2.0**-1]
    values[::500] *= 1e-40
    weights = rng.integers(1, 3, count)
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    total, mean, whole = fm.replicate(pair(list(values), weights.tolist()))
    assert whole == weights.sum()
    assert oracle.bits(total) == oracle.bits([oracle.total(values[:, i]) for i in range(2)])
    weighted = [oracle.total(values[:, i] * weights) / F64(whole) for i in range(2)]
    assert oracle.bits(mean) == oracle.bits(weighted)


@pytest.mark.parametrize("reduction", ["float64", "fast"])
def test_the_other_modes(comm, reduction):
    """Close to the exact sums; in a compiled loop the same as client by client; integers and weights exact."""
    rng = np.random.default_rng(5)
    values = [
        {
            "w": rng.normal(size=(3, 2)).astype(F32),
            "d": rng.normal(),
            "c": rng.normal(size=4).view(np.complex128),
            "empty": [],
        }
        for _ in range(9)
    ]
    weights = rng.integers(2**50, 2**59, 9).tolist()
    results = []
    for fuse in (False, True):
        fm.set_default_context(fm.MpiContext(reduction=reduction, fuse=fuse))
        results.append(fm.replicate(mixed(values, weights)))
    assert_same(*results, bits=True)
    want = fm.ReferenceContext().invoke(mixed, (values, weights))
    assert results[0][1] == want[1] == sum(weights)
    for name in MIXED:
        np.testing.assert_allclose(results[0][0][name], want[0][name], rtol=1e-5, atol=1e-6)


def test_float16_is_rounded_once(comm):
    fm.set_default_context(fm.MpiContext(fuse=True))
    tie = [1.0, 2.0**-11]
    for values in ([*tie, 2.0**-24], tie, [6e4, 6e4, -6e4], [6e4, 6e4], [-0.0], [np.nan, 1.0]):
        assert_reference_bits(halves, (values,), True, False)
    assert fm.replicate(halves([*tie, 2.0**-24]))[0] == np.float16(1 + 2.0**-10)


@pytest.mark.parametrize("fuse", [False, True])
def test_integers_that_do_not_fit_are_an_error_on_all_ranks(comm, fuse):
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    zeros = [np.zeros(2)] * 3
    for _ in range(2):
        with pytest.raises(OverflowError, match=f"the sum does not fit int64: it is {2**63}$") as caught:
            pair(zeros, [2**62, 2**61, 2**61])
        assert len(set(texts_of_all(comm, str(caught.value)))) == 1
        assert fm.replicate(pair(zeros, [2**62, 2**61, 2**61 - 1]))[2] == 2**63 - 1


def test_a_loop_that_fails_leaves_nothing_behind(comm):
    """What it had added of terms of any size is forgotten, though it could not say where."""

    @fm.numba_computation((F64, [2]))
    def checked(x):
        if x[1] < 0:
            raise ValueError("negative")
        return x * 2.0

    program = fm.federated_computation(
        lambda values: fm.federated_sum(fm.federated_map(checked, values)), fm.type_at_clients((F64, [2]))
    )
    fm.set_default_context(fm.MpiContext(fuse=True))
    good = [np.array([1e300, 1e-300])] * (4 * comm.size)
    for _ in range(3):
        with pytest.raises(ValueError, match="negative"):
            program([*good, *[np.array([1.0, -1.0])] * comm.size])
        total = fm.replicate(program([np.array([0.5, 0.25]), np.array([1.0, 1e-300])]))
        assert oracle.bits(total) == oracle.bits([3.0, 0.5])
