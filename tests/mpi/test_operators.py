"""federated_min, max, eval, select and aggregate on these ranks: arithmetic decides, not only the reference."""

from __future__ import annotations

import collections

import numpy as np
import pytest

import fedmpi as fm
from tests.mpi.test_errors import raises_everywhere
from tests.programs import assert_same

pytestmark = pytest.mark.mpi

C, S = fm.CLIENTS, fm.SERVER
F32, I32 = np.float32, np.int32
fc = fm.federated_computation
clients, server = fm.type_at_clients, fm.type_at_server
DTYPES = [
    np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32,
    np.float64,
]  # fmt: skip
FUSE = pytest.mark.parametrize("fuse", [False, True])


def run(fuse, computation, *arguments, **options):
    """Run a computation on these ranks; it must give what the reference evaluator gives."""
    fm.set_default_context(fm.MpiContext(fuse=fuse, **options))
    got = fm.replicate(computation(*arguments))
    reference = fm.ReferenceContext(num_clients=options.get("num_clients"))
    want = reference.invoke(computation, arguments[0] if len(arguments) == 1 else arguments or None)
    assert_same(got, want, bits=True)
    return got


# --- least and greatest ---


@pytest.mark.parametrize(("dtype", "fuse"), [*((d, False) for d in DTYPES), (np.int8, True), (np.uint64, True)])
def test_extremes_of_every_dtype(comm, dtype, fuse):
    info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
    numbers = np.array([[3, info.max, 0], [info.min, 7, 1], [100, 100, 100], [5, 6, 2]], dtype)
    extremes = fc(lambda x: (fm.federated_min(x), fm.federated_max(x)), clients((dtype, [3])))
    least, greatest = run(fuse, extremes, list(numbers))
    assert least.tobytes() == numbers.min(axis=0).tobytes()
    assert greatest.tobytes() == numbers.max(axis=0).tobytes()


@FUSE
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extremes_order_zeros_keep_infinities_and_pass_nan_on(comm, fuse, dtype):
    extremes = fc(lambda x: (fm.federated_min(x), fm.federated_max(x)), clients(dtype))

    def of(*numbers):
        return [x.tobytes() for x in run(fuse, extremes, [dtype(n) for n in numbers])]

    def bits(*numbers):
        return [dtype(n).tobytes() for n in numbers]

    assert of(0.0, -0.0, 0.0) == bits(-0.0, 0.0)
    assert of(np.inf) == bits(np.inf, np.inf)
    assert of(1.0, -np.inf, np.inf) == bits(-np.inf, np.inf)
    assert of(1.0, -np.nan, 3.0) == bits(np.nan, np.nan)


@FUSE
def test_extremes_of_structs_beside_sums_travel_in_one_reduce(comm, fuse, monkeypatch):
    type_ = collections.OrderedDict(a=F32, b=(I32, [2]))
    value = [{"a": F32(i - 3), "b": np.array([i, -i], I32)} for i in range(7)]
    both = fc(lambda x: (fm.federated_min(x), fm.federated_max(x.b), fm.federated_mean(x.a)), clients(type_))
    run(fuse, both, value)
    calls = []
    ireduce = comm._ireduce
    monkeypatch.setattr(comm, "_ireduce", lambda *args: (calls.append(args), ireduce(*args)))
    least, greatest, mean = fm.replicate(both(value))
    assert (least["a"], least["b"].tolist(), greatest.tolist(), mean) == (-3.0, [0, -6], [6, 0], 0.0)
    assert len(calls) == (comm.size > 1)


