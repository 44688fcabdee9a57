"""The programs of ``federated_language`` on the reference evaluator; those without placements where they are called."""

from __future__ import annotations

import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import federated_language as fl

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop import larger_programs, programs, tutorial
from tests.programs import assert_same

STACK = fl.framework.get_context_stack()


ALL = programs.CASES | larger_programs.CASES


@pytest.mark.parametrize("name", ALL)
def test_on_the_reference_evaluator(name):
    case = ALL[name]
    with STACK.install(bridge.context(fm.ReferenceContext())):
        assert_same(case.computation(*case.arguments, **case.keywords), case.expected)


@pytest.mark.parametrize("name", programs.CASES)
def test_where_it_is_called(name):
    case = programs.CASES[name]
    with STACK.install(bridge.context(fm.MpiContext())):
        assert_same(case.computation(*case.arguments, **case.keywords), case.expected)


def test_first_part_of_the_tutorial():
    with STACK.install(bridge.context(fm.ReferenceContext())):
        for got, shown in tutorial.first_part():
            assert_same(got, shown)
