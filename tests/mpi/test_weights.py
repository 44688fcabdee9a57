"""Weights of a mean: a client of weight 0 takes no part, a weight that is none is that client's error."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere

pytestmark = pytest.mark.mpi
F32, I32 = np.float32, np.int32
NAN, INF = float("nan"), float("inf")
fc, clients = fm.federated_computation, fm.type_at_clients

DTYPES = [
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.float16, np.float32, np.float64),
]
STRUCT = fm.to_type({"a": (F32, [2]), "b": np.float64, "c": np.complex64})
OPEN = fm.to_type((F32, [None]))
MODES = ["exact", "float64", "fast"]


def mean_of(member, weight):
    return fc(lambda x, w: fm.federated_mean(x, w), clients(member), clients(weight))


MEANS = {dtype: mean_of(F32, dtype) for dtype in DTYPES}
OF_STRUCTS, OF_VECTORS = mean_of(STRUCT, F32), mean_of(OPEN, F32)


@fc(clients(F32), clients(F32), clients(I32))
def several(x, w, n):
    return fm.federated_min(n), fm.federated_mean(x, w), fm.federated_sum(n), fm.federated_mean((x, x), n)


@fm.numba_computation(fm.SequenceType(F32))
def loss(values):
    total, count = F32(0), 0
    for x in values:
        total += x
        count += 1
    return {"loss": total / F32(count), "count": I32(count)}


@fc(clients(fm.SequenceType(F32)))
def evaluate(data):
    each = fm.federated_map(loss, data)
    return fm.federated_mean(each.loss, each.count)


@fc(clients(F32), F32)
def equally(x, weight):
    return fm.federated_mean(x, fm.federated_value(weight, fm.CLIENTS))


def every_way(*, fused=(False, True), nonfinite=("propagate", "raise")):
    """Set each context in turn."""
    for strict in nonfinite:
        for mode in MODES:
            for fuse in fused:
                fm.set_default_context(fm.MpiContext(fuse=fuse, reduction=mode, nonfinite=strict))
                yield mode
        fm.set_default_context(fm.ReferenceContext(nonfinite=strict))
        yield "exact"


def test_a_client_of_weight_zero_is_not_looked_at(comm):
    for _ in every_way():
        assert fm.replicate(MEANS[F32]([1.0, NAN, 4.0, INF], [1.0, 0.0, 2.0, -0.0])) == 3.0
        assert fm.replicate(evaluate([[1.0, 2.0], [], [4.0]])) == F32(7 / 3)
        assert fm.replicate(equally([1.0, 4.0], 2.0)) == 2.5
        got = fm.replicate(several([1.0, INF, 3.0], [0.5, 0.0, 0.5], [3, 0, 1]))
        assert got == (0, 2.0, 4, (1.5, 1.5))
        bad = {"a": [NAN, 1.0], "b": -INF, "c": complex(NAN, INF)}
        got = fm.replicate(OF_STRUCTS([bad, {"a": [1.0, 2.0], "b": 3.0, "c": 1j}], [0.0, 1e-3]))
        np.testing.assert_allclose([*got["a"], got["b"], got["c"]], [1, 2, 3, 1j], rtol=1e-6)


def test_in_every_dtype_of_weights(comm):
    for _ in every_way(fused=[False]):
        for dtype, mean in MEANS.items():
            assert fm.replicate(mean([1.0, NAN, 3.0], [dtype(w) for w in (1, 0, 1)])) == 2.0
            assert np.isnan(fm.replicate(mean([1.0, INF], [dtype(0)] * 2)))
    fm.set_default_context(fm.MpiContext(fuse=True))
    for dtype in (np.int8, np.uint64):
        assert fm.replicate(MEANS[dtype]([1.0, NAN, 3.0], [dtype(w) for w in (1, 0, 1)])) == 2.0


def test_where_all_weights_are_zero_the_mean_is_nan(comm):
    for _ in every_way():
        assert np.isnan(fm.replicate(MEANS[F32]([1.0, INF], [0.0, -0.0])))
        assert np.isnan(fm.replicate(equally([1.0, 4.0], 0.0)))
        assert np.isnan(fm.replicate(evaluate([[], []])))
        got = fm.replicate(OF_STRUCTS([{"a": [1.0, 2.0], "b": 3.0, "c": 1j}] * 2, [0.0, 0.0]))
        assert np.all(np.isnan([*got["a"], got["b"], got["c"].real, got["c"].imag]))


def test_a_client_of_weight_zero_may_have_another_size(comm):
    vectors = [np.array(v, F32) for v in ([NAN], [1.0, 2.0], [3.0, 4.0], [])]
    for _ in every_way(fused=[None]):
        np.testing.assert_array_equal(fm.replicate(OF_VECTORS(vectors, [0.0, 1.0, 1.0, 0.0])), [2, 3])
        got = fm.replicate(OF_VECTORS(vectors[1:3], [0.0, 0.0]))
        np.testing.assert_array_equal(got, [NAN, NAN])
        for weights in ([1.0, 1.0, 1.0, 0.0], [0.0] * 4):
            with pytest.raises(ValueError, match="the clients' values differ in size"):
                OF_VECTORS([np.ones(1, F32), *vectors[1:]], weights)


def test_large_and_subnormal_weights(comm):
    for mode in every_way():
        assert fm.replicate(MEANS[np.uint64]([1.0, 3.0, NAN], [2**63, 2**63, 0])) == 2.0
        assert fm.replicate(MEANS[np.int64]([1.0, 3.0], [2**53 + 1, 2**53 + 1])) == 2.0
        assert fm.replicate(MEANS[F32]([1.0, 3.0], [1e-45, 1e-45])) == 2.0
        if mode != "fast":  # its products are float32
            assert fm.replicate(MEANS[np.float64]([1.0, 3.0, NAN], [5e-324, 5e-324, 0.0])) == 2.0


BAD = [(d, -1, "-1") for d in DTYPES if np.dtype(d).kind != "u"]
BAD += [(d, x, str(x)) for d in DTYPES if np.dtype(d).kind == "f" for x in (NAN, INF, -INF)]


def refused(comm, call, client, found, arguments, line):
    """Check the error of a call: the same on all ranks, with computation, operator, line, client, rank and weight."""
    text = raises_everywhere(comm, ValueError, call)
    head, _, rest = text.partition(": federated_mean at test_weights.py:")
    assert head
    assert rest.startswith(f"{line}: client {client} of {arguments} (rank "), text
    assert text.endswith(f"): weight must be finite and not negative, found {found}"), text


def test_what_is_no_weight(comm):
    line = mean_of.__code__.co_firstlineno + 1
    for _ in every_way(fused=[False], nonfinite=["propagate"]):
        for dtype, weight, found in BAD:
            weights = [dtype(w) for w in (0, 1, weight, 1, weight)]
            refused(comm, lambda: MEANS[dtype]([1.0] * 5, weights), 2, found, "x and w", line)  # noqa: B023
    fm.set_default_context(fm.MpiContext(fuse=True))
    for dtype, weight, found in ((F32, -0.5, "-0.5"), (F32, NAN, "nan"), (np.int8, -128, "-128")):
        weights = [dtype(w) for w in (0, weight, weight)]
        refused(comm, lambda: MEANS[dtype]([NAN] * 3, weights), 1, found, "x and w", line)  # noqa: B023


def test_the_first_client_with_a_bad_weight_is_named_wherever_it_is(comm):
    start = mean_of.__code__.co_firstlineno
    for _ in every_way(nonfinite=["raise"]):
        text = raises_everywhere(comm, ValueError, lambda: several([1.0, 2.0, 3.0], [1.0, 1.0, 1.0], [3, -2, -1]))
        assert ": client 1 of x and w and n (rank " in text
        assert text.endswith("weight must be finite and not negative, found -2"), text
        text = raises_everywhere(comm, ValueError, lambda: OF_VECTORS([np.ones(2, F32)] * 3, [1.0, INF, NAN]))
        assert f"federated_mean at test_weights.py:{start + 1}: client 1 of x and w" in text
        assert text.endswith("found inf")
        text = raises_everywhere(comm, ValueError, lambda: equally([1.0, 4.0], -2.0))
        assert "client 0 of x (rank " in text
