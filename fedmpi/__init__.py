"""fedmpi: typed federated computations on MPI ranks.

The language is TensorFlow Federated's Federated Core; see README.md.  Importing this package initialises nothing: MPI
is loaded when the first computation with placements runs, Numba when the first local computation is defined.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fedmpi import data as data
from fedmpi import framework as framework
from fedmpi import model as model
from fedmpi.language import CLIENTS as CLIENTS
from fedmpi.language import SERVER as SERVER
from fedmpi.language import AbstractType as AbstractType
from fedmpi.language import Computation as Computation
from fedmpi.language import ComputationReturnedNoneError as ComputationReturnedNoneError
from fedmpi.language import ContextError as ContextError
from fedmpi.language import FederatedType as FederatedType
from fedmpi.language import FunctionType as FunctionType
from fedmpi.language import PlacementLiteral as PlacementLiteral
from fedmpi.language import PlacementType as PlacementType
from fedmpi.language import SequenceType as SequenceType
from fedmpi.language import StructType as StructType
from fedmpi.language import StructWithPythonType as StructWithPythonType
from fedmpi.language import TensorType as TensorType
from fedmpi.language import Type as Type
from fedmpi.language import TypeNotAssignableError as TypeNotAssignableError
from fedmpi.language import TypesNotEquivalentError as TypesNotEquivalentError
from fedmpi.language import UnexpectedTypeError as UnexpectedTypeError
from fedmpi.language import Value as Value
from fedmpi.language import federated_aggregate as federated_aggregate
from fedmpi.language import federated_apply as federated_apply
from fedmpi.language import federated_broadcast as federated_broadcast
from fedmpi.language import federated_client_index as federated_client_index
from fedmpi.language import federated_collect as federated_collect
from fedmpi.language import federated_computation as federated_computation
from fedmpi.language import federated_eval as federated_eval
from fedmpi.language import federated_map as federated_map
from fedmpi.language import federated_max as federated_max
from fedmpi.language import federated_mean as federated_mean
from fedmpi.language import federated_min as federated_min
from fedmpi.language import federated_secure_modular_sum as federated_secure_modular_sum
from fedmpi.language import federated_secure_select as federated_secure_select
from fedmpi.language import federated_secure_sum as federated_secure_sum
from fedmpi.language import federated_secure_sum_bitwidth as federated_secure_sum_bitwidth
from fedmpi.language import federated_select as federated_select
from fedmpi.language import federated_sum as federated_sum
from fedmpi.language import federated_value as federated_value
from fedmpi.language import federated_zip as federated_zip
from fedmpi.language import infer_type as infer_type
from fedmpi.language import parse_type as parse_type
from fedmpi.language import sequence_map as sequence_map
from fedmpi.language import sequence_reduce as sequence_reduce
from fedmpi.language import sequence_sum as sequence_sum
from fedmpi.language import set_default_context as set_default_context
from fedmpi.language import to_type as to_type
from fedmpi.language import to_value as to_value
from fedmpi.language import type_at_clients as type_at_clients
from fedmpi.language import type_at_server as type_at_server
from fedmpi.language.tracing.default_context import set_default_factory as _set_default_factory
from fedmpi.local import numba_computation as numba_computation
from fedmpi.local import python_computation as python_computation
from fedmpi.local.columns.client_data import ClientData as ClientData
from fedmpi.local.jit.debugging import debug as debug
from fedmpi.local.status import status as status
from fedmpi.runtime import AsyncContext as AsyncContext
from fedmpi.runtime import CallReport as CallReport
from fedmpi.runtime import Dropped as Dropped
from fedmpi.runtime import MpiContext as MpiContext
from fedmpi.runtime import ReferenceContext as ReferenceContext
from fedmpi.runtime import client_data as client_data
from fedmpi.runtime import client_data_from_arrays as client_data_from_arrays
from fedmpi.runtime import compiled_only as compiled_only
from fedmpi.runtime import draw as draw
from fedmpi.runtime import explain as explain
from fedmpi.runtime import gather as gather
from fedmpi.runtime import is_server as is_server
from fedmpi.runtime import last_report as last_report
from fedmpi.runtime import last_reports as last_reports
from fedmpi.runtime import on_client_error as on_client_error
from fedmpi.runtime import plan as plan
from fedmpi.runtime import replicate as replicate
from fedmpi.runtime.collective.exits import watch as _watch_exits
from fedmpi.runtime.context import default_context as _default_context
from fedmpi.runtime.mpi.log import write_as_asked as _write_log
from fedmpi.version import __version__ as __version__

if TYPE_CHECKING:
    from fedmpi import kernels as kernels
    from fedmpi import random as random
    from fedmpi.local.computations.user_kernels import kernel as kernel

_set_default_factory(_default_context)
_watch_exits()
_write_log()


def __getattr__(name: str) -> Any:
    if name in ("kernels", "random"):  # they load Numba
        return importlib.import_module(f"fedmpi.{name}")
    if name == "kernel":
        return importlib.import_module("fedmpi.local.computations.user_kernels").kernel
    raise AttributeError(f"module 'fedmpi' has no attribute {name!r}")
