"""When a value of one type may stand where another type is wanted: language.md, section 1.5."""

from __future__ import annotations

from fedmpi.language.errors import TypingError
from fedmpi.language.types.classes import (
    AbstractType,
    FederatedType,
    FunctionType,
    PlacementType,
    SequenceType,
    StructType,
    TensorType,
    Type,
)
from fedmpi.language.types.walking import leaves_of


def assignable(target: Type, source: Type) -> bool:
    """Say whether ``source`` is assignable to ``target``: no dtype is widened, no value changes its placement."""
    match target, source:
        case AbstractType(label), _:
            raise TypingError(f"{label} is a type variable: nothing can be assigned to it")
        case TensorType(), TensorType():
            return target.dtype == source.dtype and _shape_assignable(target, source)
        case StructType(), StructType():
            return names_fit(target, source) and all(map(assignable, target, source))
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


def names_fit(wanted: StructType, found: StructType) -> bool:
    """Say whether two structs have as many elements, and none of ``found`` has another name than is wanted."""
    return len(wanted) == len(found) and all(
        name in (None, key) for (key, _), (name, _) in zip(wanted.items(), found.items(), strict=True)
    )


def is_zippable(type_: Type) -> bool:
    """Say whether the type is a struct, maybe nested, of federated values at one placement."""
    placements = {leaf.placement if isinstance(leaf, FederatedType) else None for leaf in leaves_of(type_)}
    return isinstance(type_, StructType) and len(placements) == 1 and None not in placements
