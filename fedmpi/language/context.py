"""The context that runs what is called outside of traced bodies; one default for the process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from fedmpi.language.errors import ContextError

if TYPE_CHECKING:
    from fedmpi.language.computation import Computation


class Context(Protocol):
    """What runs computations."""

    def invoke(self, computation: Computation, argument: Any, *, resident: bool = False) -> Any:
        """Run a computation on its packed Python argument (None if it takes none) and return the result.

        ``resident`` leaves what the result has at the clients there (`Computation.resident`).
        """


_lock = threading.Lock()
_default: Context | None = None
_factory: Callable[[], Context] | None = None


def set_default_context(context: Context | None) -> None:
    """Run what is called from now on in ``context``; with None, in a new one from the factory at the next use."""
    global _default
    if context is not None and not callable(getattr(context, "invoke", None)):
        raise TypeError(f"a context has a method invoke(computation, argument), found {context!r}")
    with _lock:
        _default = context


def set_default_factory(factory: Callable[[], Context]) -> None:
    """Say how the default context is made at first use, so that importing fedmpi starts nothing."""
    global _factory
    _factory = factory


def get_default_context() -> Context:
    """Return the default context; raise `ContextError` if there is none and no factory."""
    global _default
    with _lock:
        if _default is None:
            if _factory is None:
                raise ContextError("no default context: set one with fm.set_default_context(fm.ReferenceContext())")
            _default = _factory()
        return _default
