"""The public names: adding or losing one is a decision."""

from __future__ import annotations

import types

import fedmpi as fm
from fedmpi.language.operators.table import OPERATORS
from tests.mpijob import ROOT

NAMES = """
AbstractType AsyncContext CLIENTS CallReport ClientData Computation ComputationReturnedNoneError ContextError
Dropped FederatedType
FunctionType MpiContext PlacementLiteral PlacementType ReferenceContext SERVER SequenceType StructType
StructWithPythonType TensorType Type TypeNotAssignableError TypesNotEquivalentError UnexpectedTypeError Value
client_data client_data_from_arrays compiled_only debug draw explain federated_aggregate federated_apply
federated_broadcast federated_client_index
federated_collect federated_computation federated_eval federated_map federated_max federated_mean federated_min
federated_secure_modular_sum federated_secure_select federated_secure_sum federated_secure_sum_bitwidth
federated_select federated_sum federated_value federated_zip gather infer_type is_server
last_report last_reports numba_computation on_client_error parse_type plan
python_computation replicate sequence_map sequence_reduce sequence_sum set_default_context status to_type
to_value
type_at_clients type_at_server
"""


def test_public_names():
    ours = {name: value for name, value in vars(fm).items() if not name.startswith("_")}
    public = {name for name, value in ours.items() if not isinstance(value, types.ModuleType)}
    assert public - {"annotations", "TYPE_CHECKING", "Any"} == set(NAMES.split())
    assert fm.kernels.softmax_loss is not None
    assert callable(fm.data.mnist)


def test_every_operator_is_in_programs_that_are_written_at_random():
    """`federated_apply` is another name of `federated_map`, and has tests of its own."""
    written = (ROOT / "tests" / "random_programs.py").read_text()
    for name in {name for name in OPERATORS if name.startswith(("federated_", "sequence_"))} - {"federated_apply"}:
        assert f"fm.{name}(" in written or f"fm.{name}," in written or f"fm.{name}]" in written, name


def test_every_operator_is_public_and_documented():
    operators = {name for name in NAMES.split() if name.startswith(("federated_", "sequence_"))} - {
        "federated_computation"
    }
    assert operators <= set(OPERATORS)
    for row in OPERATORS.values():
        assert row.signature
        assert row.runs
        assert row.doc
        assert callable(row.rule)
    readme = (ROOT / "README.md").read_text()
    for name in operators:
        assert name in readme or name.removeprefix("federated") in readme or name.removeprefix("sequence") in readme
