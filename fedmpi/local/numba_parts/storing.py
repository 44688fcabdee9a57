"""What of a compiled function can be kept in a file, and the names of functions, by which code from files meets."""

from __future__ import annotations

import re
import secrets
from typing import Any

from numba.core.bytecode import FunctionIdentity
from numba.core.caching import _cache_log
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps

# A dispatcher asks its `_cache` for a compiled form and gives it new ones (`load_overload`, `save_overload`,
# `cache_path`, `enable`, `disable`, `flush`).  A form takes itself apart with `_reduce`, for `_rebuild`.  The number
# in a symbol's name is the next of `_unique_ids`.
RELIED_ON = (
    "numba.core.bytecode.FunctionIdentity._unique_ids",
    "numba.core.caching._Cache.cache_path",
    "numba.core.caching._Cache.disable",
    "numba.core.caching._Cache.enable",
    "numba.core.caching._Cache.flush",
    "numba.core.caching._Cache.load_overload",
    "numba.core.caching._Cache.save_overload",
    "numba.core.caching._cache_log",
    "numba.core.codegen.CodeLibrary.has_dynamic_globals",
    "numba.core.compiler.CompileResult._rebuild",
    "numba.core.compiler.CompileResult._reduce",
    "numba.core.serialize.dumps",
)


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
log = _cache_log  # says what the cache does, where NUMBA_DEBUG_CACHE asks for it
_NUMBER = re.compile(r"B\d+v(\d+)")  # in a symbol's name


def keep(dispatcher: Any, store: Any) -> None:
    """Have a dispatcher look for its compiled forms in a store, and put new ones there."""
    dispatcher._cache = store


def as_bytes(signature: Any, result: Any) -> bytes:
    """Return a compiled form for a file; raises whatever pickling raises."""
    return bytes(dumps((signature, result._reduce())))


def rebuild(context: Any, payload: Any) -> Any:
    """Return the compiled form that `as_bytes` took apart."""
    return CompileResult._rebuild(context, *payload)


def storable(result: Any) -> bool:
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
