"""The generated code can be seen: five loops as they are, `fm.explain(code=True)`, tracebacks, files of the cache."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.local.jit import cache
from fedmpi.local.loops.compiled import CompiledFunction
from fedmpi.runtime.plan.plan import build
from fedmpi.runtime.show.code_text import loop_text

F32, I32 = np.float32, np.int32
fc, clients, server = fm.federated_computation, fm.type_at_clients, fm.type_at_server
PAIR = fm.to_type([("total", F32), ("count", I32)])


@fm.numba_computation(F32, F32)
def plus(state, x):
    return state + x


@fm.numba_computation(PAIR, F32)
def gather(state, x):
    return {"total": state.total + x, "count": state.count + 1}


@fm.numba_computation(PAIR, PAIR)
def merge(a, b):
    return {"total": a.total + b.total, "count": a.count + b.count}


@fm.numba_computation(PAIR)
def share(state):
    return state.total / np.float32(state.count)


@fm.numba_computation((F32, [3]), I32)
def row(table, key):
    return table[key]


def mean_of_sums(v, w):
    total = fc(lambda q: fm.sequence_reduce(q, 0.0, plus), fm.SequenceType(F32))
    return fm.federated_mean(fm.federated_map(total, v), w)


LOOPS = {
    "sum": fc(fm.federated_sum, clients([("a", (F32, [2])), ("b", I32)])),
    "mean of sums": fc(mean_of_sums, clients(fm.SequenceType(F32)), clients(F32)),
    "secure and least": fc(lambda v: (fm.federated_secure_sum(v, 9), fm.federated_min(v)), clients((I32, [2]))),
    "aggregate": fc(
        lambda v: fm.federated_aggregate(v, {"total": 0.0, "count": 0}, gather, merge, share), clients(F32)
    ),
    "select": fc(
        lambda k, m, t: fm.federated_map(
            fc(lambda q: fm.sequence_reduce(q, 0.0, plus), fm.SequenceType(F32)), fm.federated_select(k, m, t, row)
        ),
        clients((I32, [2])), server(I32), server((F32, [3])),
    ),
}  # fmt: skip
GOLDEN = Path(__file__).with_name("loops.txt")


def written():
    """Return the loops' texts, one below the other; python -m tests.runtime.test_loop_text writes them anew."""
    texts = []
    for name, computation in LOOPS.items():
        (stage,) = [s for s in build(computation).stages if s.has_clients]
        text = re.sub(r"test_loop_text\.py:\d+", "test_loop_text.py", loop_text(stage))
        texts.append(f"--- {name}\n{text}\n")
    return "\n".join(texts)


def test_five_loops_are_as_they_were_read():
    """If this fails: read what has changed, then `python -m tests.runtime.test_loop_text`."""
    assert written() == GOLDEN.read_text()


def test_explain_shows_the_code_and_what_its_names_stand_for():
    text = str(fm.explain(LOOPS["mean of sums"], code=True))
    assert "\ncode\n  stage 0: the clients of a rank\n" in text
    assert re.search(r"# K\d+: plus \(test_loop_text\.py:\d+\)", text)
    assert re.search(r"for client in range\(len\(a10\)\):", text)
    assert re.search(r"# federated_mean at test_loop_text\.py:\d+", text)
    assert "code" not in str(fm.explain(LOOPS["mean of sums"])).splitlines()


def test_what_is_not_compiled_says_why():
    body = fm.python_computation(lambda x: x, F32, result=F32)
    program = fc(lambda v: fm.federated_sum(fm.federated_map(body, v)), clients(F32))
    assert "stage 0: client by client, for <lambda> is a python_computation" in str(fm.explain(program, code=True))
    local = fc(lambda q: fm.sequence_reduce(q, 0.0, plus), fm.SequenceType(F32))
    assert "def function(progress, a0, a1, a2):" in str(fm.explain(local, code=True))
    assert "none is generated" in str(fm.explain(plus, code=True))


