"""Kernels: compiled functions that users call from Python and from their own compiled functions.

Compiled code is cached on disk: a second run starts in milliseconds.
Division follows NumPy: 0/0 is nan and nothing raises ZeroDivisionError, which also lets loops vectorise.  `fastmath`
stays off: every sum has the order that the source gives it, so a kernel gives the same bits wherever LLVM inlines it.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.extending import overload, typeof_impl

from fedmpi.local.jit.announcing import announcing
from fedmpi.local.jit.array_kinds import LentArray, as_lent, reach
from fedmpi.local.jit.callee import OPTIONS, callee, jitted
from fedmpi.local.jit.debugging import check_compiler, debugging
from fedmpi.local.jit.generated import generated_function
from fedmpi.local.jit.interrupts import run
from fedmpi.local.jit.lending import consumed, is_lent
from fedmpi.local.jit.probe import probing
from fedmpi.local.jit.store import Store

F = TypeVar("F", bound=Callable[..., Any])


class Compiled:
    """A module-level function, compiled for compiled callers (`dispatcher`) and for Python, each when it is needed.

    Inside a jitted function it stands for its dispatcher, whether it is found as a global, in a closure or as a
    module's attribute.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        check_compiler()
        self.function = function
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__

    @functools.cached_property
    def dispatcher(self) -> Any:
        """The dispatcher that other compiled code calls."""
        return callee(self.function, cache=True)

    @functools.cached_property
    def entry(self) -> Any:
        """The dispatcher that Python calls."""
        return announcing(jitted(self.function, store=Store(self.function)), self.__name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return run(self.entry, *args, **kwargs)

    def __reduce__(self) -> str:
        """Pickle by name: one in a closure must not change the key under which Numba caches that closure."""
        return self.__qualname__


def jit(function: F) -> F:
    """Compile a module-level function by the shared policy."""
    return cast(F, Compiled(function))


class Kernel(Compiled):
    """A compiled function, a NumPy function that does the same (`twin`), and its in-place form.

    Calling it runs the compiled function, or the twin while a probe runs and in debug mode.

    `in_place` is the Kernel that writes the same results, to the bit, into buffers that the caller owns, or None; on
    that Kernel `writes` gives, for each result of the functional form, the position of the argument that receives it.
    A compiled body that gives the functional form arrays that it was lent gets the in-place form.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        twin: Callable[..., Any],
        *,
        in_place: Kernel | None = None,
        writes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(function)
        self.twin = twin
        self.in_place = in_place
        parameters = list(inspect.signature(function).parameters)
        self.__signature__ = inspect.Signature(
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in parameters]
        )
        self.writes = tuple(parameters.index(name) for name in writes)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the compiled function, or its twin while a probe runs and in debug mode."""
        if not probing() and not debugging():
            return super().__call__(*args, **kwargs)
        result = self.twin(*args, **kwargs)
        if self.in_place is not None:
            given = list(inspect.signature(self.function).bind(*args, **kwargs).arguments.values())
            written = [given[i] for i in self.in_place.writes]
            if all(map(is_lent, written)):
                consumed(written)
        return result

    @functools.cached_property
    def called(self) -> Any:
        """The dispatcher that compiled code calls: the in-place form where the arguments that it writes are lent."""
        if self.in_place is None:
            return self.dispatcher
        names, into, writes = list(self.__signature__.parameters), self.in_place, self.in_place.writes
        arguments = ", ".join(names)
        results = ", ".join(names[i] for i in writes)
        scope = {"form": self.dispatcher, "into": into.dispatcher, "as_lent": as_lent, "reach": reach}
        text = f"    into({arguments})\n    return {results}\n"

        def choice(*_: Any) -> Any:
            raise NotImplementedError("for compiled code")

        @overload(choice, strict=False, jit_options=OPTIONS)
        def _choice(*args: Any) -> Any:
            lent = all(isinstance(args[i], LentArray) for i in writes)
            body = alone_text(names, writes, args) + text if lent else f"    return form({arguments})\n"
            unpacked = f"    {arguments}, = args\n"
            return generated_function("chosen", "*args", unpacked + body, dict(scope))

        body = f"    return choice({arguments})\n"
        return callee(generated_function(self.__name__, arguments, body, {"choice": choice}))

    def __repr__(self) -> str:
        return f"<kernel {self.__name__}{self.__signature__}>"


def alone_text(names: list[str], writes: tuple[int, ...], given: tuple[Any, ...]) -> str:
    """Return the lines that copy what a kernel writes into where it shares memory with another argument."""
    arrays = [i for i, value in enumerate(given) if isinstance(value, types.Array) and value.mutable]
    lines = [f"start{i}, end{i} = reach({names[i]})" for i in arrays]
    for i in writes:
        meets = [f"(end{i} > start{k} and end{k} > start{i})" for k in arrays if k != i]
        if meets:
            lines += [f"if {' or '.join(meets)}:", f"    {names[i]} = as_lent({names[i]}.copy())"]
    return "".join(f"    {line}\n" for line in lines)


def kernel(
    twin: Callable[..., Any], *, in_place: Kernel | None = None, writes: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Kernel]:
    """Make the decorated module-level function a `Kernel`; its arguments are those of `Kernel`."""
    return lambda function: Kernel(function, twin, in_place=in_place, writes=writes)


def _numba_type(value: Compiled, context: Any) -> Any:
    return numba.types.Dispatcher(value.called if isinstance(value, Kernel) else value.dispatcher)


typeof_impl.register(Compiled)(_numba_type)
