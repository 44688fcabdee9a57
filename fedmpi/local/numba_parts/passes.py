"""Numba's compiler as a list of passes, into which passes of our own are put."""

from numba.core.compiler import CompilerBase as CompilerBase
from numba.core.compiler import DefaultPassBuilder as DefaultPassBuilder
from numba.core.compiler_machinery import AnalysisPass as AnalysisPass
from numba.core.compiler_machinery import FunctionPass as FunctionPass
from numba.core.compiler_machinery import register_pass as register_pass
from numba.core.typed_passes import NopythonTypeInference as NopythonTypeInference
from numba.core.untyped_passes import InlineClosureLikes as InlineClosureLikes

# `define_pipelines` of a compiler returns the pipelines that it goes through; those of nopython mode have the two
# passes named here, after which ours go.  `state` is what the passes hand on: `func_ir`, `library`, `targetctx`, and
# after types are known `typemap`, `calltypes` and `return_type`; it takes attributes of our own.
RELIED_ON = (
    "numba.core.compiler.CompilerBase.define_pipelines",
    "numba.core.compiler.DefaultPassBuilder.define_nopython_pipeline",
    "numba.core.compiler_machinery.AnalysisPass.run_pass",
    "numba.core.compiler_machinery.FunctionPass.run_pass",
    "numba.core.compiler_machinery.PassManager.add_pass_after",
    "numba.core.compiler_machinery.register_pass",
    "numba.core.typed_passes.NopythonTypeInference",
    "numba.core.untyped_passes.InlineClosureLikes",
)