@FUSE
@pytest.mark.parametrize("reduction", ["float64", "fast"])
def test_all_kinds_of_sums_together(comm, fuse, reduction):
    together = fc(
        lambda x, y: (
            fm.federated_mean(x),
            fm.federated_secure_sum(y, 100),
            fm.federated_max((x, y)),
            fm.federated_sum((y, x)),
            fm.federated_secure_modular_sum(y, 3),
        ),
        clients(F32),
        clients((I32, [2])),
    )
    fm.set_default_context(fm.MpiContext(fuse=fuse, reduction=reduction))
    got = fm.replicate(together([F32(i) for i in range(8)], [np.array([i, 10], I32) for i in range(8)]))
    mean, total, (first, second), (again, whole), rest = got
    assert (mean, first, whole) == (3.5, 7.0, 28.0)
    assert [x.tolist() for x in (total, second, again, rest)] == [[28, 80], [7, 10], [28, 80], [1, 2]]


def test_extremes_of_open_dimensions(comm):
    extremes = fc(lambda x: (fm.federated_min(x), fm.federated_max(x)), clients((F32, [None])))
    least, greatest = run(None, extremes, [np.array([1, 5], F32), np.array([2, 3], F32)])
    assert (least.tolist(), greatest.tolist()) == ([1, 3], [2, 5])
    text = raises_everywhere(comm, ValueError, lambda: extremes([np.zeros(2, F32), np.zeros(3, F32)]))
    assert "client 0 has the shapes [[2]], client 1 has [[3]]" in text


@pytest.mark.parametrize(("operator", "what"), [(fm.federated_min, "least"), (fm.federated_max, "greatest")])
def test_extremes_of_no_clients(comm, operator, what):
    of_none = fc(lambda x: operator(x), clients(F32))
    text = raises_everywhere(comm, ValueError, lambda: of_none([]))
    assert text == f"lambda: {operator.__name__}: there are no clients to take the {what} value of"
    with pytest.raises(ValueError, match=f"there are no clients to take the {what} value of"):
        fm.ReferenceContext().invoke(of_none, [])


# --- eval ---


@FUSE
def test_eval_at_each_place(comm, fuse):
    @fm.numba_computation
    def seven():
        return np.int32(7)

    both = fc(
        lambda: (
            fm.federated_eval(seven, C),
            fm.federated_eval(seven, S),
            fm.federated_sum(fm.federated_eval(seven, C)),
        )
    )
    assert run(fuse, both, num_clients=5) == ([7] * 5, 7, 35)
    assert run(fuse, both, num_clients=0) == ([], 7, 0)
    fm.set_default_context(fm.MpiContext())
    text = raises_everywhere(comm, ValueError, lambda: both())
    assert "the number of clients is not known" in text


def test_eval_runs_once_for_each_client(comm):
    runs = []

    @fm.python_computation(result=I32)
    def counted():
        runs.append(1)
        return len(runs)

    used_twice = fc(lambda x: fm.federated_map(fc(lambda p: p), (fm.federated_eval(counted, C), x, x)), clients(I32))
    fm.set_default_context(fm.MpiContext())
    result = used_twice([10, 20, 30, 40, 50])
    total = sum(part.view(np.int64)[0] for part in comm.allgather_bytes(np.array([len(runs)]).view(np.uint8)))
    assert total == 5
    if comm.rank == 0:
        assert [r[1:] for r in result] == [(x, x) for x in (10, 20, 30, 40, 50)]


@FUSE
def test_eval_captures_unplaced_values(comm, fuse):
    scaled = fc(lambda x, by: fm.federated_sum(fm.federated_eval(fc(lambda: by + by), C)), clients(I32), F32)
    assert run(fuse, scaled, [1, 2, 3], F32(0.5)) == 3.0


# --- select ---


def row(matrix, key):
    return matrix[key] * 2


ROW = fm.numba_computation(fm.to_type((F32, [5, 2])), I32)(row)
MATRIX = np.arange(10, dtype=F32).reshape(5, 2)
KEYS = [np.array(k, I32) for k in ([0, 4, 0], [1, 1, 1], [4, 3, 2])]
SELECTED = clients((I32, [3])), server(I32), server((F32, [5, 2]))


