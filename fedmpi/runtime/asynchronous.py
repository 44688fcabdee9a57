"""`AsyncContext`: computations called from a program with a running event loop, such as a notebook."""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import functools
import warnings
import weakref
from collections.abc import Coroutine, Generator
from concurrent.futures import Future
from typing import Any

from fedmpi.language.source import called_at, user_location
from fedmpi.language.tracing.computation import Computation
from fedmpi.language.tracing.default_context import (
    Context,
    Installable,
    check_context,
    current_context,
    get_context_stack,
)
from fedmpi.runtime.mpi import line

__all__ = ["AsyncCall", "AsyncContext", "blocking"]


class AsyncContext(Installable):
    """Runs computations in ``context`` (default: the current one) while the program's event loop goes on.

    A call returns at once, with what ``await``, `asyncio.run`, `asyncio.gather` and the like take; awaited, it gives
    the result or raises the call's exception.  Calls run in the order in which they are made, one at a time, on a
    thread of fedmpi's, whether and whenever they are awaited.  That order must be the same on all ranks, so it must not
    depend on time, such as on which of two tasks has been quicker.  An argument is read when the call runs: an array
    must not be written to before that.  A call may be an argument of a later one, which then gets its result.

    A call, once made, runs to its end: other ranks have made it too.  Cancelling a task, or a time-out, ends the
    waiting alone.  A `StopIteration` is raised as a `RuntimeError` that names it: itself, it would end the coroutine
    that awaits the call.  What a call raises and nobody awaits is a `RuntimeWarning`.  The end of the script waits for
    the calls in line; after an uncaught exception, only for the one that runs.

    `fm.replicate`, `fm.client_data` and what is called in another context give their results as ever, and wait for the
    calls in line first.
    """

    def __init__(self, context: Context | None = None) -> None:
        self.context = blocking(current_context() if context is None else check_context(context))

    def invoke(self, computation: Computation, argument: Any, *, resident: bool = False) -> AsyncCall:
        """Put a call in line."""
        prepare = getattr(self.context, "prepare", None)
        if prepare is not None:
            prepare(computation)
        where = user_location()

        def run() -> Any:
            # What the bodies of local computations call is part of this call, and waits for nothing.
            with get_context_stack().install(self.context):
                try:
                    return self.context.invoke(computation, _given(argument), resident=resident)
                except StopIteration as error:  # to those who await it, the end of the call
                    raise RuntimeError(f"StopIteration: {error}") from error

        action = functools.partial(contextvars.copy_context().run, called_at, where, run)
        return AsyncCall(line.enter(action), f"{computation.name} at {where}")


def blocking(context: Context) -> Context:
    """Return the context in which a context runs its calls: of an asynchronous one, the one that it wraps."""
    return context.context if isinstance(context, AsyncContext) else context


def _given(argument: Any) -> Any:
    """Return an argument with the result of each call in it, which was in line before."""
    if isinstance(argument, AsyncCall):
        return argument.result()
    if type(argument) is tuple and any(isinstance(part, AsyncCall) for part in argument):
        return tuple([part.result() if isinstance(part, AsyncCall) else part for part in argument])
    return argument


class AsyncCall(Coroutine[Any, Any, Any]):
    """A call in line: to be awaited, more than once if one likes.

    A `Coroutine`, because that is what `asyncio.run` and `asyncio.create_task` take.
    """

    def __init__(self, future: Future[Any], name: str) -> None:
        self._future, self._name = future, name
        self._waiting: Generator[Any, Any, Any] | None = None
        self._heard = False  # somebody has got what came of it
        _unheard.add(self)

    def __repr__(self) -> str:
        return f"<call of {self._name}, {'done' if self._future.done() else 'in line or running'}>"

    def result(self) -> Any:
        """Return the result, or raise the call's exception, once it is there; blocks this thread."""
        try:
            return self._future.result()
        finally:
            self._heard |= self._future.done()

    def __await__(self) -> Generator[Any, Any, Any]:
        future = asyncio.wrap_future(self._future)
        try:
            return (yield from future.__await__())
        finally:
            self._heard |= future.done() and not future.cancelled()

    def send(self, value: Any, /) -> Any:
        """Go on waiting, for an event loop."""
        if self._waiting is None:
            self._waiting = self.__await__()
        try:
            return self._waiting.send(value)
        except BaseException:
            self._waiting = None
            raise

    def throw(self, *error: Any) -> Any:
        """Raise an error, such as that of a cancelled task, where it waits; the call runs on."""
        if self._waiting is None:
            self._waiting = self.__await__()
        return self._waiting.throw(*error)

    def close(self) -> None:
        """End the waiting; the call runs on."""
        if self._waiting is not None:
            self._waiting.close()

    def __del__(self) -> None:
        if not self._heard:
            self._future.add_done_callback(functools.partial(_warn_of_failure, self._name))


def _warn_of_failure(name: str, future: Future[Any]) -> None:
    """Warn, at the place of the call, of an error that nobody has got to see."""
    error = future.exception()
    if error is not None:
        where, _, number = name.rpartition(" at ")[2].rpartition(":")
        text = f"the call of {name} was not awaited, and failed: {type(error).__name__}: {error}"
        warnings.warn_explicit(text, RuntimeWarning, where or "?", int(number or 0))


@atexit.register  # before that of `line`, so that it runs after: what was in line has run
def _warn_at_exit() -> None:
    for call in list(_unheard):
        call.__del__()
        call._heard = True


_unheard: weakref.WeakSet[AsyncCall] = weakref.WeakSet()
