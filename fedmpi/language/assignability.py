"""When a value of one type may stand where another type is wanted: language.md, section 1.5."""

from __future__ import annotations

from fedmpi.language.types import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    Type,
)


def assignable(target: Type, source: Type) -> bool:
    """Say whether ``source`` is assignable to ``target``: no dtype is widened, no value changes its placement."""
    match target, source:
        case AbstractType(label), _:
            raise TypeError(f"{label} is a type variable: nothing can be assigned to it")
        case TensorType(), TensorType():
            return target.dtype == source.dtype and _shape_assignable(target, source)
        case StructType(), StructType():
            return len(target) == len(source) and all(
                name in (None, wanted) and assignable(t, s)
                for (wanted, t), (name, s) in zip(target.items(), source.items(), strict=True)
            )
        case SequenceType(wanted), SequenceType(element):
            return assignable(wanted, element)
        case FunctionType(None, wanted), FunctionType(None, result):
            return assignable(wanted, result)
        case FunctionType(Type() as given, wanted), FunctionType(Type() as parameter, result):
            return assignable(parameter, given) and assignable(wanted, result)
        case FederatedType(wanted, at, all_equal), FederatedType(member, placement, equal):
            return at == placement and (equal or not all_equal) and assignable(wanted, member)
        case PlacementType(), PlacementType():
            return True
    return False


def _shape_assignable(target: TensorType, source: TensorType) -> bool:
    if target.shape is None or source.shape is None:
        return target.shape is None
    return len(target.shape) == len(source.shape) and all(
        t is None or t == s for t, s in zip(target.shape, source.shape, strict=True)
    )
