"""Compiled functions on disk, in the form that Numba asks for: what a dispatcher's ``_cache`` is.

Numba's own cache looks for a folder beside the source or in the home, and refuses to compile where it finds none; it
knows of a function's own file only; and two processes that compile different forms of one function at once may store
one under the other's name.  Here each form is a file of its own, whose name is the hash of all that it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fedmpi.local.jit import cache
from fedmpi.local.jit.cache_folder import locked, read, write
from fedmpi.local.jit.interrupts import is_of_handler
from fedmpi.local.numba_parts import storing


class Refused(Exception):
    """A form that could not be compiled when it was tried."""


class Store:
    """The stored forms of one function; ``kind`` tells those of different compilers apart.

    What a form depends on is `cache.conditions`, the function's module and name, and its types.  So the function is one
    of fedmpi/local, which the conditions cover, or of a module whose name says what is in it.
    """

    cache_path = ""

    def __init__(
        self,
        function: Any,
        kind: str = "entry",
        rebuild: Callable[..., Any] = storing.rebuild,
    ) -> None:
        self.name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}"
        self.identity = f"{kind} {function.__module__}.{function.__qualname__}"
        self.rebuild = rebuild

    def path(self, signature: Any) -> Path | None:
        """Return the file of one form, None where nothing is kept."""
        place, text = cache.place(), repr(signature)
        if place is None or " at 0x" in text:  # it names an object of this process
            return None
        digest = hashlib.sha256(f"{cache.conditions()}\n{self.identity}\n{text}".encode())
        return place / f"{self.name}-{digest.hexdigest()[:32]}.nbc"

    @contextlib.contextmanager
    def compiling(self, signature: Any) -> Iterator[None]:
        """Let one process of a machine compile in the ``with`` block while others wait to load."""
        path = self.path(signature)
        with contextlib.nullcontext() if path is None or path.exists() else locked(path.with_suffix(".lock")):
            yield

    @contextlib.contextmanager
    def tried_once(self, signature: Any, refusals: tuple[type[Exception], ...]) -> Iterator[None]:
        """Raise `Refused` in the stead of trying again what has ended in an error of these classes before."""
        path = self.path(signature) if refusals else None
        kept = None if path is None else path.with_suffix(".refused")
        if kept is not None and read(kept) is not None:
            raise Refused
        try:
            yield
        except refusals as error:
            if kept is not None and not is_of_handler(error):
                write(kept, str(error).encode())
            raise

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        """Return the compiled form for these types; None where there is none that can be read."""
        target_context.refresh()
        try:
            path = self.path(signature)
            data = None if path is None else read(path)
            if data is None:
                return None
            stored, payload = pickle.loads(data)
            found = self.rebuild(target_context, payload) if stored == signature else None
        except Exception as error:  # whatever is wrong with it, the function can be compiled
            if is_of_handler(error):
                raise
            return None
        storing.log("[cache] data loaded from %r", str(path))
        return found

    def save_overload(self, signature: Any, result: Any) -> None:
        """Store a compiled form, if it may be stored and can be written."""
        try:
            path = self.path(signature)
            if path is None or not storing.storable(result):
                return
            data = storing.as_bytes(signature, result)
        except Exception as error:  # something in it cannot be pickled
            if is_of_handler(error):
                raise
            return
        if write(path, data):
            storing.log("[cache] data saved to %r", str(path))

    def enable(self) -> None:
        """Do nothing; Numba may ask for it."""

    disable = flush = enable
