"""The language: types, expressions, operators, tracing and checking.  Knows nothing of Numba or MPI."""

from fedmpi.language.errors import CaptureError as CaptureError
from fedmpi.language.errors import ComputationReturnedNoneError as ComputationReturnedNoneError
from fedmpi.language.errors import ContextError as ContextError
from fedmpi.language.errors import InvalidNonAllEqualValueError as InvalidNonAllEqualValueError
from fedmpi.language.errors import LeakedValueError as LeakedValueError
from fedmpi.language.errors import SumIncompatibleError as SumIncompatibleError
from fedmpi.language.errors import TypeNotAssignableError as TypeNotAssignableError
from fedmpi.language.errors import TypesNotEquivalentError as TypesNotEquivalentError
from fedmpi.language.errors import TypingError as TypingError
from fedmpi.language.errors import UnexpectedTypeError as UnexpectedTypeError
from fedmpi.language.errors import UnsupportedValueError as UnsupportedValueError
from fedmpi.language.operators import arithmetic, federated, models  # noqa: F401  (the rows of the table)
from fedmpi.language.tracing.applying import function_of as _function_of
from fedmpi.language.tracing.computation import Computation as Computation
from fedmpi.language.tracing.computation import PolymorphicComputation as PolymorphicComputation
from fedmpi.language.tracing.default_context import Context as Context
from fedmpi.language.tracing.default_context import current_context as current_context
from fedmpi.language.tracing.default_context import set_default_context as set_default_context
from fedmpi.language.tracing.traced import Value as Value
from fedmpi.language.tracing.traced import to_value as to_value
from fedmpi.language.tracing.tracing import federated_computation as federated_computation
from fedmpi.language.types import AbstractType as AbstractType
from fedmpi.language.types import FederatedType as FederatedType
from fedmpi.language.types import FunctionType as FunctionType
from fedmpi.language.types import PlacementType as PlacementType
from fedmpi.language.types import SequenceType as SequenceType
from fedmpi.language.types import StructType as StructType
from fedmpi.language.types import StructWithPythonType as StructWithPythonType
from fedmpi.language.types import TensorType as TensorType
from fedmpi.language.types import Type as Type
from fedmpi.language.types.parser import parse_type as parse_type
from fedmpi.language.types.placements import CLIENTS as CLIENTS
from fedmpi.language.types.placements import SERVER as SERVER
from fedmpi.language.types.placements import PlacementLiteral as PlacementLiteral
from fedmpi.language.types.to_type import infer_type as infer_type
from fedmpi.language.types.to_type import to_type as to_type
from fedmpi.language.types.to_type import type_at_clients as type_at_clients
from fedmpi.language.types.to_type import type_at_server as type_at_server

federated_aggregate = _function_of("federated_aggregate")
federated_apply = _function_of("federated_apply")
federated_broadcast = _function_of("federated_broadcast")
federated_client_index = _function_of("federated_client_index")
federated_collect = _function_of("federated_collect")
federated_eval = _function_of("federated_eval")
federated_map = _function_of("federated_map")
federated_max = _function_of("federated_max")
federated_mean = _function_of("federated_mean")
federated_min = _function_of("federated_min")
federated_secure_modular_sum = _function_of("federated_secure_modular_sum")
federated_secure_select = _function_of("federated_secure_select")
federated_secure_sum = _function_of("federated_secure_sum")
federated_secure_sum_bitwidth = _function_of("federated_secure_sum_bitwidth")
federated_select = _function_of("federated_select")
federated_sum = _function_of("federated_sum")
federated_value = _function_of("federated_value")
federated_zip = _function_of("federated_zip")
sequence_map = _function_of("sequence_map")
sequence_reduce = _function_of("sequence_reduce")
sequence_sum = _function_of("sequence_sum")
