"""Arguments at the clients that a program does not read: they say how many clients there are, and nothing else.

Programs of ``federated_language`` write them as ``[None, None, None]``.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tree.expressions import Lambda, free, path_of, root_of
from fedmpi.language.types import FederatedType, Type
from fedmpi.language.types.placements import CLIENTS
from fedmpi.language.types.walking import leaves_with_paths
from fedmpi.local.computations.infer import Fill, probe_value

Path = tuple[int, ...]


def filled(computation: Computation, argument: Any) -> Any:
    """Return the argument with something of the right type for the members None of a value that is not read."""
    for path, member in _unread(computation):
        argument = _filled(argument, path, member)
    return argument


def _filled(argument: Any, path: Path, member: Type) -> Any:
    if path:
        if not isinstance(argument, list | tuple) or len(argument) <= path[0]:
            return argument
        parts = list(argument)
        parts[path[0]] = _filled(parts[path[0]], path[1:], member)
        return parts
    if isinstance(argument, list | tuple) and argument and all(value is None for value in argument):
        return [probe_value(member, Fill(1))] * len(argument)
    return argument


@functools.lru_cache(maxsize=4096)
def _unread(computation: Computation) -> tuple[tuple[Path, Type], ...]:
    """Return where in the parameter the values at the clients are that the function does not use, with their types."""
    function, parameter = computation.expression, computation.type_signature.parameter
    if not isinstance(function, Lambda) or parameter is None:
        return ()
    uses = {path_of(use) for use in free(function.body) if root_of(use).name == function.parameter}
    leaves = _at_clients(parameter)
    return tuple((path, t) for path, t in leaves if not any(path[: len(use)] == use[: len(path)] for use in uses))


def _at_clients(type_: Type) -> Iterator[tuple[Path, Type]]:
    for path, leaf in leaves_with_paths(type_):
        if isinstance(leaf, FederatedType) and leaf.placement is CLIENTS and not leaf.all_equal:
            yield tuple(index for index, _ in path), leaf.member
