"""The context that runs what is called outside of traced bodies.

The program has one default, seen by all its threads.  A ``with`` block installs another context for the code in it: for
what the block calls and for the asyncio tasks that are begun in it, and for no other thread or task (a `ContextVar`).
A thread that is started in the block sees the default, or what it installs itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Generic, Protocol, Self, TypeVar

from fedmpi.language.errors import ContextError, Report


class Context(Protocol):
    """What runs computations."""

    def invoke(self, computation: Any, argument: Any, *, resident: bool = False) -> Any:
        """Run a `Computation` on its packed Python argument (None if it takes none) and return the result.

        ``resident`` leaves what the result has at the clients there (`Computation.resident`).
        """


AnyContext = TypeVar("AnyContext", bound=Context)


class Installable:
    """A context that a ``with`` statement installs for its block."""

    def __enter__(self) -> Self:
        _push(self)
        return self

    def __exit__(self, *_: object) -> None:
        _pop()


class _Block(Generic[AnyContext]):
    """A block in which ``context`` is installed; no generator, so that no frame of ``contextlib`` is in the way."""

    def __init__(self, context: AnyContext) -> None:
        self._context = context

    def __enter__(self) -> AnyContext:
        _push(self._context)
        return self._context

    def __exit__(self, *_: object) -> None:
        _pop()


class ContextStack:
    """The default context, and on it those that the ``with`` blocks around the running code have installed."""

    @property
    def current(self) -> Context:
        """The context that runs what is called here; raises `ContextError` if there is none."""
        return current_context()

    def set_default_context(self, context: Context | None) -> None:
        """Do what `set_default_context` does."""
        set_default_context(context)

    def install(self, context: AnyContext) -> _Block[AnyContext]:
        """Return a ``with`` block whose calls run in ``context``; afterwards, what was current before is so again."""
        return _Block(check_context(context))


_stack = ContextStack()
_installed: ContextVar[tuple[Context, ...]] = ContextVar("fedmpi_contexts", default=())
_lock = threading.Lock()
_default: Context | None = None
_factory: Callable[[], Context] | None = None
_forbidden = False  # the program wants no default


def _push(context: Any) -> None:
    _installed.set((*_installed.get(), context))


def _pop() -> None:
    _installed.set(_installed.get()[:-1])


def get_context_stack() -> ContextStack:
    """Return the stack of contexts, whose ``install(context)`` is a ``with`` block."""
    return _stack


def set_default_context(context: Context | None) -> None:
    """Run what is called from now on in ``context``, in all threads; with None, in a new `MpiContext` made at need."""
    global _default, _forbidden
    checked = None if context is None else check_context(context)
    with _lock:
        _default, _forbidden = checked, False


def set_no_default_context() -> None:
    """Have no default context: outside of a ``with`` block of one, every call raises `ContextError`."""
    global _default, _forbidden
    with _lock:
        _default, _forbidden = None, True


def set_default_factory(factory: Callable[[], Context]) -> None:
    """Say how the default context is made at first use, so that importing fedmpi starts nothing."""
    global _factory
    _factory = factory


def current_context() -> Context:
    """Return the context installed by the innermost ``with`` block, else the default; raise `ContextError` without."""
    global _default
    installed = _installed.get()
    if installed:
        return installed[-1]
    with _lock:
        if _default is None:
            if _factory is None or _forbidden:
                report = Report.here(
                    "no default context is installed",
                    "set one with fm.set_default_context(fm.MpiContext()), or call it in a block of"
                    " with fm.MpiContext():",
                )
                raise ContextError(str(report))
            _default = _factory()
        return _default


def check_context(context: Any) -> Any:
    """Return a context; raise `TypeError` for what is none."""
    if isinstance(context, type) or not callable(getattr(context, "invoke", None)):
        text = f"expected a context, such as fm.MpiContext() or fm.ReferenceContext(), found {context!r}"
        raise TypeError(str(Report.here(text, who="context")))
    return context
