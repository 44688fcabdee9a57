"""The programs of ``federated_language`` in one process, on the reference evaluator and on one rank."""

from __future__ import annotations

import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

import federated_language as fl

import fedmpi as fm
from fedmpi.interop import federated_language as bridge
from tests.interop import federated_programs  # noqa: F401  # adds its cases
from tests.interop.programs import CASES
from tests.programs import assert_same


@pytest.mark.parametrize("name", CASES)
def test_on_the_reference_evaluator(name):
    case = CASES[name]
    with fl.framework.get_context_stack().install(bridge.context(fm.ReferenceContext())):
        assert_same(case.computation(*case.arguments, **case.keywords), case.expected)
