"""What docs/interop.md shows is true: its program runs as it says, and prints what it says."""

from __future__ import annotations

import re

import pytest

pytest.importorskip("federated_language", reason="needs fedmpi[federated-language]")

from fedmpi.interop import federated_language as bridge
from tests import needs
from tests.mpijob import ROOT, run_job

TEXT = (ROOT / "docs" / "interop.md").read_text()
BLOCKS = dict(re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL))


@needs.mpi_jobs
@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_program(tmp_path, ranks):
    script = tmp_path / "program.py"
    script.write_text(BLOCKS["python"])
    done = run_job(ranks, [script], timeout=100)
    assert done.returncode == 0, done
    type_, result, plan = done.stdout.split("\n", 2)
    assert type_ == "(<readings={float32*}@CLIENTS,threshold=float32@SERVER> -> float32@SERVER)"
    assert result == "72.5"
    assert plan == BLOCKS["text"]


def test_the_table_names_all_of_the_bridge():
    table = TEXT[TEXT.index("## The bridge") : TEXT.index("A computation's tree")]
    assert set(re.findall(r"\b\w+\b", table)) >= set(bridge.__all__)
