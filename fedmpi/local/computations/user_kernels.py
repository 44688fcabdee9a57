"""Users' own kernels: compiled functions with a NumPy twin and, where they have one, an in-place form."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from fedmpi.language.errors import Report
from fedmpi.language.source import definition_location, function_name
from fedmpi.local.computations.numba_bodies import compile_body
from fedmpi.local.computations.python_form import interpreted
from fedmpi.local.jit.announcing import announcing
from fedmpi.local.jit.callee import jitted
from fedmpi.local.jit.freezing import frozen
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.jit.kernel import Kernel


class UserKernel(Kernel):
    """A kernel of the user's; its function is compiled as the body of a `numba_computation` is, without its types."""

    def __init__(
        self, function: types.FunctionType, twin: Callable[..., Any] | None, in_place: Kernel | None,
        writes: tuple[str, ...], boundscheck: bool,
    ) -> None:  # fmt: skip
        own = frozen(function)
        super().__init__(own, twin or interpreted(own), in_place=in_place, writes=writes)
        self.boundscheck = boundscheck
        self.__module__ = function.__module__

    def cache_key(self) -> tuple[Any, ...]:
        """Return what the compiled code depends on."""
        into = None if self.in_place is None else (self.in_place, self.in_place.writes)
        return (self.function, self.writes, self.boundscheck, into)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The compiled function that other compiled code calls."""
        return compile_body(self.function, self.boundscheck)

    @functools.cached_property
    def entry(self) -> Any:
        """The dispatcher that Python calls."""
        names = ", ".join(self.__signature__.parameters)
        made = generated_function("entry", names, f"    return kernel({names})\n", {"kernel": self.dispatcher})
        return announcing(jitted(made), self.__name__)

    def __reduce__(self) -> str:
        raise TypeError(f"{self!r} cannot be pickled: it is a function of this program")


def kernel(
    twin: Callable[..., Any] | None = None,
    *,
    in_place: Kernel | None = None,
    writes: str | tuple[str, ...] | list[str] = (),
    boundscheck: bool = False,
) -> Any:
    """Make a kernel of a function: compiled code that is called from bodies, from other kernels and from Python.

    ``@fm.kernel(twin)`` decorates a function of arrays and numbers that Numba compiles, for whatever types it is called
    with.  ``twin`` does the same in NumPy: it is called in debug mode and while types are inferred; without one the
    function itself runs as Python.  The contract: both give the same to rounding, for any input; the function changes
    nothing but what it says that it ``writes``; it reads no file, clock or random numbers.

    ``writes`` names the arguments into which an in-place form writes its results, in the order of these: it returns
    nothing.  ``in_place`` is that form of a functional kernel, of the same parameters, which gives the same bits: a
    body that gives the functional kernel arrays that it was lent (``donate=``) gets the in-place form without a word.
    Indices are not checked, but with ``boundscheck=True``.

    Raises `TypeError` where it is defined for names that are no parameters and forms that do not fit each other.
    """
    names = (writes,) if isinstance(writes, str) else tuple(writes)

    def make(function: Any) -> UserKernel:
        function = getattr(function, "py_func", function)
        where, name = "", getattr(function, "__name__", type(function).__name__)
        if isinstance(function, types.FunctionType):
            where, name = definition_location(function), function_name(function)

        def refuse(text: str) -> None:
            raise TypeError(str(Report(text, f"fm.kernel of {name}", where)))

        if not isinstance(function, types.FunctionType):
            refuse(f"a kernel is made of a plain function, found a {type(function).__name__}")
        parameters = list(inspect.signature(function).parameters)
        for written in names:
            if written not in parameters:
                refuse(f"writes must name parameters ({', '.join(parameters)}), found {written!r}")
        if twin is not None and not callable(twin):
            refuse(f"the twin must be a function, found {twin!r}")
        if in_place is not None:
            if not isinstance(in_place, Kernel) or not in_place.writes:
                refuse(f"in_place must be a kernel that writes, found {in_place!r}")
            if list(in_place.__signature__.parameters) != parameters:
                found = ", ".join(in_place.__signature__.parameters)
                refuse(f"in_place must have the same parameters ({', '.join(parameters)}), found ({found})")
        return UserKernel(function, twin, in_place, names, boundscheck)

    return make
