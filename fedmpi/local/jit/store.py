"""Compiled functions on disk, in the form that Numba asks for: what a dispatcher's ``_cache`` is.

Numba's own cache looks for a folder beside the source or in the home, and refuses to compile where it finds none; it
knows of a function's own file only; and two processes that compile different forms of one function at once may store
one under the other's name.  Here each form is a file of its own, whose name is the hash of all that it depends on.
"""

from __future__ import annotations

import contextlib
import hashlib
import pickle
import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from numba.core.bytecode import FunctionIdentity
from numba.core.caching import _cache_log
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

from fedmpi.local.jit import cache
from fedmpi.local.jit.cache_folder import locked, read, write
from fedmpi.local.jit.interrupts import is_of_handler


class SerialNumbers:
    """Numbers for functions, each given once among all processes of all machines.

    Numba tells functions of one name and signature apart by a number, and counts from 1 in each process.  Code that two
    processes compiled meets in a third that loads both from the cache, and the linker takes the first of two equal
    symbols: one program would run another's functions, without a word.  The system draws each number, so that there is
    no state which a forked or restored process could have in common with another.
    """

    FIRST = 1 << 62  # greater than what Numba counts to, and than earlier versions of fedmpi did

    def __next__(self) -> int:
        return self.FIRST + secrets.randbits(62)


FunctionIdentity._unique_ids = SerialNumbers()
_NUMBER = re.compile(r"B\d+v(\d+)")  # in a symbol's name


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
        rebuild: Callable[..., Any] = lambda context, payload: CompileResult._rebuild(context, *payload),
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
        _cache_log("[cache] data loaded from %r", str(path))
        return found

    def save_overload(self, signature: Any, result: Any) -> None:
        """Store a compiled form, if it may be stored and can be written."""
        try:
            path = self.path(signature)
            if path is None or not _storable(result):
                return
            data = dumps((signature, result._reduce()))
        except Exception as error:  # something in it cannot be pickled
            if is_of_handler(error):
                raise
            return
        if write(path, data):
            _cache_log("[cache] data saved to %r", str(path))

    def enable(self) -> None:
        """Do nothing; Numba may ask for it."""

    disable = flush = enable


def _storable(result: Any) -> bool:
    """Tell whether code means the same in another process.

    It does not where it has addresses in it, nor where it holds a function that Numba numbered before fedmpi was
    there, or that comes from the cache of a program without fedmpi: one of another program may have the same symbol,
    and the linker takes the first of two.
    """
    if result.lifted or result.library.has_dynamic_globals:
        return False
    module = result.library._final_module
    symbols = " ".join(symbol.name for part in (module.functions, module.global_variables) for symbol in part)
    return all(int(number) >= SerialNumbers.FIRST for number in _NUMBER.findall(symbols))
