"""States of clients: put back, read, in blocks, made of blocks; older versions stay right and rows are used again."""

from __future__ import annotations

import dataclasses
import gc
from collections import OrderedDict

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.arguments.sizes import works

pytestmark = pytest.mark.mpi
F32, I32 = np.float32, np.int32
fc = fm.federated_computation
STATE = fm.to_type(OrderedDict(w=(F32, [3]), n=I32))
CLIENTS = fm.type_at_clients(STATE)


def state(i):
    return OrderedDict(w=np.full(3, i, F32), n=I32(i))


def numbers(data):
    """The states' numbers on every rank, checked for their arrays."""
    values = fm.gather(data)
    if not fm.is_server():
        assert all(isinstance(value, Placeholder) for value in values)
    found = fm.replicate([int(v["n"]) for v in values] if fm.is_server() else None)
    if fm.is_server():
        assert all((value["w"] == value["n"]).all() for value in values)
    return found


@fm.numba_computation(STATE, I32)
def plus(state, by):
    return {"w": state.w + F32(by), "n": state.n + by}


@fc(CLIENTS, fm.type_at_server(I32))
def step(states, by):
    return fm.federated_map(plus, (states, fm.federated_broadcast(by)))


@pytest.mark.parametrize("begin", ["list", "full", "cohort"])
def test_random_updates(comm, begin):
    """As a list of Python's does; five versions are kept, and are what they were."""
    count, key = 17, fm.random.key(3)
    data = fm.client_data.full(count, state(4), CLIENTS) if begin == "full" else None
    data = fm.client_data([state(i) for i in range(count)], CLIENTS) if data is None else data
    model = [4] * count if begin == "full" else list(range(count))
    chosen = list(range(count))
    if begin == "cohort":
        chosen = [11, 3, 5, 16, 0, 8]
        data, model = data.select(chosen), [model[i] for i in chosen]
    versions = []
    for number in range(12):
        own = fm.random.fold_in(key, number)
        picked = fm.random.choice(own, len(model), int(fm.random.integers(own, 0, 5))).tolist()
        base = (
            versions[int(fm.random.integers(own, 0, len(versions)))] if versions and number % 4 == 3 else (data, model)
        )
        new = step.resident(base[0].select(picked), I32(number + 1))
        data = base[0].updated(new)
        model = [value + (number + 1) * (i in picked) for i, value in enumerate(base[1])]
        versions.append((data, model))
        versions = versions[-5:]
        gc.collect()
        assert data.indices.tolist() == chosen
        for kept, wanted in versions:
            assert numbers(kept) == wanted
    assert (
        fm.replicate(fc(lambda s: s.n, CLIENTS)(data) if False else fc(lambda s: s, CLIENTS)(data))[0]["n"] == model[0]
    )


def test_rows_are_used_again(comm):
    data = fm.client_data.full(100, state(0), CLIENTS)
    for number in range(60):
        cohort = data.select([(7 * number + i) % 100 for i in range(5)])
        data = data.updated(step.resident(cohort, I32(1)))
    del cohort  # a view of an older version
    gc.collect()
    if data._version is not None:
        assert len(data._version.store.users) <= 1.5 * (len(data.mine) + 20)
        assert (data._version.store.users > 0).sum() <= len(data.mine)
    assert sum(numbers(data)) == 300


def test_values_that_were_computed_elsewhere_are_sent_home(comm):
    here = fm.client_data([state(i) for i in range(6)], CLIENTS)
    there = fm.MpiContext(server_trains=True) if comm.size > 1 else fm.MpiContext()
    with there:
        other = fm.client_data([state(10 + i) for i in range(6)], CLIENTS)
    made = here.updated(other.select([4, 0, 5]))
    assert numbers(made) == [10, 1, 2, 3, 14, 15]
    assert np.array_equal(made.owner, here.owner)


