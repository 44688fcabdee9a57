"""What to do about the commonest mistakes: language.md, decisions 9 and 12."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.language.types import FederatedType, SequenceType, StructType, TensorType, Type, is_federated, type_contains
from fedmpi.language.types.assignability import names_fit
from fedmpi.language.types.dtypes import kind
from fedmpi.language.types.placements import CLIENTS, SERVER, PlacementLiteral
from fedmpi.language.types.walking import accessed, leaves_with_paths


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
        case FederatedType(_, at), StructType() if is_federated(found):
            return mixed_hint(found, at)
        case FederatedType(_, at), _ if not isinstance(found, FederatedType):
            return f"place it with fm.federated_value(value, fm.{at})"
        case _, FederatedType() if not isinstance(wanted, FederatedType):
            return "a placed value is reached by fm.federated_map(fn, value), where fn takes a member"
        case TensorType(dtype), TensorType(other):
            return dtype_hint(dtype, other)
        case StructType(), TensorType() | SequenceType():
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
                step = ((index, wanted.items()[index][0]),)
                return difference(wanted[index], found[index], path + accessed(step))
        case SequenceType(inner_wanted), SequenceType(inner_found):
            return difference(inner_wanted, inner_found, path + ".element")
        case FederatedType(inner_wanted, at), FederatedType(inner_found, placement) if at == placement:
            return difference(inner_wanted, inner_found, path + ".member")
    return path, wanted, found


CHANGE_HINT = "make a new struct of its elements and of what is new"
LOCAL_HINT = "+ - * / and comparisons work on tensors; put anything else into a numba_computation"
TEXT_HINT = "print(value) shows it as far as it is known here; make a text of its data in a python_computation"
FUNCTION_HINT = "make it one: fm.federated_computation(function, T), or decorate it with @fm.numba_computation(T)"

# Two types whose texts are longer together are shown by what differs.
_LONG = 160


def contrast(wanted: Type, found: Type) -> tuple[str, str]:
    """Return the texts of two types for an error; in long ones, what is alike in both is …"""
    if len(str(wanted)) + len(str(found)) <= _LONG:
        return str(wanted), str(found)
    return _apart(wanted, found)


def _apart(wanted: Type, found: Type) -> tuple[str, str]:
    match wanted, found:
        case StructType(), StructType() if len(wanted) == len(found):
            return _structs_apart(wanted, found)
        case SequenceType(w), SequenceType(f):
            left, right = _apart(w, f)
            return f"{left}*", f"{right}*"
        case FederatedType(w, at), FederatedType(f, placement) if at == placement:
            left, right = _apart(w, f)
            return _placed_text(left, wanted), _placed_text(right, found)
    return shortened(wanted), shortened(found)


def _structs_apart(wanted: StructType, found: StructType) -> tuple[str, str]:
    texts: tuple[list[str], list[str]] = ([], [])
    for (key, w), (name, f) in zip(wanted.items(), found.items(), strict=True):
        if name in (None, key) and w.is_assignable_from(f):
            if not texts[0] or texts[0][-1] != "…":
                texts[0].append("…")
                texts[1].append("…")
            continue
        for parts, called, text in zip(texts, (key, name), _apart(w, f), strict=True):
            parts.append(text if called is None else f"{called}={text}")
    return f"<{','.join(texts[0])}>", f"<{','.join(texts[1])}>"


def _placed_text(member: str, type_: FederatedType) -> str:
    return f"{member}@{type_.placement}" if type_.all_equal else f"{{{member}}}@{type_.placement}"


def shortened(type_: Type, limit: int = _LONG) -> str:
    """Return the text of a type, without its middle if it is longer than ``limit``."""
    text = str(type_)
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 4 :]}"


def first_leaf(type_: Type, wrong: Callable[[Type], bool]) -> str:
    """Return "path is T" for the first part of a struct that is ``wrong``, "" if the type is no struct."""
    for path, leaf in leaves_with_paths(type_):
        if path and wrong(leaf):
            return f"{accessed(path).removeprefix('.')} is {leaf}"
    return ""


def dtype_hint(wanted: np.dtype[Any], found: np.dtype[Any]) -> str:
    """Return advice on a value of dtype ``found`` where another is wanted."""
    if wanted == found:
        return ""
    if (wanted.name, found.name) == ("float32", "float64"):
        return "NumPy's numbers are float64 by default: declare np.float32, or convert with np.float32(…) or .astype"
    if kind(wanted) == kind(found):
        return f"no dtype is converted silently: convert it to {wanted.name} in a numba_computation"
    if (kind(wanted), kind(found)) == ("float", "int"):
        return "an int is no float: write 1.0 for 1, or convert it in a numba_computation"
    return ""


def mixed_hint(found: Type, wanted: PlacementLiteral = CLIENTS) -> str:
    """Return advice on a struct whose parts are at several placements, or at none, and are ``wanted`` at one."""
    if not isinstance(found, StructType):
        return ""

    def at(placement: object) -> bool:
        return type_contains(found, lambda t: isinstance(t, FederatedType) and t.placement == placement)

    if at(CLIENTS) and at(SERVER) and wanted == SERVER:
        return "clients' values stand beside the server's: bring them to it with fm.federated_sum, … first"
    if at(CLIENTS) and at(SERVER):
        return "a server's value stands beside the clients': send it to them with fm.federated_broadcast first"
    if at(CLIENTS) or at(SERVER):
        placement = CLIENTS if at(CLIENTS) else SERVER
        return f"all parts must be placed: place the others with fm.federated_value(…, fm.{placement})"
    return ""
