"""Numba's code of a function between Python and types, which passes read and rewrite."""

from __future__ import annotations

from typing import Any

from numba.core import errors as errors
from numba.core import ir as ir
from numba.core.compiler import run_frontend as run_frontend
from numba.core.inline_closurecall import length_of_iterator as length_of_iterator
from numba.core.ir_utils import mk_unique_var

# A function's code has `blocks`, a block a `scope` and a `body` of statements.  What a variable may be stands in
# `_definitions`, by its name, which later passes believe: who changes a statement changes it there as well.  An array
# of a comprehension asks `length_of_iterator`, an intrinsic, how long it will be.
RELIED_ON = (
    "numba.core.compiler.run_frontend",
    "numba.core.errors.NumbaError",
    "numba.core.errors.NumbaTypeError",
    "numba.core.errors.TypingError",
    "numba.core.inline_closurecall.length_of_iterator._defn",
    "numba.core.ir.Arg",
    "numba.core.ir.Assign",
    "numba.core.ir.Const",
    "numba.core.ir.Del",
    "numba.core.ir.Expr.call",
    "numba.core.ir.FreeVar",
    "numba.core.ir.FunctionIR",
    "numba.core.ir.Global",
    "numba.core.ir.Jump",
    "numba.core.ir.Return",
    "numba.core.ir.SetItem",
    "numba.core.ir.StaticSetItem",
    "numba.core.ir.Var",
    "numba.core.ir_utils.mk_unique_var",
)


def named(func_ir: Any, scope: Any, value: Any, prefix: str, loc: Any) -> tuple[Any, Any]:
    """Return a new variable for a value and the statement that assigns it, which the caller puts into the code."""
    variable = ir.Var(scope, mk_unique_var(f"${prefix}"), loc)
    func_ir._definitions[variable.name].append(value)
    return variable, ir.Assign(value, variable, loc)


def redefine(func_ir: Any, statement: Any, value: Any) -> None:
    """Let what an assignment assigns be ``value``, for whoever asks; the statement itself is the caller's to change."""
    definitions = func_ir._definitions[statement.target.name]
    definitions[:] = [value if found is statement.value else found for found in definitions]


def resolved(func_ir: Any, var: Any) -> Any:
    """Return the object that a variable stands for: a global, a closure cell, an attribute of a module; else None."""
    try:
        definition = func_ir.get_definition(var)
    except KeyError:
        return None
    if isinstance(definition, ir.Global | ir.FreeVar):
        return definition.value
    if isinstance(definition, ir.Expr) and definition.op == "getattr":
        return getattr(resolved(func_ir, definition.value), definition.attr, None)
    return None