def test_open_sizes(comm):
    type_ = fm.type_at_clients(fm.to_type((F32, [None])))
    data = fm.client_data([np.arange(i, dtype=F32) for i in range(5)], type_)
    append = fm.numba_computation(lambda x: np.append(x, F32(9)), (F32, [None]), result=(F32, [None]))
    longer = fc(lambda v: fm.federated_map(append, v), type_)
    new = data.updated(longer.resident(data.select([3, 1])))
    new = new.updated(longer.resident(new.select([1])))
    found = fm.gather(new)
    if fm.is_server():
        assert [list(v) for v in found] == [[], [0, 9, 9], [0, 1], [0, 1, 2, 9], [0, 1, 2, 3]]
    assert new.sizes.tolist() == [1] * 5


def test_reading(comm):
    data = fm.client_data([state(i) for i in range(7)], CLIENTS)
    one, last = data[2], data[-1]
    if fm.is_server():
        assert (one["n"], last["n"]) == (2, 6)
    else:
        assert isinstance(one, Placeholder)
    assert len(list(data)) == 7
    starts = [(block.start, block.count, len(block.arrays), len(block.values())) for block in data.blocks(3)]
    arrays = 2 if fm.is_server() else 0
    values = [3, 3, 1] if fm.is_server() else [0, 0, 0]
    assert starts == [(0, 3, arrays, values[0]), (3, 3, arrays, values[1]), (6, 1, arrays, values[2])]
    for call, kind, text in (
        (lambda: data[7], IndexError, "a client's number must be from 0 to 6, found 7"),
        (lambda: data["a"], TypeError, "a client's number must be a whole number, found 'a'"),
        (lambda: data[1:3], TypeError, r"hint: a cohort is data\.select"),
        (lambda: list(data.blocks(0)), ValueError, "clients must be a whole number from 1, found 0"),
        (lambda: fm.gather([1]), TypeError, "data must be ClientData, found list"),
        (lambda: np.asarray(data), TypeError, "is no array: .*\n.*\n.*hint: fm.gather"),
    ):
        with pytest.raises(kind, match=text):
            call()


def test_blocks_make_the_same_data(comm):
    data = fm.client_data([state(i) for i in range(11)], CLIENTS).updated(
        step.resident(fm.client_data([state(i) for i in range(11)], CLIENTS).select([9, 2]), I32(100))
    )
    for size in (1, 4, 100):
        blocks = list(data.blocks(size)) if fm.is_server() else [*data.blocks(size), "anything"]
        again = fm.client_data.from_blocks(blocks, 11, CLIENTS)
        assert numbers(again) == numbers(data)
    sequences = fm.type_at_clients(fm.SequenceType(F32))
    lists = fm.client_data([[float(j) for j in range(i)] for i in range(5)], sequences, storage="dense")
    again = fm.client_data.from_blocks(list(lists.blocks(2)), 5, sequences)
    assert again.sizes.tolist() == [0, 1, 2, 3, 4]


def test_blocks_that_are_wrong(comm):
    data = fm.client_data([state(i) for i in range(4)], CLIENTS)
    blocks = list(data.blocks(2))

    def failing():
        yield blocks[0]
        raise RuntimeError("the file is damaged")

    for given, count, kind, text in (
        (lambda: blocks[:1], 4, ValueError, "blocks must be of all 4 clients, found 2"),
        (lambda: blocks[::-1], 4, ValueError, "after client 0 comes a block from 2 on"),
        (lambda: [3], 4, TypeError, "blocks must be of <w=float32.3.,n=int32>, found int"),
        (failing, 4, RuntimeError, "the file is damaged"),
    ):
        with pytest.raises(kind, match=text):
            fm.client_data.from_blocks(given(), count, CLIENTS)
    assert numbers(data) == [0, 1, 2, 3]


