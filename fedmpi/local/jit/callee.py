"""Functions that compiled code alone calls: Numba gives them to LLVM once, where they are called from Python.

Numba optimises what a function calls, and makes machine code of it, again at every level of nesting: a kernel six calls
below the function that Python calls is compiled seven times, and six of the results are never run.  Here such a
function stays LLVM's intermediate code, which is linked into its callers; the outermost function is optimised and
emitted with all that it calls.  That halves the time of a first run.

`callee(function)` is a Numba dispatcher for compiled code only; from Python it cannot be called.

This leans on the insides of Numba, so it is done with the versions that it was tried with (`callee_library.TRIED`);
with any other a callee is an ordinary compiled function, and a first run takes longer.
"""

from __future__ import annotations

from typing import Any

import numba

from fedmpi.local.jit.debugging import check_compiler
from fedmpi.local.jit.store import Store
from fedmpi.local.numba_parts.callee_library import KNOWN, CalleeLibrary, rebuild
from fedmpi.local.numba_parts.passes import CompilerBase, DefaultPassBuilder
from fedmpi.local.numba_parts.storing import keep


class CalleeCompiler(CompilerBase):
    """Numba's compiler with a `CalleeLibrary`: a ``pipeline_class`` of ``njit`` and of ``overload``'s options."""

    def define_pipelines(self) -> list[Any]:
        if KNOWN:
            self.state.library = CalleeLibrary(self.state.targetctx.codegen(), self.state.func_id.func_qualname)
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        self.add_passes(pipeline)
        pipeline.finalize()
        return [pipeline]

    def add_passes(self, pipeline: Any) -> None:
        """Change the passes, in classes derived from this one."""


OPTIONS = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": CalleeCompiler}


def callee(function: Any, *, cache: bool = False, **options: Any) -> Any:
    """Return the dispatcher of a function that compiled code alone calls; other arguments are those of ``njit``.

    With ``cache`` it is a module-level function of fedmpi/local whose code is kept.
    """
    if cache and not KNOWN:
        return jitted(function, store=Store(function, "callee"), **options)
    store = Store(function, "callee", rebuild) if cache else None
    return jitted(function, store=store, **{**OPTIONS, **options})


def jitted(function: Any, *, store: Store | None = None, **options: Any) -> Any:
    """Return the dispatcher that ``njit`` makes by fedmpi's policy, its code kept in ``store``.

    Raises `RuntimeError` where Numba would run Python instead.
    """
    check_compiler()
    dispatcher = numba.njit(**{"error_model": "numpy", "no_cfunc_wrapper": True, **options})(function)
    if store is not None:
        keep(dispatcher, store)
    return dispatcher
