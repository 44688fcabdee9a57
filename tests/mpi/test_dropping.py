"""Clients that fail and are left out: everything is as without them, here, compiled or not, as in the reference."""

from __future__ import annotations

import numpy as np
import pytest

import fedmpi as fm
from tests.programs import assert_same

pytestmark = pytest.mark.mpi
F32, I32 = np.float32, np.int32
fc, C = fm.federated_computation, fm.type_at_clients(np.float32)
add = fc(lambda a, b: a + b, F32, F32)
same = fc(lambda a: a, F32)


@fm.numba_computation(F32)
def positive(x):
    """Fails for negative numbers, after it has made an array."""
    made = np.full(1000, x)
    if x < 0:
        raise ValueError("a negative number")
    return made[0] * F32(2)


@fm.numba_computation(F32, F32)
def not_far(x, mean):
    if abs(x - mean) > 10:
        raise ValueError("too far")
    return x - mean


@fm.numba_computation(F32, F32)
def careful(state, x):
    if x == 7:
        raise ValueError("no sevens")
    return state + x


whole = fm.numba_computation(lambda x: I32(x), F32)
first = fm.numba_computation(lambda x: x[0], (F32, [1]))


@fm.numba_computation(F32, F32)
def refuse(x, mean):
    if mean > 1.5:
        raise ValueError("not after this mean")
    return x


def one_stage(x):
    y = fm.federated_map(positive, x)
    return (
        fm.federated_sum(y), fm.federated_mean(y), fm.federated_mean(y, x), fm.federated_max(x),
        fm.federated_collect(y), y, fm.federated_client_index(),
        fm.federated_secure_sum(fm.federated_map(whole, y), 1000),
        fm.federated_aggregate(y, 0.0, add, add, same),
    )  # fmt: skip


def two_stages(x):
    y = fm.federated_map(positive, x)
    mean = fm.federated_mean(y)
    z = fm.federated_map(not_far, (y, fm.federated_broadcast(mean)))
    return mean, fm.federated_sum(y), fm.federated_sum(z), fm.federated_aggregate(z, 0.0, add, add, same), z


def in_a_fold(x):
    y = fm.federated_map(same, x)
    return fm.federated_aggregate(y, 0.0, careful, add, same), fm.federated_sum(y), fm.federated_mean(x), y


def by_weights(x):
    return fm.federated_mean(x, x), fm.federated_sum(x), fm.federated_max(x)


def by_limits(x):
    return fm.federated_secure_sum(fm.federated_map(whole, x), 20), fm.federated_sum(x)


def in_python(x):
    body = fm.python_computation(lambda v: [v, 1 / v][0] if v >= 0 else [][1], F32, result=F32)
    return fm.federated_sum(fm.federated_map(body, x)), x


VALUES = [3.0, -1.0, 7.0, 2.0, 40.0, -5.0, 1.0, 7.0, -2.0, 30.0, 5.0]
PROGRAMS = [one_stage, two_stages, in_a_fold, by_weights, by_limits, in_python]


def results(program, values, **options):
    """The results by the reference, client by client, and compiled."""
    options = {"on_client_error": "drop", **options}
    yield fm.ReferenceContext(**options).invoke(program, values)
    for fuse in (False, True):
        yield fm.replicate(fm.MpiContext(fuse=fuse, **options).invoke(program, values))


@pytest.mark.parametrize("body", PROGRAMS)
def test_the_same_everywhere(comm, body):
    wanted, *found = results(fc(body, C), VALUES)
    for each in found:
        assert_same(each, wanted)


@pytest.mark.parametrize("body", [one_stage, by_weights, by_limits])
def test_a_stage_is_as_without_those_who_fail(comm, body):
    """Bit for bit; what is known of the clients by their numbers apart."""
    program = fc(body, C)
    fails = {one_stage: lambda v: v < 0, by_weights: lambda v: v < 0, by_limits: lambda v: not 0 <= v <= 20}[body]
    good = [v for v in VALUES if not fails(v)]
    for found, alone in zip(results(program, VALUES), results(program, good, on_client_error="raise"), strict=True):
        if body is one_stage:
            assert found[6] == [i for i, v in enumerate(VALUES) if not fails(v)]
            found, alone = (*found[:6], *found[7:]), (*alone[:6], *alone[7:])
        assert_same(found, alone)


def test_what_earlier_stages_have_summed_stays(comm):
    mean, total, rest, _, left = fm.replicate(fm.MpiContext(on_client_error="drop").invoke(fc(two_stages, C), VALUES))
    good = [2 * v for v in VALUES if v >= 0]
    assert total == sum(good)
    assert mean == F32(sum(good) / len(good))
    near = [v for v in good if abs(v - mean) <= 10]
    assert 0 < len(near) < len(good)
    assert len(left) == len(near)
    assert rest == pytest.approx(sum(v - mean for v in near), rel=1e-5)


@pytest.mark.parametrize("fuse", [False, True])
def test_a_cohort_and_states(comm, fuse):
    step = fc(lambda s: fm.federated_map(positive, s), C)
    with fm.MpiContext(fuse=fuse, on_client_error="drop"):
        states = fm.client_data(VALUES, C)
        cohort = states.select([5, 3, 0, 1])
        made = step.resident(cohort)
        assert made.indices.tolist() == [3, 0]
        new = fm.gather(states.updated(made))
    if fm.is_server():
        assert new == [6.0 if i == 0 else 4.0 if i == 3 else v for i, v in enumerate(VALUES)]