def test_updates_that_are_refused(comm):
    data = fm.client_data([state(i) for i in range(6)], CLIENTS)
    others = fm.client_data([state(i) for i in range(9)], CLIENTS)
    with pytest.raises(IndexError, match="found client 7, which is none of its 6"):
        data.updated(others.select([1, 7]))
    with pytest.raises(IndexError, match="found client 1, which is none of its 2"):
        data.select([0, 3]).updated(data.select([3, 1]))
    with pytest.raises(TypeError, match="cohort must be ClientData of <w=float32"):
        data.updated(fm.client_data([1.0], fm.type_at_clients(F32)))
    with pytest.raises(TypeError, match="found a list of 1"):
        data.updated([state(1)])
    with pytest.raises(TypeError, match="value, w: expected float32"):
        fm.client_data.full(3, {"w": [1.0], "n": 0}, CLIENTS)
    with pytest.raises(TypeError, match="n must be a number of clients, found -1"):
        fm.client_data.full(-1, state(0), CLIENTS)
    assert data.updated(data.select([])).indices.tolist() == list(range(6))


class Lazy:
    """Clients that are made when they are asked for."""

    def __init__(self, sizes=None):
        self.asked = []
        if sizes is not None:
            self.sizes = sizes

    def __len__(self):
        return 8

    def __getitem__(self, index):
        self.asked.append(index)
        return [float(j) for j in range(index + 1)]


def test_a_lazy_sequence_is_loaded_by_owners_alone(comm):
    from collections.abc import Sequence

    Sequence.register(Lazy)
    type_ = fm.type_at_clients(fm.SequenceType(F32))
    for sizes in (None, list(range(1, 9))):
        clients = Lazy(sizes)
        data = fm.client_data(clients, type_)
        assert sorted(clients.asked) == data.owned
        assert data.sizes.tolist() == list(range(1, 9))
        total = fc(lambda d: fm.federated_sum(fm.federated_map(
            fc(lambda q: fm.sequence_sum(q), fm.SequenceType(F32)), d)), type_)  # fmt: skip
        assert fm.replicate(total(data)) == sum(sum(range(i + 1)) for i in range(8))
    with pytest.raises(TypeError, match="sizes of a sequence must be a whole number from 0 for each of its 8 clients"):
        fm.client_data(Lazy([1, 2]), type_)


def test_a_folder(comm, tmp_path_factory):
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as own:
        for i in range(5):
            np.save(Path(own) / f"client{i}.npy", np.full(i + 1, i, F32))
        (Path(own) / "notes.txt").write_text("no client")
        clients = fm.data.folder(own, np.load, "*.npy")
        type_ = fm.type_at_clients(fm.to_type((F32, [None])))
        data = fm.client_data(clients, type_)
        found = fm.gather(data)
    if fm.is_server():
        assert [len(v) for v in found] == [1, 2, 3, 4, 5]
    with pytest.raises(fm.data.DataError, match="there is no folder"):
        fm.data.folder(own, np.load)


def test_an_argument_that_is_returned_keeps_its_rows(comm):
    """What a call returns untouched is in the store of its argument: nobody writes there while it lives."""
    at = fm.type_at_clients(np.int32)
    add = fm.numba_computation(lambda s: s + 1, np.int32)

    @fm.federated_computation(at)
    def step(x):
        return fm.federated_map(add, x), x

    states, kept = fm.client_data.full(3, 0, at), []
    for _ in range(6):
        new, old = step.resident(states)
        kept.append((old, step.resident(old)[1].select([2, 0])))
        states = states.updated(new)
    for number, (old, cohort) in enumerate(kept):
        if comm.rank == 0:
            assert fm.gather(old) == [number] * 3
            assert fm.gather(cohort) == [number] * 2
        else:
            fm.gather(old), fm.gather(cohort)