def test_work_at_the_server_that_is_compiled_is_shown():
    local = fc(lambda q: fm.sequence_reduce(q, 0.0, plus), fm.SequenceType(F32))
    text = str(fm.explain(fc(lambda v: fm.federated_map(local, fm.federated_collect(v)), clients(F32)), code=True))
    assert re.search(r"stage 1: federated_map at test_loop_text\.py:\d+\n.*\n.*def function\(", text, re.DOTALL)


def test_files_and_tracebacks_bear_the_name_of_the_computation(tmp_path, monkeypatch):
    monkeypatch.setenv("FEDMPI_CACHE_DIR", str(tmp_path))
    cache.folder.cache_clear()
    try:
        with fm.compiled_only(), fm.MpiContext():
            assert LOOPS["secure and least"]([np.array([1, 2], I32), np.array([3, 0], I32)])[0].tolist() == [4, 2]
        (path,) = tmp_path.rglob("the_clients_loop_of_lambda*.nbc")
        assert ".entry-" in path.name
    finally:
        cache.folder.cache_clear()
    shown = [name for name in linecache.cache if name.startswith("<fedmpi the clients' loop of lambda ")]
    assert any("for client in range" in "".join(linecache.getlines(name)) for name in shown)


def test_a_function_that_is_not_stored_has_lines_too():
    made = CompiledFunction(plus.expression.impl, plus.type_signature.parameter, plus.type_signature.result, "my plus")
    assert made((F32(1), F32(2)), ()) == F32(3)
    (name,) = [name for name in linecache.cache if name.startswith("<fedmpi my plus ") and _has(name, "def core(")]
    assert linecache.getline(name, 1).startswith("def core(progress")


def _has(name, text):
    return text in "".join(linecache.getlines(name))


# --- compiled_only ---


def test_few_clients_are_compiled_too():
    with fm.compiled_only():
        assert "clients, one compiled loop: federated_sum" in str(fm.plan(LOOPS["sum"]))
    assert "from 100 clients a call on" in str(fm.plan(LOOPS["sum"]))


@pytest.mark.parametrize("options", [{}, {"fuse": True}])
def test_what_cannot_be_compiled_is_an_error(options):
    open_sizes = fc(fm.federated_max, clients((F32, [None])))
    values = [np.ones(2, F32)] * 3
    with fm.MpiContext(**options):
        assert open_sizes(values).tolist() == [1, 1]
        with fm.compiled_only(), pytest.raises(RuntimeError) as caught:
            open_sizes(values)
        assert open_sizes(values).tolist() == [1, 1]
    assert re.fullmatch(
        r"federated_max: fm\.compiled_only: federated_max at test_loop_text\.py:\d+ would be run client by client, for "
        r"what is summed has sizes that its type leaves open\n  at test_loop_text\.py:\d+",
        str(caught.value),
    )


def test_what_the_program_asked_for_is_an_error_too():
    body = fm.python_computation(lambda x: x, F32, result=F32)
    program = fc(lambda v: fm.federated_map(body, v), clients(F32))
    with fm.MpiContext(fuse=False), fm.compiled_only():
        with pytest.raises(RuntimeError, match="<lambda> is a python_computation"):
            program([1.0])
        assert LOOPS["sum"]([{"a": np.ones(2, F32), "b": 1}])["b"] == 1


def test_a_call_says_once_what_runs_slowly_and_why(caplog):
    slowly = fc(fm.federated_max, clients((F32, [None])))
    asked = fm.python_computation(lambda x: x, F32, result=F32)
    with fm.MpiContext():
        for _ in range(2):
            slowly([np.ones(2, F32)])
            fc(lambda v: fm.federated_map(asked, v), clients(F32))([1.0])
    assert [record.getMessage() for record in caplog.records] == [
        "federated_max: its clients are run client by client, for what is summed has sizes that its type leaves open"
    ]


if __name__ == "__main__":
    GOLDEN.write_text(written())