@pytest.mark.parametrize("fuse", [False, True])
def test_all_fail(comm, fuse):
    context = fm.MpiContext(fuse=fuse, on_client_error="drop")
    total = fc(lambda x: (fm.federated_sum(fm.federated_map(positive, x)), fm.federated_map(positive, x)), C)
    assert_same(fm.replicate(context.invoke(total, [-1.0, -2.0])), (F32(0), []))
    mean = fc(lambda x: fm.federated_mean(fm.federated_map(positive, x)), C)
    with pytest.raises(
        ValueError, match="no clients to take the mean over: all 2 failed, first client 0: federated_map"
    ):
        context.invoke(mean, [-1.0, -2.0])
    assert fm.replicate(context.invoke(mean, [1.0, -2.0])) == 2


@pytest.mark.parametrize("fuse", [False, True])
def test_too_few_are_left(comm, fuse):
    program = fc(one_stage, C)
    few = {"on_client_error": "drop", "minimum_reports": 9}
    for context in (fm.MpiContext(fuse=fuse, **few), fm.ReferenceContext(**few)):
        with pytest.raises(
            RuntimeError, match=r"8 of 11 clients are left, minimum_reports=9 are wanted; .* is client 1: feder"
        ):
            context.invoke(program, VALUES)
        with pytest.raises(RuntimeError, match=r"2 of 2 clients are left, minimum_reports=9 are wanted$"):
            context.invoke(program, [1.0, 2.0])
    with fm.MpiContext(fuse=fuse):
        with fm.on_client_error("drop", minimum_reports=8):
            program(VALUES)
            with fm.on_client_error("raise"), pytest.raises(ValueError, match="client 1 of x"):
                program(VALUES)
        with pytest.raises(ValueError, match=r"client 1 of x .* in positive .*: a negative number"):
            program(VALUES)


def test_sequences(comm):
    """A client that fails in the middle of its sequence leaves nothing."""
    local = fc(lambda q: fm.sequence_reduce(q, 0.0, careful), fm.SequenceType(F32))
    program = fc(lambda q: (fm.federated_sum(fm.federated_map(local, q)), fm.federated_map(local, q)),
                 fm.type_at_clients(fm.SequenceType(F32)))  # fmt: skip
    wanted, *found = results(program, [[1.0, 2.0], [3.0, 7.0, 1.0], [], [7.0], [4.0]])
    assert wanted == (F32(7), [F32(3), F32(0), F32(4)])
    for each in found:
        assert_same(each, wanted)


def test_random_failures(comm):
    """Programs of two stages with clients that fail anywhere."""
    random, program = np.random.default_rng(5), fc(two_stages, C)
    both = fc(in_a_fold, C)
    for _ in range(6):
        values = random.choice([-1.0, 1.0, 7.0, 9.0, 25.0], int(random.integers(1, 90))).tolist()
        for computation in (program, both):
            try:
                wanted = fm.ReferenceContext(on_client_error="drop").invoke(computation, values)
            except ValueError:  # all of them
                continue
            assert_same(fm.replicate(fm.MpiContext(on_client_error="drop").invoke(computation, values)), wanted)


@pytest.mark.parametrize("context", [fm.MpiContext, fm.ReferenceContext])
def test_options_that_are_none(comm, context):
    with pytest.raises(
        ValueError, match=f"{context.__name__}: on_client_error must be 'raise' or 'drop', found 'ignore'"
    ):
        context(on_client_error="ignore")
    with pytest.raises(ValueError, match="minimum_reports must be a number of clients, found -1"):
        context(on_client_error="drop", minimum_reports=-1)
    with (
        pytest.raises(ValueError, match="on_client_error must be 'raise' or 'drop', found None"),
        fm.on_client_error(None),
    ):
        pass


@pytest.mark.parametrize("fuse", [False, True])
def test_all_may_fail_after_a_mean(comm, fuse):
    """What earlier stages have summed stays; a mean over nobody is an error only where it is still to be taken."""

    @fc(fm.type_at_clients((F32, [1])))
    def late(x):
        mean = fm.federated_mean(fm.federated_map(first, x))
        y = fm.federated_map(refuse, (fm.federated_map(first, x), fm.federated_broadcast(mean)))
        return mean, fm.federated_sum(y)

    for found in results(late, [[2.0], [4.0]]):
        assert found == (3.0, 0.0)
    assert len(fm.last_report().dropped) == 2


@pytest.mark.parametrize("fuse", [False, True])
def test_the_report_of_a_cohort_has_its_order(comm, fuse):
    total = fc(lambda x: fm.federated_sum(fm.federated_map(positive, x)), C)
    found = []
    for context in (fm.MpiContext(fuse=fuse, on_client_error="drop"), fm.ReferenceContext(on_client_error="drop")):
        if comm.size == 1 or isinstance(context, fm.MpiContext):
            with context:
                total(fm.client_data([1.0, -1.0, 2.0, -3.0, -4.0], C).select([4, 0, 3, 2, 1]))
            found.append([each.client for each in fm.last_report().dropped])
    assert found[0] == [4, 3, 1]
    assert found[-1] == found[0]


def test_secure_sums_of_open_sizes(comm):
    program = fc(lambda x: fm.federated_secure_sum(x, 9), fm.type_at_clients((I32, [None])))
    for values, wanted in [([[1, 2], [3, 40], [5, 6]], [6, 8]), ([[10], [11, 12]], [])]:
        for found in results(program, [np.array(v, I32) for v in values]):
            np.testing.assert_array_equal(found, wanted)
