"""Stages as values: all that is known of a program before any call, without MPI and without Numba."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.runtime.plan.decision import From, No, Yes
from fedmpi.runtime.plan.plan import build
from fedmpi.runtime.plan.stage import Options
from tests.mpijob import ROOT

F32, I32 = np.float32, np.int32
fc, clients, server = fm.federated_computation, fm.type_at_clients, fm.type_at_server
MODEL = [("w", (F32, [10])), ("b", F32)]
plus = fc(lambda a, b: a + b, F32, F32)
summed = fc(lambda q: fm.sequence_reduce(q, 0.0, plus), fm.SequenceType(F32))
scaled = fc(lambda m, x: m.w * x, MODEL, F32)
same = fc(lambda s: s, F32)


def stages(body, *types, **options):
    return build(fc(body, *types), (), Options(**options)).stages


def ops(nodes):
    return [node.op for node in nodes]


def one_round(model, data):
    return fm.federated_mean(fm.federated_map(scaled, (fm.federated_broadcast(model), data)), data)


def test_a_round():
    first, last = stages(one_round, server(MODEL), clients(F32))
    assert (ops(first.sent), ops(first.broadcasts), ops(first.server)) == (["input"], ["federated_broadcast"], [])
    assert ops(first.steps) == ["federated_zip", "federated_map"]
    assert [node.detail for node in first.columns] == [("data",)]
    assert (ops(first.reductions), first.folds, first.collects, first.kept) == (["federated_mean"], (), (), ())
    assert (first.bytes_down, first.layout.exact, first.layout.limits) == (44, 11, 0)  # a weight beside ten numbers
    assert first.bytes_up == 8 * 8 * 11
    assert (first.compiled, first.arrives, first.confirms) == (From(100), True, False)
    assert (last.number, last.has_clients, last.arrives, last.confirms) == (1, False, False, False)


def test_two_rounds_in_one_program():
    """What the first brings up goes down in the second, whose broadcast rank 0 announces by a word."""
    first, second, last = stages(
        lambda m, d: fm.federated_sum(fm.federated_map(plus, (fm.federated_broadcast(fm.federated_sum(d)), d))),
        server(F32), clients(F32),
    )  # fmt: skip
    assert ops(first.reductions) == ops(second.reductions) == ["federated_sum"]
    assert (ops(second.sent), second.confirms, second.bytes_down) == (["federated_sum"], True, 4)
    assert not last.confirms


def test_what_a_later_stage_and_the_result_need_is_kept():
    def body(v):
        doubled = fm.federated_map(fc(lambda x: x + x, F32), v)
        again = fm.federated_map(plus, (doubled, fm.federated_broadcast(fm.federated_sum(doubled))))
        return again, fm.federated_sum(again)

    first, second, _ = stages(body, clients(F32))
    assert ops(first.kept) == ["federated_map"]
    assert ops(second.kept) == ["federated_map"]
    assert second.columns == first.kept


def test_an_aggregate_folds_and_rank_0_says_that_it_went_well():
    first, last = stages(lambda v: fm.federated_aggregate(v, 0.0, plus, plus, same), clients(F32))
    assert (ops(first.folds), first.reductions, first.bytes_of_states, first.bytes_up) == (
        ["federated_aggregate"],
        (),
        4,
        64 * 4,
    )
    assert (first.folding.folds, first.folding.steps, first.folding.columns) == (first.folds, (), first.columns)
    assert first.folds_anywhere
    assert last.confirms


def test_a_selection_sends_the_servers_value_and_the_greatest_key():
    pick = fc(lambda table, key: table, (F32, [3]), I32)
    (first,) = stages(
        lambda k, m, t: fm.federated_select(k, m, t, pick), clients((I32, [2])), server(I32), server((F32, [3]))
    )
    assert (ops(first.selections), len(first.sent), first.bytes_down) == (["federated_select"], 2, 16)
    assert first.kept == first.steps
    assert first.compiled == No("a value of type float32[3]* that is kept")


def test_secure_sums_have_limits():
    first, last = stages(lambda v: fm.federated_secure_sum(v, 10), clients((I32, [3])))
    assert (ops(first.secure), first.layout.secure, first.layout.limits, first.bytes_up) == (
        ["federated_secure_sum"], 3, 1, 48,
    )  # fmt: skip
    assert last.confirms  # an integer may not fit


def test_collecting_keeps_what_a_step_gave():
    first, last = stages(lambda v: fm.federated_collect(fm.federated_map(fc(lambda x: x + x, F32), v)), clients(F32))
    assert (ops(first.collects), ops(first.kept)) == (["federated_collect"], ["federated_map"])
    assert (first.arrives, last.confirms) == (True, True)


def test_what_all_clients_have_alike_is_computed_once():
    (first, _) = stages(
        lambda m, v: fm.federated_sum(fm.federated_zip((fm.federated_broadcast(m)[1], v))), server(MODEL), clients(F32)
    )
    assert ops(first.shared) == ["select"]


def test_sizes_that_a_type_leaves_open():
    first, _ = stages(lambda v: fm.federated_max(v), clients((F32, [None])))
    assert (first.layout, first.bytes_up) == (None, None)
    assert first.compiled == No("what is summed has sizes that its type leaves open")
    down, _ = stages(lambda m, v: (fm.federated_sum(v), fm.federated_broadcast(m)), server((F32, [None])), clients(F32))
    assert down.bytes_down is None


@pytest.mark.parametrize(
    ("options", "compiled"),
    [
        ({}, Yes()),
        ({"fuse": True}, Yes()),
        ({"fuse": False}, No("the context has fuse=False", asked=True)),
        ({"fuse": False, "only": True}, Yes()),
        ({"debug": True}, No("debug mode", asked=True)),
    ],
)
def test_how_clients_are_run(options, compiled):
    first, _ = stages(lambda v: fm.federated_sum(fm.federated_map(summed, v)), clients(fm.SequenceType(F32)), **options)
    assert first.compiled == compiled


def test_python_at_the_clients():
    body = fm.python_computation(lambda x: x, F32, result=F32)
    first, _ = stages(lambda v: fm.federated_sum(fm.federated_map(body, v)), clients(F32))
    assert first.compiled == No("<lambda> is a python_computation", asked=True)


def test_the_way_of_sums_is_part_of_a_stage():
    for mode, store in (("exact", "exact"), ("float64", "plain"), ("fast", "plain")):
        first, _ = stages(lambda v: fm.federated_sum(v), clients((F32, [5])), mode=mode)
        assert getattr(first.layout, store) == 5
    assert first.bytes_up == 5 * 4


def test_a_stage_is_frozen():
    (first, _) = stages(one_round, server(MODEL), clients(F32))
    with pytest.raises(dataclasses.FrozenInstanceError):
        first.steps = ()


WITHOUT = """
import sys
from tests.runtime.test_stages import *
test_a_round()
test_an_aggregate_folds_and_rank_0_says_that_it_went_well()
test_a_selection_sends_the_servers_value_and_the_greatest_key()
print([name for name in ("numba", "mpi4py") if name in sys.modules])
"""


def test_neither_numba_nor_mpi_is_loaded():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")
