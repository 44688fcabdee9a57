"""Keys in programs: each client's own draws, in loops and without, on these ranks as in the reference."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
F32, KEY = np.float32, (np.uint32, [2])
fc = fm.federated_computation


@fm.numba_computation(KEY, np.int64)
def noise(key, client):
    return fm.random.normal(fm.random.fold_in(key, client), (3,))


def test_the_same_everywhere(comm):
    step = fc(lambda k, c: (noise(k, c), fm.random.uniform(fm.random.fold_in(k, c), 2)), KEY, np.int64)
    chance = fc(
        lambda k, q: fm.sequence_reduce(
            q, 0.0, fc(lambda s, x: s + fm.random.normal(fm.random.fold_in(k, x)), F32, np.int64)
        ),
        KEY, fm.SequenceType(np.int64),
    )  # fmt: skip
    program = fc(
        lambda k, c, q: (
            fm.federated_map(step, (fm.federated_broadcast(k), c)),
            fm.federated_mean(fm.federated_map(noise, (k_of(k), c))),
            fm.federated_sum(fm.federated_map(chance, (fm.federated_broadcast(k), q))),
        ),
        fm.type_at_server(KEY), fm.type_at_clients(np.int64), fm.type_at_clients(fm.SequenceType(np.int64)),
    )  # fmt: skip
    key, clients = fm.random.key(11), list(range(7))
    sequences = [list(range(c)) for c in clients]
    wanted = fm.ReferenceContext().invoke(program, (key, clients, sequences))
    for fuse in (False, True):
        found = fm.replicate(fm.MpiContext(fuse=fuse).invoke(program, (key, clients, sequences)))
        assert_same(found, wanted)
    for client, (normals, uniforms) in zip(clients, wanted[0], strict=True):
        own = fm.random.fold_in(key, client)
        assert np.array_equal(normals, fm.random.normal(own, (3,)))
        assert np.array_equal(uniforms, fm.random.uniform(own, 2))


def k_of(key):
    return fm.federated_broadcast(fm.federated_map(fc(lambda k: fm.random.fold_in(k, 1), KEY), key))


def test_a_cohort_is_the_same_on_all_ranks(comm):
    data = fm.client_data([float(i) for i in range(100)], fm.type_at_clients(F32))
    cohort = data.select(fm.random.choice(fm.random.fold_in(fm.random.key(0), 5), len(data), 10))
    total = fm.replicate(fc(fm.federated_sum, fm.type_at_clients(F32))(cohort))
    assert total == sum(fm.random.choice(fm.random.fold_in(fm.random.key(0), 5), 100, 10))
