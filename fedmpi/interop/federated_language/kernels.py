"""Local computations inside programs of ``federated_language``.

That package has a block for content that only a backend understands, `Data`: here it holds the key of a local
computation in a table of this process.  So such a computation is an ordinary `ConcreteComputation`, for every operator
and for its serialised form; but it means something in the process alone that defined it.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import federated_language as fl
from federated_language import framework as blocks
from google.protobuf import any_pb2

from fedmpi.interop.federated_language.types import from_fedmpi, to_fedmpi
from fedmpi.language.errors import UnsupportedValueError
from fedmpi.language.tracing.computation import Computation, PolymorphicComputation
from fedmpi.language.tree.expressions import Call, Lambda, Ref, Select
from fedmpi.language.types import FunctionType, StructType, Type
from fedmpi.local import decorators
from fedmpi.local.jit.freezing import frozen

_TYPE_URL = "fedmpi.interop/computation"
_COMPUTATIONS: dict[bytes, Computation] = {}


class _LocalComputation(blocks.ConcreteComputation):
    """A `ConcreteComputation` that knows fedmpi's computation for it: ``fedmpi_computation``."""

    fedmpi_computation: Computation


def wrap(computation: Computation | PolymorphicComputation) -> Any:
    """Return a computation of fedmpi, local or federated, as one of ``federated_language``."""
    if isinstance(computation, PolymorphicComputation):
        instance = computation.fn_for_argument_type
        made = blocks.PolymorphicComputation(lambda type_, unpack: wrap(instance(to_fedmpi(type_))), blocks.infer_type)
        made.__doc__ = computation.__doc__
        return made
    if not isinstance(computation, Computation):
        raise TypeError(f"wrap: expected a computation of fedmpi, found {computation!r}")
    return _wrapped(computation, from_fedmpi(computation.type_signature))


def _wrapped(computation: Computation, type_: Any) -> Any:
    key = f"{computation.name}#{len(_COMPUTATIONS)}".encode()
    _COMPUTATIONS[key] = computation
    block = blocks.Data(any_pb2.Any(type_url=_TYPE_URL, value=key), type_)
    made = _LocalComputation(
        computation_proto=block.to_proto(), context_stack=blocks.get_context_stack(), annotated_type=type_
    )
    made.fedmpi_computation = computation
    made.__doc__ = computation.__doc__
    return made


def of(block: Any) -> Computation:
    """Return the computation that a `Data` block names; raise `UnsupportedValueError` for other data."""
    content = block.content
    if content.type_url != _TYPE_URL or content.value not in _COMPUTATIONS:
        what = f"{content.type_url or 'nothing'} {content.value[:40]!r}"
        raise UnsupportedValueError(
            f"a block of data must hold a local computation of this process, found {what} of type "
            f"{block.type_signature}",
            "make it with numba_computation, python_computation or wrap of fedmpi.interop.federated_language",
        )
    return _COMPUTATIONS[content.value]


def decoded(value: bytes | str) -> str:
    """Return a text of ``federated_language``, which has bytes, as fedmpi's."""
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise UnsupportedValueError(f"a text must be UTF-8, found {value!r}: {error}") from None


def numba_computation(*args: Any, result: Any = None, boundscheck: bool = True) -> Any:
    """Make a computation of ``federated_language`` of a Python function that Numba compiles.

    The forms are those of ``federated_computation``: ``@numba_computation(T1, …)``, ``@numba_computation`` and
    ``numba_computation(fn, T1, …)``; the body and the options are those of `fm.numba_computation`.
    """
    return _decorated(decorators.numba_computation, args, result, boundscheck=boundscheck)


def python_computation(*args: Any, result: Any = None, parameter_types: Any = None, result_type: Any = None) -> Any:
    """Make a computation of ``federated_language`` of a Python function that is run as it is.

    Either ``@python_computation(T1, …, result=T)``, with all the forms of ``federated_computation``, or
    ``@python_computation(parameter_types, result_type)``, as in the examples of ``federated_language``: a collection
    of types (or None), and a type; where a name of the collection names a parameter.  Raises `ValueError` if there are
    not as many types as parameters.
    """
    if result is not None:
        return _decorated(decorators.python_computation, args, result)
    if result_type is None and len(args) == 2:
        parameter_types, result_type = args
    elif result_type is None or args:
        raise TypeError("python_computation needs the type of its result: result=…")
    return lambda fn: _as_in_the_examples(fn, parameter_types, result_type)


def _as_in_the_examples(fn: Callable[..., Any], parameter_types: Any, result_type: Any) -> Any:
    given: Any = parameter_types if parameter_types is not None else ()
    count = len(inspect.signature(fn).parameters)
    if len(given) != count:
        raise ValueError(f"python_computation: {count} parameters need as many parameter_types, found {len(given)}")
    if not count:
        parameter = None
    elif count == 1:
        parameter = fl.to_type(next(iter(given.values() if isinstance(given, Mapping) else given)))
    else:
        parameter = fl.to_type(given)
    made = _local(decorators.python_computation, fn, parameter, result=to_fedmpi(fl.to_type(result_type)))
    return functools.update_wrapper(made, fn, updated=())


def _decorated(decorator: Any, args: tuple[Any, ...], result: Any, **options: Any) -> Any:
    if result is not None:
        options["result"] = to_fedmpi(_as_type(result))

    def build(fn: Callable[..., Any], parameter: Any, unpack: bool | None, name: str | None = None) -> Any:
        if unpack and len(inspect.signature(fn).parameters) == 1:
            return _of_one_argument(decorator, fn, parameter, **options)
        return _local(decorator, fn, parameter, **options)

    return blocks.ComputationWrapper(build, to_type_fn=_as_type)(*args)


def _as_type(spec: Any) -> Any:
    return from_fedmpi(spec) if isinstance(spec, Type) else fl.to_type(spec)


def _local(decorator: Any, fn: Any, parameter: Any, **options: Any) -> Any:
    computation = _made(decorator, fn, None if parameter is None else to_fedmpi(parameter), **options)
    # The declared parameter and not fedmpi's, which takes names from the Python function.
    return _wrapped(computation, fl.FunctionType(parameter, from_fedmpi(computation.type_signature.result)))


def _of_one_argument(decorator: Any, fn: Any, parameter: Any, **options: Any) -> Any:
    """Return a computation of a struct of one element, which the function takes: a polymorphic one is called so."""
    struct = to_fedmpi(parameter)
    assert isinstance(struct, StructType)
    inner = _made(decorator, fn, struct[0], **options)
    argument, type_ = Ref("arg", struct), inner.type_signature
    body = Call(inner.expression, Select(argument, 0, struct[0]), type_.result, inner.where)
    outer = Lambda(argument.name, body, FunctionType(struct, type_.result))
    return wrap(Computation(outer, name=inner.name, where=inner.where, doc=fn.__doc__, names=inner.names))


def _made(decorator: Any, fn: Any, parameter: Type | None, **options: Any) -> Computation:
    plain = isinstance(fn, types.FunctionType) and decorator is decorators.numba_computation
    body = frozen(fn, _unwrapped) if plain else fn
    made: Computation = decorator(body, *(() if parameter is None else (parameter,)), **options)
    return made


def _unwrapped(value: Any) -> Any:
    """Return fedmpi's computation for a local one that a compiled body calls."""
    return value.fedmpi_computation if isinstance(value, _LocalComputation) else value
