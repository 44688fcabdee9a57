"""`numba_computation` and `python_computation`: local computations from Python functions.

They are to fedmpi what ``tff.tf_computation`` is to TFF: ordinary computations for every operator, and callable on
their own.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from fedmpi.language.errors import Report
from fedmpi.language.source import definition_location, function_name
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.parameters import bind_parameter, decorator
from fedmpi.language.tree.expressions import Local
from fedmpi.language.types import FederatedType, FunctionType, SequenceType, TensorType, Type, contains
from fedmpi.language.types.to_type import read_type
from fedmpi.language.types.walking import leaves_of
from fedmpi.local.columns.numbers import refuse_more_than_numbers
from fedmpi.local.computations.bodies import NumbaBody, PythonBody, parameter_types
from fedmpi.local.computations.infer import infer_result
from fedmpi.local.computations.randomness import uses_random
from fedmpi.local.jit.debugging import debugging
from fedmpi.local.jit.freezing import still
from fedmpi.local.value_errors import ArgumentError


def _numba(
    function: Callable[..., Any],
    types_: Sequence[Type | None],
    *,
    result: Any = None,
    boundscheck: bool = True,
    donate: str | Sequence[str] = (),
) -> Computation:
    """Make a computation of a Python function by compiling it with Numba.

    ``@numba_computation(T1, …)`` declares the parameters: tensors, structs of them and sequences.  A struct arrives as
    a record (``batch.x`` and ``batch["x"]``), a sequence can be iterated (``for batch in batches``).  The function
    returns a tensor, a tuple, a named tuple, a dict literal or one of its arguments' structs; the type is inferred by
    running it on small probes, or declared with ``result=``, to which a result of the same kind is cast.  Arguments are
    read-only.  ``boundscheck=False`` leaves out the checks of indices in the body.

    ``donate`` names a parameter, or several, whose arrays the function may write into: such an argument is *consumed*.
    It is given away without a copy where nobody reads it again: the state of a ``sequence_reduce``, a value that the
    program computed for this call alone, an array of a compiled body's own; all else is copied first.  A body that
    reads an array after it has given it away gets numbers that nobody promises (in debug mode NaN).  To return the
    argument, or its arrays, copies nothing.

    Raises `TypeError` where the body is defined if Numba cannot compile it (in debug mode where it is first compiled).
    """

    bound = bind_parameter(function, types_)
    name, where = function_name(function), definition_location(function)
    plain, given, keywords = _plain(function, name, where)
    _refuse_placements(name, where, bound.type)
    if uses_random(plain):
        text = (
            "np.random and random draw from a state of the rank, so that results would depend on the number of ranks; "
            "pass a key and draw with fm.random: fm.random.normal(fm.random.fold_in(key, client), shape)"
        )
        raise TypeError(str(Report(text, name, where)))
    declared: Type = read_type(result) if result is not None else TensorType(np.int32)
    try:
        constants = [*given, *keywords.values(), *(plain.__defaults__ or ())]
        for constant in constants:
            refuse_more_than_numbers(constant, "numbers")
        type_ = FunctionType(bound.type, declared)
        body = NumbaBody(plain, type_, bound.fields, name, where, boundscheck=boundscheck, translate=_translated)
    except ArgumentError as error:
        raise TypeError(str(Report(str(error), name, where))) from None
    body.parameters, body.given = bound.names, tuple(map(still, given))
    body.donated = _donated(donate, body, where)
    body.keywords = {name: still(value) for name, value in keywords.items()}
    if result is None:
        body.type = FunctionType(bound.type, infer_result(body))
    _refuse_placements(name, where, body.type.result)
    if not debugging():
        body.compile()
    return Computation(Local(body, body.type), name=name, where=where, doc=function.__doc__, names=bound.names)


def _donated(donate: str | Sequence[str], body: NumbaBody, where: str) -> frozenset[int]:
    """Return the positions of the parameters that a body may write into."""
    names = [donate] if isinstance(donate, str) or not isinstance(donate, Iterable) else list(donate)
    positions = []
    for name in names:
        if name not in body.parameters:
            known = ", ".join(body.parameters) or "none"
            text = f"donate must name parameters of the function ({known}), found {name!r}"
            raise TypeError(str(Report(text, body.name, where)))
        positions.append(body.parameters.index(name))
        type_ = parameter_types(body)[positions[-1]]
        arrays = any(isinstance(leaf, TensorType) and leaf.shape for leaf in leaves_of(type_))
        if not arrays or contains(type_, SequenceType):
            text = f"donate must name a parameter with arrays, and without sequences, found {name} of type {type_}"
            raise TypeError(str(Report(text, body.name, where)))
    return frozenset(positions)


def _translated(body: NumbaBody) -> Any:
    from fedmpi.local.loops.compiled import CompiledFunction  # which loads Numba

    return CompiledFunction(body, body.type.parameter, body.type.result, body.name)


def _plain(function: Any, name: str, where: str) -> tuple[types.FunctionType, tuple[Any, ...], dict[str, Any]]:
    """Return the Python function below ``functools.partial`` and Numba's dispatchers, and what partial gives it."""
    given: tuple[Any, ...] = ()
    keywords: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        given, keywords = (*function.args, *given), {**function.keywords, **keywords}
        function = function.func
    if isinstance(function, staticmethod):
        function = function.__func__
    function = getattr(function, "py_func", function)
    if not isinstance(function, types.FunctionType):
        text = (
            f"a numba_computation is made of a plain function, found a {type(function).__name__} "
            "(a python_computation takes anything that can be called)"
        )
        raise TypeError(str(Report(text, name, where)))
    return function, given, keywords


def _python(function: Callable[..., Any], types_: Sequence[Type | None], *, result: Any = None) -> Computation:
    """Make a computation of a Python function that is run as it is, for whatever Numba cannot compile.

    Its parameters are declared as for `numba_computation`, and ``result=`` must be given.  It gets copies of its
    arguments, and what it returns is copied: memory that it writes to is its own.
    """
    bound = bind_parameter(function, types_)
    name, where = function_name(function), definition_location(function)
    if result is None:
        raise TypeError(str(Report("python_computation needs the type of its result: result=…", name, where)))
    type_ = FunctionType(bound.type, read_type(result))
    _refuse_placements(name, where, type_.parameter)
    _refuse_placements(name, where, type_.result)
    body = PythonBody(function, type_, bound.fields, name, where)
    return Computation(Local(body, type_), name=name, where=where, doc=function.__doc__, names=bound.names)


def _refuse_placements(name: str, where: str, type_: Type | None) -> None:
    for leaf in () if type_ is None else leaves_of(type_):
        if isinstance(leaf, FederatedType | FunctionType):
            text = f"a local computation handles tensors, structs and sequences, found {leaf}"
            raise TypeError(str(Report(text, name, where)))


numba_computation = decorator("numba_computation", _numba)
python_computation = decorator("python_computation", _python)

__all__ = ["numba_computation", "python_computation"]
