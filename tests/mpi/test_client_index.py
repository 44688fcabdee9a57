"""A client's index as a value: in lists, cohorts, nested calls, later stages, loops, here as in the reference."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
F32, I64 = np.float32, np.int64
fc, C = fm.federated_computation, fm.type_at_clients(np.float32)
scaled = fc(lambda x, i: (x, i), F32, I64)


def first_stage(x):
    i = fm.federated_client_index()
    return i, fm.federated_map(scaled, (x, i)), fm.federated_sum(i), fm.federated_max(i), fm.federated_collect(i)


def two_stages(x):
    mean = fm.federated_broadcast(fm.federated_mean(x))
    return fm.federated_map(fc(lambda m, i, x: (m, i, x), F32, I64, F32), (mean, fm.federated_client_index(), x))


def twice(x):
    inner = fc(lambda y: fm.federated_zip((y, fm.federated_client_index())), C)
    return fm.federated_zip((inner(x), fm.federated_client_index()))


@pytest.mark.parametrize("fuse", [False, True])
@pytest.mark.parametrize("body", [first_stage, two_stages, twice])
def test_the_same_everywhere(comm, body, fuse):
    program, values = fc(body, C), [float(i) for i in range(7)]
    context, reference = fm.MpiContext(fuse=fuse), fm.ReferenceContext()
    assert_same(fm.replicate(context.invoke(program, values)), reference.invoke(program, values))
    with context:
        everyone = fm.client_data(values, C)
        cohort = everyone.select([5, 0, 3])
        of_cohort = cohort.select([2, 0])
    with reference:
        own = fm.client_data(values, C)
    for data, wanted in ((cohort, own.select([5, 0, 3])), (of_cohort, own.select([5, 0, 3]).select([2, 0]))):
        assert_same(fm.replicate(context.invoke(program, data)), reference.invoke(program, wanted))


def test_a_cohort_keeps_its_indices(comm):
    indices = fc(lambda x: fm.federated_client_index(), C)
    everyone = fm.client_data([1.0] * 9, C)
    assert fm.replicate(indices(everyone.select([8, 2]).select([1]))) == [2]
    assert fm.replicate(indices(everyone.select([8, 2]).renumbered())) == [0, 1]
    resident = indices.resident(everyone.select([7, 1]))
    assert resident.indices.tolist() == [7, 1]
    assert fm.replicate(fc(lambda i: i, fm.type_at_clients(I64))(resident)) == [7, 1]


def test_without_arguments_the_context_says_how_many(comm):
    program = fc(lambda: fm.federated_sum(fm.federated_client_index()))
    assert program.type_signature == fm.to_type(fm.FunctionType(None, fm.type_at_server(I64)))
    assert fm.replicate(fm.MpiContext(num_clients=4).invoke(program, None)) == 6
    with pytest.raises(ValueError, match="the number of clients is not known"):
        program()


def test_no_clients(comm):
    program = fc(lambda x: (fm.federated_client_index(), fm.federated_sum(fm.federated_client_index())), C)
    assert_same(fm.replicate(program([])), ([], np.int64(0)))
