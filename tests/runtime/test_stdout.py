"""Plans, trees and pictures: of programs of any length, and in characters that stdout has."""

from __future__ import annotations

import io
import sys

import pytest

import fedmpi as fm
from fedmpi.runtime.mpi.stdout import fit_all, fitting
from fedmpi.runtime.show.explanation import DEEPEST
from tests.programs import AT_CLIENTS, AT_SERVER, F32, plus

LONG, MANY = 3000, 1000  # operators in a chain; of those at the clients


@fm.federated_computation(AT_SERVER(F32), AT_CLIENTS(F32))
def step(model, values):
    return fm.federated_mean(fm.federated_map(plus, [fm.federated_broadcast(model), values]))


def stdout_in(monkeypatch, encoding, errors="strict"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    return stream


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("show", [fm.plan, fm.explain, fm.draw])
def test_they_can_be_printed(monkeypatch, encoding, show):
    stream = stdout_in(monkeypatch, encoding)
    shown = show(step)
    print(shown)
    print(repr(shown))
    stream.flush()
    text = stream.buffer.getvalue().decode(encoding)
    assert "federated_map" in text
    if encoding == "utf-8":
        assert show is fm.plan or any(c in text for c in "├│")
    elif show is fm.draw:
        assert "\n| " in text
        assert len({len(line) for line in text.splitlines()[1:5]}) == 1


def test_characters_that_look_like_others(monkeypatch):
    stdout_in(monkeypatch, "ascii")
    assert fitting("├─ “é” 名 ▶ …") == '+- "\\xe9" \\u540d > ...'
    stdout_in(monkeypatch, "latin-1")
    assert fitting("├─ é 名") == "+- é \\u540d"
    monkeypatch.setattr(sys, "stdout", None)
    assert fitting("├") == "├"
    fit_all()


def test_what_a_command_prints(monkeypatch):
    stream = stdout_in(monkeypatch, "ascii")
    fit_all()
    print("5 µs → é")
    stream.flush()
    assert stream.buffer.getvalue() == b"5 us -> \\xe9\n"
    kept = stdout_in(monkeypatch, "ascii", "replace")  # what somebody has chosen
    fit_all()
    assert kept.errors == "replace"


def test_files_are_in_utf_8(monkeypatch, tmp_path):
    stdout_in(monkeypatch, "ascii")
    assert "│" in fm.draw(step, tmp_path / "step.txt").read_text(encoding="utf-8")


@fm.numba_computation(F32)
def towards_one(x):
    return x * F32(0.5) + F32(0.5)


def chain(start, another, length=MANY):
    value = start
    for _ in range(length):
        value = another(value)
    return value


CHAINS = {
    "operators": fm.federated_computation(lambda x: chain(x, lambda v: v + 1.0, LONG), F32),
    "maps": fm.federated_computation(
        lambda x: fm.federated_sum(chain(x, lambda v: fm.federated_map(towards_one, v))), AT_CLIENTS(F32)
    ),
    "zips": fm.federated_computation(
        lambda x: chain(x, lambda v: fm.federated_map(plus, fm.federated_zip((v, x)))), AT_CLIENTS(F32)
    ),
}


@pytest.mark.parametrize("name", CHAINS)
def test_long_programs(name):
    long = CHAINS[name]
    text = str(fm.explain(long))
    assert text.count("add" if name == "operators" else "federated_map") >= (LONG if name == "operators" else MANY)
    assert max(line.count("│") + line.count("   ") for line in text.splitlines()) < 3 * DEEPEST
    assert "RecursionError" not in str(fm.plan(long)) + str(long) + repr(long) + fm.draw(long).text
    assert hash(long) == long._hash


def test_long_programs_run():
    assert CHAINS["operators"](1.0) == LONG + 1
    assert CHAINS["maps"]([1.0, 1.0]) == 2
    with fm.ReferenceContext():
        assert CHAINS["operators"](1.0) == LONG + 1
        assert CHAINS["maps"]([1.0, 1.0]) == 2
    with fm.debug():
        assert CHAINS["operators"](1.0) == LONG + 1


def test_a_chain_is_cut_where_it_is_deep():
    lines = str(fm.explain(CHAINS["operators"])).splitlines()
    named = [line for line in lines if line.strip().startswith("%")]
    assert len(named) == LONG // DEEPEST
