"""The code of a function that compiled code alone calls, as LLVM's intermediate code (`fedmpi.local.jit.callee`)."""

from __future__ import annotations

import weakref
from typing import Any

import llvmlite.binding
import numba
from numba.core.cgutils import normalize_ir_text
from numba.core.codegen import JITCodeLibrary, RuntimeLinker
from numba.core.compiler import CompileResult

# A library collects modules (`add_llvm_module`), links what it calls into `_final_module` when it is finalized, and is
# asked for that by whoever calls it.  Objects that a function needs at run time are globals whose names begin as
# `_ENVIRONMENT` says, set by the engine; what calls itself by way of another function does so through a variable
# whose name begins with `RuntimeLinker.PREFIX`.
RELIED_ON = (
    "numba.core.cgutils.normalize_ir_text",
    "numba.core.codegen.JITCPUCodegen.set_env",
    "numba.core.codegen.JITCodeLibrary._ensure_finalized",
    "numba.core.codegen.JITCodeLibrary._finalize_dynamic_globals",
    "numba.core.codegen.JITCodeLibrary._get_module_for_linking",
    "numba.core.codegen.JITCodeLibrary._raise_if_finalized",
    "numba.core.codegen.JITCodeLibrary.add_ir_module",
    "numba.core.codegen.JITCodeLibrary.add_llvm_module",
    "numba.core.codegen.JITCodeLibrary.finalize",
    "numba.core.codegen.JITCodeLibrary.get_pointer_to_function",
    "numba.core.codegen.JITCodeLibrary.serialize_using_object_code",
    "numba.core.codegen.RuntimeLinker.PREFIX",
    "numba.core.compiler.CompileResult",
)
TRIED = {(0, 68)}  # the versions of Numba that `CalleeLibrary` was tried with
KNOWN = tuple(numba.version_info[:2]) in TRIED
_ENVIRONMENT = "_ZN08NumbaEnv"  # begins the name of the global that holds the constants of a function
_DEFINED: weakref.WeakValueDictionary[str, CalleeLibrary] = weakref.WeakValueDictionary()  # by function


class CalleeLibrary(JITCodeLibrary):
    """The code of a function, with what it calls linked in, neither optimised as a whole nor emitted.

    ``environments`` are the globals of it that hold the Python objects which a function needs at run time, as one does
    that raises an exception with arguments; Numba sets them in machine code, so those get some of their own.
    """

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.environments: set[str] = set()

    def add_ir_module(self, ir_module: Any) -> None:
        self._raise_if_finalized()
        text = normalize_ir_text(str(ir_module))
        for name in {variable.name for variable in ir_module.global_values if variable.name.startswith(_ENVIRONMENT)}:
            if text.count(name) > 1:  # not only defined
                self.environments.add(name)
        for function in ir_module.functions:
            if not function.is_declaration:
                _DEFINED[function.name] = self
        module = llvmlite.binding.parse_assembly(text)
        module.name = ir_module.name
        self.add_llvm_module(module)

    def finalize(self) -> None:
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            module = library._get_module_for_linking()
            self._final_module.link_in(module, preserve=True)
            names = (variable.name for variable in module.global_variables)
            self.environments |= getattr(library, "environments", {n for n in names if n.startswith(_ENVIRONMENT)})
        self._finalize_dynamic_globals()
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        self._ensure_finalized()
        self._resolve_recursion()
        for function in self._final_module.functions:
            if not function.is_declaration and function.linkage == llvmlite.binding.Linkage.external:
                function.linkage = "linkonce_odr"  # it may be linked into several callers
        return self._final_module

    def _resolve_recursion(self) -> None:
        """Let functions that call themselves by way of others do so directly.

        Numba calls them through a variable that it points to machine code once that is there: here there is none, and
        an object from the cache would not find it.
        """
        module, prefix = self._final_module, RuntimeLinker.PREFIX
        while symbols := [v.name.removeprefix(prefix) for v in module.global_variables if v.name.startswith(prefix)]:
            defined = {function.name for function in module.functions if not function.is_declaration}
            for symbol in defined.intersection(symbols):
                text = f'@"{prefix}{symbol}" = linkonce_odr constant ptr @"{symbol}"\ndeclare void @"{symbol}"()'
                pointer = llvmlite.binding.parse_assembly(text)
                pointer.data_layout, pointer.triple = module.data_layout, module.triple
                module.link_in(pointer)
                module.get_global_variable(f"{prefix}{symbol}").name = f"recursive {symbol}"
            elsewhere = [_DEFINED[symbol] for symbol in symbols if symbol not in defined and symbol in _DEFINED]
            for library in elsewhere:
                module.link_in(library._final_module, preserve=True)
                self.environments |= library.environments
            if not elsewhere:  # what is left is still being compiled, and a caller will find it
                return

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """What `set_env` is called on."""
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Set the global ``name`` where callers that are emitted later find it."""
        if name not in self.environments:
            return
        if not self._codegen._engine.is_symbol_defined(name):
            module = llvmlite.binding.parse_assembly(f'@"{name}" = common global ptr null')
            module.data_layout = self._codegen._data_layout
            self._codegen._engine.add_module(module)
        self._codegen.set_env(name, environment)

    def serialize_using_object_code(self) -> Any:
        """Return what the cache stores: there is no object code."""
        return self.name, self._get_module_for_linking().as_bitcode(), self.environments

    @classmethod
    def loaded(cls, codegen: Any, stored: Any) -> CalleeLibrary:
        """Return the library that `serialize_using_object_code` stored."""
        library = cls(codegen, stored[0])
        library._final_module, library.environments = llvmlite.binding.parse_bitcode(stored[1]), stored[2]
        library._finalize_dynamic_globals()
        library._finalized = True
        return library


def rebuild(target_context: Any, payload: Any) -> Any:
    """Return the compiled callee that a `Store` has read."""
    stored, fndesc, env, signature, objectmode, lifted, annotation, reload_init, environments = payload
    for function in reload_init:
        function()
    library = CalleeLibrary.loaded(target_context.codegen(), stored)
    for environment in environments:
        library.codegen.set_env(environment.env_name, environment)
    return CompileResult(
        target_context=target_context,
        typing_context=target_context.typing_context,
        library=library,
        environment=env,
        entry_point=target_context.get_executable(library, fndesc, env),
        fndesc=fndesc,
        type_annotation=annotation,
        signature=signature,
        objectmode=objectmode,
        lifted=lifted,
        typing_error=None,
        call_helper=None,
        metadata=None,
        reload_init=reload_init,
        referenced_envs=environments,
    )
