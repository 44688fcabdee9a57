"""`numba_computation` and `python_computation`: local computations from Python functions.

They are to fedmpi what ``tff.tf_computation`` is to TFF: ordinary computations for every operator, and callable on
their own.
"""

from __future__ import annotations

import dis
import random
import types
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.computation import Computation
from fedmpi.language.expressions import Kernel
from fedmpi.language.parameters import bind_parameter, decorator
from fedmpi.language.source import definition_location, function_name
from fedmpi.language.to_type import to_type
from fedmpi.language.types import FederatedType, FunctionType, StructType, TensorType, Type
from fedmpi.local.bodies import NumbaBody, PythonBody
from fedmpi.local.infer import ProbeFailed, infer_result


def _numba(
    function: Callable[..., Any], types_: Sequence[Type | None], *, result: Any = None, boundscheck: bool = True
) -> Computation:
    """Make a computation of a Python function by compiling it with Numba.

    ``@numba_computation(T1, …)`` declares the parameters: tensors, structs of them and sequences.  A struct arrives as
    a record (``batch.x`` and ``batch["x"]``), a sequence can be iterated (``for batch in batches``).  The function
    returns a tensor, a tuple, a named tuple, a dict literal or one of its arguments' structs; the type is inferred by
    running it on small probes, or declared with ``result=``, to which a result of the same kind is cast.  Arguments are
    read-only.  ``boundscheck=False`` leaves out the checks of indices in the body.

    Raises `TypeError` where the body is defined if Numba cannot compile it.
    """
    bound = bind_parameter(function, types_)
    name, where = function_name(function), definition_location(function)
    plain = getattr(function, "py_func", function)
    _refuse_placements(name, where, bound.type)
    _refuse_random(name, where, plain)
    declared: Type = to_type(result) if result is not None else TensorType(np.int32)
    body = NumbaBody(plain, FunctionType(bound.type, declared), bound.fields, name, where, boundscheck=boundscheck)
    if result is None:
        try:
            body.type = FunctionType(bound.type, infer_result(body))
        except (ProbeFailed, TypeError, NotImplementedError) as reason:
            raise TypeError(
                f"{name}: the result type cannot be inferred, running the function on small probes failed: {reason}\n"
                f"  declare it with result=…\n  at {where}"
            ) from reason
    _refuse_placements(name, where, body.type.result)
    _compile(body)
    return Computation(Kernel(body, body.type), name=name, where=where, doc=function.__doc__, names=bound.names)


def _compile(body: NumbaBody) -> None:
    from fedmpi.local.codegen import NotCompilable
    from fedmpi.local.compile_errors import readable

    hint = "a python_computation runs it interpreted"
    try:
        body.compiled  # noqa: B018  # compiles, or loads what an earlier run compiled
    except NotCompilable as reason:
        raise TypeError(f"{body.name}: Numba cannot compile this: {reason} ({hint})\n  at {body.where}") from None
    except Exception as error:
        reason_text = readable(error)
        if reason_text is None:
            raise
        raise TypeError(f"{body.name}: Numba cannot compile this: {reason_text} ({hint})\n  at {body.where}") from None


def _python(function: Callable[..., Any], types_: Sequence[Type | None], *, result: Any = None) -> Computation:
    """Make a computation of a Python function that is run as it is, for whatever Numba cannot compile.

    Its parameters are declared as for `numba_computation`, and ``result=`` must be given.
    """
    bound = bind_parameter(function, types_)
    name, where = function_name(function), definition_location(function)
    if result is None:
        raise TypeError(f"{name}: python_computation needs the type of its result: result=…\n  at {where}")
    type_ = FunctionType(bound.type, to_type(result))
    _refuse_placements(name, where, type_.parameter)
    _refuse_placements(name, where, type_.result)
    body = PythonBody(function, type_, bound.fields, name, where)
    return Computation(Kernel(body, type_), name=name, where=where, doc=function.__doc__, names=bound.names)


def _refuse_placements(name: str, where: str, type_: Type | None) -> None:
    match type_:
        case FederatedType() | FunctionType():
            raise TypeError(
                f"{name}: a local computation handles tensors, structs and sequences, found {type_}\n  at {where}"
            )
        case StructType():
            for part in type_:
                _refuse_placements(name, where, part)


def _refuse_random(name: str, where: str, function: Any) -> None:
    """Refuse global random numbers: their state is a rank's, and results would depend on which rank runs a client."""
    if not isinstance(function, types.FunctionType):
        return
    before: Any = None
    for instruction in dis.get_instructions(function):
        value: Any = None
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            value = function.__globals__.get(instruction.argval)
        elif instruction.opname == "LOAD_DEREF":
            cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
            value = getattr(cells.get(instruction.argval), "cell_contents", None)
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(before, types.ModuleType):
            value = getattr(before, instruction.argval, None)
        elif instruction.opname in ("CACHE", "PUSH_NULL", "EXTENDED_ARG"):
            continue
        if (
            value is random
            or value is np.random
            or getattr(value, "__module__", None) in ("random", "numpy.random.mtrand")
        ):
            raise TypeError(
                f"{name}: np.random and random draw from a state of the rank, so that results would depend on the "
                f"number of ranks; pass a key and draw from a generator made from (seed, round, client)\n  at {where}"
            )
        before = value


numba_computation = decorator("numba_computation", _numba)
python_computation = decorator("python_computation", _python)

__all__ = ["numba_computation", "python_computation"]
