"""Types of ``federated_language`` as fedmpi's, and back: the two packages write them alike."""

from __future__ import annotations

import functools
from typing import Any

import federated_language as fl
import numpy as np

from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    Type,
    struct_of,
)
from fedmpi.language.types.placements import CLIENTS, SERVER

_PLACEMENTS = {fl.CLIENTS: CLIENTS, fl.SERVER: SERVER}
_UPSTREAM = {CLIENTS: fl.CLIENTS, SERVER: fl.SERVER}


@functools.lru_cache(maxsize=4096)
def to_fedmpi(type_: Any) -> Type:
    """Return fedmpi's type for one of ``federated_language``, the Python containers of structs included."""
    match type_:
        case fl.TensorType():
            return TensorType(type_.dtype, type_.shape)
        case fl.StructType():
            items = [(name, to_fedmpi(element)) for name, element in type_.items()]
            return struct_of(items, type_.python_container)
        case fl.SequenceType():
            return SequenceType(to_fedmpi(type_.element))
        case fl.FunctionType():
            parameter = type_.parameter
            return FunctionType(None if parameter is None else to_fedmpi(parameter), to_fedmpi(type_.result))
        case fl.FederatedType():
            return FederatedType(to_fedmpi(type_.member), _PLACEMENTS[type_.placement], type_.all_equal)
        case fl.AbstractType():
            return AbstractType(type_.label)
        case fl.PlacementType():
            return PlacementType()
    raise TypeError(f"to_fedmpi: expected a type of federated_language, found {type_!r}")


@functools.lru_cache(maxsize=4096)
def from_fedmpi(type_: Type) -> Any:
    """Return the type of ``federated_language`` for one of fedmpi, the Python containers of structs included.

    Raises `ValueError` for names of elements that fedmpi allows and ``federated_language`` does not.
    """
    match type_:
        case TensorType(dtype, shape):
            return fl.TensorType(np.str_ if dtype.kind == "U" else dtype.type, shape)
        case StructType():
            items = [(name, from_fedmpi(element)) for name, element in type_.items()]
            container = type_.python_container
            return fl.StructType(items) if container is None else fl.StructWithPythonType(items, container)
        case SequenceType(element):
            return fl.SequenceType(from_fedmpi(element))
        case FunctionType(parameter, result):
            return fl.FunctionType(None if parameter is None else from_fedmpi(parameter), from_fedmpi(result))
        case FederatedType(member, placement, all_equal):
            return fl.FederatedType(from_fedmpi(member), _UPSTREAM[placement], all_equal)
        case AbstractType(label):
            return fl.AbstractType(label)
        case PlacementType():
            return fl.PlacementType()
    raise TypeError(f"from_fedmpi: expected a type of fedmpi, found {type_!r}")