@FUSE
@pytest.mark.parametrize("operator", [fm.federated_select, fm.federated_secure_select])
def test_select_gives_the_parts_in_the_order_of_the_keys(comm, fuse, operator):
    parts = fc(lambda k, m, v: operator(k, m, v, ROW), *SELECTED)
    got = run(fuse, parts, KEYS, 4, MATRIX)
    assert [[part.tolist() for part in of] for of in got] == [[(MATRIX[k] * 2).tolist() for k in keys] for keys in KEYS]
    assert run(fuse, parts, [], 4, MATRIX) == []


@FUSE
def test_select_feeds_compiled_loops(comm, fuse):
    rows = fm.SequenceType(fm.to_type((F32, [2])))

    @fm.numba_computation(rows, F32)
    def weighted(parts, factor):
        total = np.float32(0)
        for part in parts:
            total += part[0] * factor - part[1]
        return total

    program = fc(
        lambda k, m, v, f: fm.federated_sum(fm.federated_map(weighted, (fm.federated_select(k, m, v, ROW), f))),
        *SELECTED, clients(F32),
    )  # fmt: skip
    factors = [F32(1), F32(2), F32(3)]
    want = sum(f * 2 * MATRIX[k, 0] - 2 * MATRIX[k, 1] for keys, f in zip(KEYS, factors, strict=True) for k in keys)
    assert run(fuse, program, KEYS, 4, MATRIX, factors) == want
    text = str(fm.plan(program))
    assert "Bcast 44 B" in text
    assert (
        "client by client" in text if fuse is False else "clients, one compiled loop: federated_select of row" in text
    )


def test_select_makes_the_part_of_a_key_once_on_a_rank(comm):
    made = []

    @fm.python_computation(server((F32, [5, 2])).member, I32, result=(F32, [2]))
    def noted(matrix, key):
        made.append(int(key))
        return matrix[key]

    parts = fc(lambda k, m, v: fm.federated_select(k, m, v, noted), *SELECTED)
    fm.set_default_context(fm.MpiContext())
    parts(KEYS, 4, MATRIX)
    assert len(made) == len(set(made))
    assert made or comm.rank == 0 or comm.size > len(KEYS)


@FUSE
@pytest.mark.parametrize("wrong", [5, -1, 2**31 - 1])
def test_select_refuses_keys_out_of_range(comm, fuse, wrong):
    parts = fc(lambda k, m, v: fm.federated_sum(fm.federated_map(ones, fm.federated_select(k, m, v, ROW))), *SELECTED)
    fm.set_default_context(fm.MpiContext(fuse=fuse))
    bad = [KEYS[0], np.array([0, wrong, 1], I32), KEYS[2]]
    text = raises_everywhere(comm, ValueError, lambda: parts(bad, 4, MATRIX))
    assert f"a key is not in 0 to max_key: {wrong} is not in 0 … 4" in text
    assert "federated_select at test_operators.py:" in text
    assert "client 1 of k" in text
    with pytest.raises(ValueError, match=r"client 1 of k \(rank 0\): a key is not in 0 to max_key"):
        fm.ReferenceContext().invoke(parts, (bad, 4, MATRIX))


@fm.numba_computation(fm.SequenceType(fm.to_type((F32, [2]))))
def ones(parts):
    count = 0
    for _ in parts:
        count += 1
    return np.int32(count)


@FUSE
def test_select_takes_any_max_key_and_keys_made_on_the_way(comm, fuse):
    @fm.numba_computation(I32)
    def keys_of(x):
        return np.array([x, 0, x], np.int32)

    parts = fc(
        lambda x, m, v: fm.federated_sum(
            fm.federated_map(ones, fm.federated_select(fm.federated_map(keys_of, x), m, v, ROW))
        ),
        clients(I32),
        *SELECTED[1:],
    )
    assert run(fuse, parts, [0, 1, 4, 2], 2**31 - 1, MATRIX) == 12
