"""Contexts of ``federated_language`` that run computations on fedmpi."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import federated_language as fl
import numpy as np
from federated_language import framework as blocks
from federated_language.common_libs.structure import Struct

from fedmpi.interop.federated_language.kernels import wrap
from fedmpi.interop.federated_language.translation import translate
from fedmpi.interop.federated_language.unread import filled
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.default_context import Context, current_context
from fedmpi.language.types import FederatedType, FunctionType, SequenceType, StructType, TensorType, Type, type_contains
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.presenting import rebuild
from fedmpi.runtime.arguments.placeholder import Placeholder
from fedmpi.runtime.asynchronous import blocking


class SyncContext(blocks.SyncContext):
    """Runs computations of ``federated_language`` in a context of fedmpi (None: the default one at each call).

    Results are those of ``federated_language``: texts are bytes, structs have the containers that the program used.
    """

    def __init__(self, runtime: Context | None = None) -> None:
        if runtime is not None and not callable(getattr(runtime, "invoke", None)):
            raise TypeError(f"expected a context of fedmpi, such as fm.MpiContext(), found {runtime!r}")
        self._runtime = runtime

    def invoke(self, comp: Any, arg: Any) -> Any:
        """Return the computation's result; collective, like every call of fedmpi."""
        computation = translate(comp)
        runtime = blocking(current_context()) if self._runtime is None else self._runtime
        parameter = comp.type_signature.parameter
        argument = arg if parameter is None else filled(computation, _argument(arg, parameter))
        # Bodies that Python runs may call computations, of an asynchronous program too: here, and not as coroutines.
        with blocks.get_context_stack().install(self):
            result = runtime.invoke(computation, argument)
        type_ = computation.type_signature.result
        return _result(result, type_) if type_contains(type_, _differs) else result


class AsyncContext(blocks.AsyncContext):
    """Runs computations as `SyncContext` does, where a program awaits them.

    One runs at a time, in the order in which they are awaited, which must be the same on all ranks.
    """

    def __init__(self, runtime: Context | None = None) -> None:
        self._sync = SyncContext(runtime)

    async def invoke(self, comp: Any, arg: Any) -> Any:
        """Return the computation's result; an argument may be what another call returned, not awaited yet."""
        return self._sync.invoke(comp, await arg if inspect.isawaitable(arg) else arg)


def context(runtime: Context | None = None, *, asynchronous: bool = False) -> Any:
    """Return a context for ``federated_language.framework.get_context_stack().install(context)``."""
    return AsyncContext(runtime) if asynchronous else SyncContext(runtime)


def install(runtime: Context | None = None, *, asynchronous: bool = False) -> None:
    """Run the computations of ``federated_language`` that this thread calls on fedmpi from now on.

    ``runtime`` is a context of fedmpi (None: its default one).  With ``asynchronous``, calls return coroutines.
    """
    blocks.set_default_context(context(runtime, asynchronous=asynchronous))


def _argument(value: Any, type_: Any) -> Any:
    """Return an argument with the structs and computations of ``federated_language`` as fedmpi takes them."""
    match type_:
        case fl.FunctionType():
            if isinstance(value, blocks.PolymorphicComputation):
                value = value.fn_for_argument_type(type_.parameter)
            return translate(value) if isinstance(value, blocks.ConcreteComputation) else value
        case fl.StructType():
            if isinstance(value, Struct):
                value = tuple(value)
            elif not blocks.type_contains(type_, lambda t: isinstance(t, fl.FunctionType)):
                return value
            if isinstance(value, Mapping):
                known = dict(type_.items())
                return {key: _argument(part, known[key]) if key in known else part for key, part in value.items()}
            if isinstance(value, list | tuple) and len(value) == len(type_):
                return tuple([_argument(part, t) for part, t in zip(value, type_, strict=True)])
    return value


def _differs(type_: Type) -> bool:
    """Tell whether a value of the type is another Python object there than here."""
    return isinstance(type_, FunctionType) or (isinstance(type_, TensorType) and type_.dtype.kind == "U")


def _result(value: Any, type_: Type) -> Any:
    """Return a result of fedmpi as one of ``federated_language``."""
    if isinstance(value, Placeholder):
        return value
    match type_:
        case FunctionType():
            return wrap(value) if isinstance(value, Computation) else value
        case TensorType() if type_.dtype.kind == "U":
            if isinstance(value, str):
                return value.encode()
            return np.array([text.encode() for text in value.flat] or None, object).reshape(value.shape)
        case FederatedType(member, _, all_equal):
            return _result(value, member) if all_equal else [_result(each, member) for each in value]
        case SequenceType(element):
            return [_result(each, element) for each in value]
        case StructType():
            parts = [part for _, part in unpack(value) or ()]
            return rebuild(type_, [_result(part, t) for part, t in zip(parts, type_, strict=True)])
    return value
