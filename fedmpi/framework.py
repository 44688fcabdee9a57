"""The names of TensorFlow Federated's ``framework`` that programs use: contexts, questions about types, error classes.

`set_default_context`, `get_context_stack` and `set_no_default_context` say where computations run; `infer_type`,
`infer_cardinalities`, the ``type_…``, ``contains_…`` and ``is_…`` functions look into types and arguments;
`transform_type_postorder`, `structure_with_type` and `to_structure_with_type` make types and Python structures of
others; ``computation_contains…`` look into computations.
"""

from fedmpi.language import Computation as Computation
from fedmpi.language import ComputationReturnedNoneError as ComputationReturnedNoneError
from fedmpi.language import ContextError as ContextError
from fedmpi.language import PlacementLiteral as PlacementLiteral
from fedmpi.language import TypeNotAssignableError as TypeNotAssignableError
from fedmpi.language import TypesNotEquivalentError as TypesNotEquivalentError
from fedmpi.language import UnexpectedTypeError as UnexpectedTypeError
from fedmpi.language import infer_type as infer_type
from fedmpi.language import set_default_context as set_default_context
from fedmpi.language.operators.rules import is_limit as is_single_integer_or_matches_structure
from fedmpi.language.tracing.default_context import ContextStack as ContextStack
from fedmpi.language.tracing.default_context import get_context_stack as get_context_stack
from fedmpi.language.tracing.default_context import set_no_default_context as set_no_default_context
from fedmpi.language.type_analysis import computation_contains as computation_contains
from fedmpi.language.type_analysis import (
    computation_contains_secure_aggregation as computation_contains_secure_aggregation,
)
from fedmpi.language.type_analysis import (
    computation_contains_unsecure_aggregation as computation_contains_unsecure_aggregation,
)
from fedmpi.language.type_analysis import contains_tensor_types as contains_tensor_types
from fedmpi.language.type_analysis import is_structure_of_floats as is_structure_of_floats
from fedmpi.language.type_analysis import is_structure_of_integers as is_structure_of_integers
from fedmpi.language.type_analysis import is_structure_of_tensors as is_structure_of_tensors
from fedmpi.language.type_analysis import structure_with_type as structure_with_type
from fedmpi.language.type_analysis import to_structure_with_type as to_structure_with_type
from fedmpi.language.type_analysis import type_contains_only as type_contains_only
from fedmpi.language.type_analysis import type_count as type_count
from fedmpi.language.types import is_federated as contains_federated_types
from fedmpi.language.types import type_contains as type_contains
from fedmpi.language.types.walking import preorder_types as preorder_types
from fedmpi.language.types.walking import transform_type_postorder as transform_type_postorder
from fedmpi.runtime.arguments.checks import infer_cardinalities as infer_cardinalities

__all__ = [
    "Computation",
    "ComputationReturnedNoneError",
    "ContextError",
    "ContextStack",
    "PlacementLiteral",
    "TypeNotAssignableError",
    "TypesNotEquivalentError",
    "UnexpectedTypeError",
    "computation_contains",
    "computation_contains_secure_aggregation",
    "computation_contains_unsecure_aggregation",
    "contains_federated_types",
    "contains_tensor_types",
    "get_context_stack",
    "infer_cardinalities",
    "infer_type",
    "is_single_integer_or_matches_structure",
    "is_structure_of_floats",
    "is_structure_of_integers",
    "is_structure_of_tensors",
    "preorder_types",
    "set_default_context",
    "set_no_default_context",
    "structure_with_type",
    "to_structure_with_type",
    "transform_type_postorder",
    "type_contains",
    "type_contains_only",
    "type_count",
]