@pytest.mark.parametrize("storage", ["auto", "bytes", "sparse", "dense"])
@pytest.mark.parametrize("cohort", [[], [0], [1, 3]])
def test_values_that_are_kept_as_bytes_are_updated(comm, storage, cohort):
    """On ranks that have nobody in the cohort too."""
    data = fm.client_data(
        [np.full(8, k / 255, np.float32) for k in range(6)], fm.type_at_clients((np.float32, [8])), storage=storage
    )
    new = data.updated(data.select(cohort))
    for value, wanted in zip(fm.gather(new), fm.gather(data), strict=True):
        if comm.rank == 0:
            np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda b: dataclasses.replace(b, arrays=(b.arrays[0].astype(np.float64),)), r"float32\[5,2\], found float64"),
        (
            lambda b: dataclasses.replace(b, arrays=(np.ones((5, 7), np.float32),)),
            r"float32\[5,2\], found float32\[5,7\]",
        ),
        (
            lambda b: dataclasses.replace(b, arrays=(np.ones((2, 2), np.float32),)),
            r"float32\[5,2\], found float32\[2,2\]",
        ),
        (lambda b: dataclasses.replace(b, arrays=()), "1 array, found 0"),
        (lambda b: 3, "found int"),
    ],
)
def test_blocks_that_are_none_are_refused_on_all_ranks(comm, change, text):
    at = fm.type_at_clients((np.float32, [2]))
    (block,) = fm.client_data([np.full(2, k, np.float32) for k in range(5)], at).blocks(5)
    block = change(block) if comm.rank == 0 else block
    with pytest.raises((TypeError, ValueError), match=text):
        fm.client_data.from_blocks([block], 5, at)
    with pytest.raises(TypeError, match=r"blocks must be.*found 5" if comm.rank == 0 else "blocks must be"):
        fm.client_data.from_blocks(5, 5, at)
    for number in (5.0, True, -1):
        with pytest.raises(TypeError, match="n must be a number of clients"):
            fm.client_data.from_blocks([], number, at)


def test_blocks_are_copied(comm):
    at = fm.type_at_clients((np.float32, [2]))
    (block,) = fm.client_data([np.full(2, k, np.float32) for k in range(5)], at).blocks(5)
    array = np.ones((5, 2), np.float32)
    data = fm.client_data.from_blocks([dataclasses.replace(block, arrays=(array,))], 5, at)
    array[:] = 7
    data = data.updated(data.select([1]))
    array[:] = 8
    if comm.rank == 0:
        np.testing.assert_array_equal(np.array(fm.gather(data)), np.ones((5, 2)))
    else:
        fm.gather(data)


@pytest.mark.parametrize(
    ("type_", "value", "size"),
    [
        (fm.SequenceType((F32, [4, 2])), [np.zeros((4, 2), F32)] * 3, 12),
        (fm.SequenceType((F32, [None, 2])), [np.zeros((5, 2), F32)] * 2, 10),
        (fm.SequenceType((F32, [None, None])), [np.zeros((5, 2), F32)], 5),
        (fm.SequenceType(F32), [1.0, 2.0], 2),
        (
            fm.to_type({"s": fm.SequenceType((F32, [None, 2])), "n": I32}),
            {"s": [np.zeros((5, 2), F32)] * 2, "n": 1},
            11,
        ),
        (fm.to_type((F32, [7])), np.zeros(7, F32), 1),
    ],
)
def test_sizes_are_those_by_which_clients_are_dealt(comm, type_, value, size):
    assert works([value], type_).tolist() == [size]
    assert fm.client_data([value] * 4, type_).sizes.tolist() == [size] * 4


@pytest.mark.parametrize("offsets", [[0, 2, 9, 9], [0, 2], [0, 3, 1, 3], [0, 2, 3]])
def test_offsets_that_do_not_fit_are_refused_on_all_ranks(comm, offsets):
    at = fm.type_at_clients(fm.SequenceType(F32))
    (block,) = fm.client_data([[1.0, 2.0], [3.0], []], at).blocks(3)
    if comm.rank == 0:
        block = dataclasses.replace(block, arrays=(np.array(offsets), *block.arrays[1:]))
    with pytest.raises(ValueError, match="do not fit each other"):
        fm.client_data.from_blocks([block], 3, at)
