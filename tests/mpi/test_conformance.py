"""The cases of tests/language that call a computation, on these ranks; the server's rank compares the values."""

from __future__ import annotations

import pytest

import fedmpi as fm
from tests.language.test_conformance import CASES, NAMES, check, needed

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("case", [c for c in CASES if c.get("exec")], ids=lambda case: case["id"])
def test_calls(case):
    needed(case)
    if "raises" in case["expect"] or fm.is_server():
        check(case)
    else:
        eval(case["given"], dict(NAMES))
