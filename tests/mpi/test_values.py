"""Values at the server and at the clients: placeholders, replicate, client data, local computations."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import fedmpi as fm
from tests import programs
from tests.programs import F32, assert_same

pytestmark = pytest.mark.mpi
MODEL = fm.to_type(collections.OrderedDict(w=(F32, [2]), b=F32))


@fm.federated_computation(fm.type_at_clients(MODEL))
def mean_model(models):
    return fm.federated_mean(models)


@fm.federated_computation(fm.type_at_server(MODEL), fm.type_at_clients(MODEL))
def next_model(model, models):
    return fm.federated_mean(fm.federated_zip((models, fm.federated_broadcast(model))))


MODELS = [{"w": [1.0, 2.0], "b": 3.0}, {"w": [3.0, 6.0], "b": 5.0}]


def test_a_result_at_the_server_goes_into_the_next_call(comm):
    model = mean_model(MODELS)
    pair = fm.replicate(next_model(model, MODELS))
    assert_same(pair[0], collections.OrderedDict(w=np.array([2.0, 4.0], F32), b=F32(4.0)))
    assert_same(pair[1], pair[0])


def test_placeholder(comm):
    model = mean_model(MODELS)
    number = programs.mean_temperature([1.0, 2.0])
    assert f"{number:.3f} {number!s} {number!r} {model}"  # texts never raise
    if fm.is_server():
        return
    assert str(number) == "<float32@SERVER, on rank 0>"
    assert str(model.type_signature) == "<w=float32[2],b=float32>@SERVER"
    assert str(model.w) == str(model["w"]) == str(model[0]) == str(model[-2]) == "<float32[2]@SERVER, on rank 0>"
    w, b = model
    assert len(model) == 2
    assert (str(w), str(b)) == (str(model.w), str(model.b))
    assert str(model[0:1]) == f"({w},)"
    for use in (
        lambda: float(number), lambda: bool(number), lambda: number + 1, lambda: 1 - number, lambda: number == 1,
        lambda: number < 1, lambda: np.asarray(number), lambda: np.sqrt(number), lambda: -number, lambda: hash(number),
        lambda: len(number), lambda: number[0], lambda: list(number), lambda: int(number), lambda: round(number),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=r"fm\.replicate\(value\) brings it to every rank"):
            use()
    with pytest.raises(AttributeError, match="no element 'zz'"):
        _ = model.zz
    with pytest.raises(KeyError):
        _ = model["zz"]
    with pytest.raises(IndexError):
        _ = model[2]
    with pytest.raises(AttributeError, match="cannot be changed"):
        model.w = 1


def test_anything_may_stand_for_a_server_value_on_other_ranks(comm):
    given = 70.0 if fm.is_server() else None
    assert fm.replicate(programs.above([68.0, 71.0], given)) == [F32(-2.0), F32(1.0)]


def test_a_struct_of_server_values_is_not_looked_at_on_other_ranks(comm):
    @fm.federated_computation((fm.type_at_server(F32), fm.type_at_server(F32)), fm.type_at_clients(F32))
    def program(state, values):
        return state[0], fm.federated_mean(values)

    state = (1.0, 2.0) if fm.is_server() else None
    assert fm.replicate(program(state, [3.0])) == (F32(1.0), F32(3.0))


def test_a_result_that_is_a_container_is_a_container_of_placeholders(comm):
    sums, mean = programs.pairs([(1.0, 2.0), (3.0, 4.0)])
    if not fm.is_server():
        assert str(sums) == "<<float32,float32>@SERVER, on rank 0>"
        assert str(mean) == "<float32@SERVER, on rank 0>"
    result = programs.structs([{"a": 1.0, "b": [1.0, 2.0]}])
    assert type(result) is collections.OrderedDict
    assert list(result) == ["mean", "first", "zipped"]


@pytest.mark.parametrize(
    "value",
    [
        3, 2.5, "text", None, True, 1 + 2j, F32(1.5), np.arange(6.0).reshape(2, 3), np.array([], np.int32), [], (), {},
        [1, (2.0, "a"), {"b": np.zeros(2), "c": [None]}], collections.OrderedDict(z=1, a=2), np.array(5), np.True_,
    ],
    ids=str,
)  # fmt: skip
def test_replicate(comm, value):
    got = fm.replicate(value if fm.is_server() else "something else")
    assert_same(got, value)
    assert type(got) is type(value)


def test_replicate_keeps_containers_of_placeholders(comm):
    @fm.federated_computation(fm.type_at_clients(F32))
    def program(x):
        return programs.Pair(fm.federated_mean(x), fm.federated_sum(x))

    assert_same(fm.replicate(program([1.0, 3.0])), programs.Pair(F32(2.0), F32(4.0)))
    at_server = fm.federated_computation(lambda x: fm.federated_zip(programs.Pair(x, x)), fm.type_at_server(F32))
    assert_same(fm.replicate(at_server(1.0)), programs.Pair(F32(1.0), F32(1.0)))


def test_replicate_refuses_what_it_cannot_send(comm):
    with pytest.raises(TypeError, match="replicate: value must be made of arrays"):
        fm.replicate(object())


def test_client_data_is_packed_once_and_owned_once(comm):
    lengths = [3, 0, 5, 1, 1, 8, 2]
    readings = [[float(i) for i in range(n)] for n in lengths]
    data = fm.client_data(readings, fm.type_at_clients(fm.SequenceType(F32)))
    assert len(data) == len(lengths)
    everyone = sorted(
        int(i)
        for part in comm.allgather_bytes(np.array(data.owned, np.int64).view(np.uint8))
        for i in part.view(np.int64)
    )
    assert everyone == list(range(len(lengths)))
    if comm.size > 1:
        assert (comm.rank == 0) == (not data.owned) or len(lengths) < comm.size
    expected = fm.replicate(programs.mean_of_means(readings))
    for _ in range(2):
        assert fm.replicate(programs.mean_of_means(data)) == expected
    assert "ClientData" in repr(data)


def test_client_data_that_lives_on_different_ranks_comes_together(comm):
    texts = ["a" * n for n in (1, 50, 2, 40, 3)]
    long_first = fm.client_data([[float(j) for j in range(n)] for n in (9, 1, 1, 1, 1)], fm.SequenceType(F32))
    long_last = fm.client_data([float(n) for n in range(5)], F32)
    assert fm.replicate(programs.reduced(long_first, long_last)) == [F32(36.0), F32(1.0), F32(2.0), F32(3.0), F32(4.0)]
    assert fm.replicate(programs.echo(fm.client_data(texts, np.str_))) == texts


def test_local_computations_run_on_every_rank(comm):
    assert programs.plus(1.0, 2.0) == F32(3.0)
    if not fm.is_server():
        with pytest.raises(TypeError, match="a placeholder for float32@SERVER"):
            programs.plus(programs.mean_temperature([1.0]), 1.0)
    else:
        programs.mean_temperature([1.0])


def test_more_ranks_than_clients_and_ranks_without_clients(comm):
    for count in range(1, 6):
        values = [float(i) for i in range(count)]
        assert fm.replicate(programs.total(list(range(count)))) == sum(range(count))
        assert fm.replicate(programs.mean_temperature(values)) == F32(np.mean(values))


def test_plan(comm):
    from fedmpi import tutorial

    text = str(fm.plan(tutorial.federated_train))
    assert text.count("Bcast") == text.count("Reduce") == 1
    assert "Bcast 31,404 B" in text


def test_resident_results_stay_with_their_clients(comm):
    """Client state travels from call to call as a `ClientData`; nothing is gathered."""
    state = fm.client_data([1.0, 2.0, 3.0, 4.0], F32)
    for _ in range(3):
        state = programs.shifted.resident(state, 10.0)
        assert isinstance(state, fm.ClientData)
        assert len(state) == 4
    assert fm.replicate(programs.mean_temperature(state)) == F32(32.5)
    result = programs.structs.resident([{"a": 1.0, "b": [1.0, 2.0]}, {"a": 3.0, "b": [5.0, 6.0]}])
    assert fm.replicate(programs.mean_temperature(result["first"])) == F32(2.0)
    assert fm.ReferenceContext().invoke(programs.shifted, ([1.0], 1.0), resident=True).column[0] == F32(2.0)


def test_an_equal_value_stays_as_one_for_each_client(comm):
    both = programs.for_each.resident(2.5, [1.0, 2.0, 3.0])
    assert fm.replicate(programs.each(both[0])) == [F32(2.5)] * 3
    with pytest.raises(ValueError, match=r"the number of clients is not known"):
        fm.federated_computation(lambda x: programs.each(fm.federated_broadcast(x)), fm.type_at_server(F32))(1.0)
