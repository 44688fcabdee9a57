"""What to do about the commonest mistakes: language.md, decisions 9 and 12."""

from __future__ import annotations

from fedmpi.language.assignability import names_fit
from fedmpi.language.dtypes import kind
from fedmpi.language.placements import CLIENTS, SERVER
from fedmpi.language.types import FederatedType, SequenceType, StructType, TensorType, Type, type_contains


def hint_for(wanted: Type, found: Type) -> str:
    """Return advice for a value of type ``found`` that stands where ``wanted`` is wanted, or ""."""
    match wanted, found:
        case FederatedType(_, at), FederatedType(_, placement) if at == CLIENTS and placement == SERVER:
            return "send the server's value to the clients with fm.federated_broadcast"
        case FederatedType(_, at), FederatedType(_, placement) if at != placement:
            return "bring the clients' values to the server with fm.federated_sum, fm.federated_mean, …"
        case FederatedType(_, at, True), FederatedType(_, _, False) if at == SERVER:
            return "the server has one value: declare it as fm.type_at_server(T)"
        case FederatedType(member, _, True), FederatedType(other, _, False) if member.is_assignable_from(other):
            return "the clients' values may differ; only a broadcast value is the same at all of them"
        case FederatedType(_, at), StructType() if type_contains(found, lambda t: isinstance(t, FederatedType)):
            return mixed_hint(found)
        case FederatedType(_, at), _ if not isinstance(found, FederatedType):
            return f"place it with fm.federated_value(value, fm.{at})"
        case _, FederatedType() if not isinstance(wanted, FederatedType):
            return "a placed value is reached by fm.federated_map(fn, value), where fn takes a member"
        case TensorType(dtype), TensorType(other):
            return dtype_hint(dtype.name, other.name, kind(dtype) == kind(other))
        case StructType(), TensorType():
            return "one positional argument by itself is the whole struct"
    path, inner_wanted, inner_found = difference(wanted, found)
    if not path:
        return ""
    more = hint_for(inner_wanted, inner_found)
    return f"{path.lstrip('.')} must be {inner_wanted}, found {inner_found}" + (f"; {more}" if more else "")


def difference(wanted: Type, found: Type, path: str = "") -> tuple[str, Type, Type]:
    """Return the innermost part of two types in which they alone differ, as (path, wanted, found)."""
    match wanted, found:
        case StructType(), StructType() if names_fit(wanted, found):
            wrong = [i for i in range(len(wanted)) if not wanted[i].is_assignable_from(found[i])]
            if len(wrong) == 1:
                (index,) = wrong
                name = wanted.items()[index][0]
                step = f"[{index}]" if name is None else f".{name}"
                return difference(wanted[index], found[index], path + step)
        case SequenceType(inner_wanted), SequenceType(inner_found):
            return difference(inner_wanted, inner_found, path + ".element")
        case FederatedType(inner_wanted, at), FederatedType(inner_found, placement) if at == placement:
            return difference(inner_wanted, inner_found, path + ".member")
    return path, wanted, found


def dtype_hint(wanted: str, found: str, same_kind: bool) -> str:
    """Return advice on a dtype."""
    if wanted == found:
        return ""
    if (wanted, found) == ("float32", "float64"):
        return "NumPy's numbers are float64 by default: write np.float32(…), or .astype(np.float32) for an array"
    return f"no dtype is converted silently: convert it to {wanted} in a numba_computation" if same_kind else ""


def mixed_hint(found: Type) -> str:
    """Return advice on a struct whose parts are at several placements, or at none."""

    def at(placement: object) -> bool:
        return type_contains(found, lambda t: isinstance(t, FederatedType) and t.placement == placement)

    if at(CLIENTS) and at(SERVER):
        return "a server's value stands beside the clients': send it to them with fm.federated_broadcast first"
    if at(CLIENTS) or at(SERVER):
        placement = CLIENTS if at(CLIENTS) else SERVER
        return f"all parts must be placed: place the others with fm.federated_value(…, fm.{placement})"
    return ""
