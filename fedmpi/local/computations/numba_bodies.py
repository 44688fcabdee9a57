"""Numba's compiler for the bodies of local computations: dict literals are records, plain Python helpers are compiled.

Numba's own dictionaries hold values of one type only and hash their keys at run time; and it asks for a decorator on
every function that a body calls.
"""

from __future__ import annotations

import functools
import types as python_types
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from fedmpi.language.types import TensorType, Type
from fedmpi.language.types.walking import preorder_types
from fedmpi.local.integer_pass.rewriting import IntegersAsNumPy
from fedmpi.local.jit.callee import CalleeCompiler, callee
from fedmpi.local.numba_parts.intermediate import errors, ir, length_of_iterator, named, redefine
from fedmpi.local.numba_parts.lowering import Dispatcher, cpu_target
from fedmpi.local.numba_parts.passes import FunctionPass, InlineClosureLikes, NopythonTypeInference, register_pass
from fedmpi.local.records import record_class
from fedmpi.local.typed.numba_types import length_of_iterator as our_length_of_iterator

Pairs = list[tuple[str, Any]]


def compile_body(
    function: Any,
    boundscheck: bool,
    helpers: dict[Any, Any] | None = None,
    *,
    result: Type | None = None,
    weak: dict[str, Any] | None = None,
    fastmath: bool = False,
) -> Any:
    """Return the Numba dispatcher of a user's function, the plain functions that it calls included.

    ``helpers`` holds the dispatchers of those: one for each function and body.  ``result`` is the type of a body's
    result, ``weak`` says which parameters of a helper are integers of Python's (see `integers`).
    """
    known = {} if helpers is None else helpers
    facts: dict[Any, Any] = {}

    class BodyCompiler(CalleeCompiler):
        def add_passes(self, pipeline: Any) -> None:
            self.state.compile_helper = functools.partial(_helper, boundscheck=boundscheck, known=known)
            self.state.integers_returned = None if result is None else _integers(result)
            self.state.facts, self.state.weak_parameters = facts, weak or {}
            pipeline.add_pass_after(_Rewrite, InlineClosureLikes)
            pipeline.add_pass_after(IntegersAsNumPy, NopythonTypeInference)

    dispatcher = callee(function, pipeline_class=BodyCompiler, boundscheck=boundscheck, fastmath=fastmath)
    dispatcher.fedmpi_facts, dispatcher.fedmpi_weak = facts, weak or {}
    known[_form(function, fastmath, weak)] = dispatcher  # it may call itself
    return dispatcher


def _form(function: Any, fastmath: bool, weak: dict[str, Any] | None) -> Any:
    return function, fastmath, frozenset((weak or {}).items())


def _integers(type_: Type) -> set[str]:
    """Return the names of the dtypes of integers in a type."""
    tensors = [part for part in preorder_types(type_) if isinstance(part, TensorType)]
    return {tensor.dtype.name for tensor in tensors if tensor.dtype.kind in "iu"}


def _helper(
    function: Any, *, boundscheck: bool, known: dict[Any, Any], fastmath: bool, weak: dict[str, Any] | None = None
) -> Any:
    form = _form(function, fastmath, weak)
    if form in known:
        return known[form]
    return compile_body(function, boundscheck, known, weak=weak, fastmath=fastmath)


@register_pass(mutates_CFG=False, analysis_only=False)
class _Rewrite(FunctionPass):
    """Replace what Numba cannot type by what it can, statement by statement."""

    _name = "fedmpi_rewrite"

    def __init__(self) -> None:
        FunctionPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        unused: set[str] = set()  # variables that held dict, OrderedDict or a list of pairs
        changed = False
        for block in state.func_ir.blocks.values():
            body: list[Any] = []
            for statement in block.body:
                new = list(_replacement(state, block, statement, unused))
                changed |= bool(new)
                body += new or [statement]
            block.body = body
        for block in state.func_ir.blocks.values():
            block.body = [s for s in block.body if not (isinstance(s, ir.Assign) and s.target.name in unused)]
        return changed


def _replacement(state: Any, block: Any, statement: Any, unused: set[str]) -> Iterator[Any]:
    """Yield the statements that take a statement's place; none if it stays."""
    if not isinstance(statement, ir.Assign):
        return
    value = statement.value
    if isinstance(value, ir.Expr):
        pairs = _pairs(state.func_ir, value, unused)
        if pairs is not None:
            record = ir.Global("Record", record_class(tuple(name for name, _ in pairs)), statement.loc)
            constructor, assigned = named(state.func_ir, block.scope, record, "record", statement.loc)
            yield assigned
            call = ir.Expr.call(constructor, [item for _, item in pairs], (), statement.loc)
            yield _assigned(state.func_ir, statement, call)
    elif isinstance(value, ir.Global | ir.FreeVar):
        if value.value is length_of_iterator:
            yield _assigned(state.func_ir, statement, ir.Global(value.name, our_length_of_iterator, value.loc))
            return
        function, fastmath = _plain_function(value.value)
        if function is not None:
            helper = state.compile_helper(function, fastmath=fastmath)
            yield _assigned(state.func_ir, statement, ir.Global(value.name, helper, value.loc))


def _plain_function(value: Any) -> tuple[Any, bool]:
    """Return the user's function that a value is, or that Numba's decorator was given (with ``fastmath``); else None.

    The decorator's other options are those of bodies.
    """
    if isinstance(value, Dispatcher) and not hasattr(value, "fedmpi_facts"):
        module = (value.py_func.__module__ or "").partition(".")[0]
        ours = module in ("numba", "fedmpi")
        return None if ours else value.py_func, bool(value.targetoptions.get("fastmath", False))
    return value if isinstance(value, python_types.FunctionType) and not _typed(value) else None, False


def _assigned(func_ir: Any, statement: Any, value: Any) -> Any:
    redefine(func_ir, statement, value)
    return ir.Assign(value, statement.target, statement.loc)


def _typed(function: Any) -> bool:
    """Tell whether Numba knows a Python function, as it knows many of NumPy's."""
    try:
        cpu_target.typing_context.resolve_value_type(function)
    except (errors.NumbaError, ValueError):
        return False
    return True


def _pairs(func_ir: Any, value: Any, unused: set[str]) -> Pairs | None:
    """Return names and values of ``{"a": x}``, ``dict(a=x)``, ``OrderedDict([("a", x)])``; None for all else."""
    pairs: Pairs | None = None
    if value.op == "build_map":
        pairs = _named(func_ir, value.items)
    elif value.op == "call" and not value.vararg and _is_dict(func_ir, _definition(func_ir, value.func)):
        if value.kws and not value.args:
            pairs = list(value.kws)
        elif len(value.args) == 1 and not value.kws:
            items = _definition(func_ir, value.args[0])
            rows = items.items if isinstance(items, ir.Expr) and items.op in ("build_list", "build_tuple") else []
            made = [_definition(func_ir, row) for row in rows]
            if all(isinstance(row, ir.Expr) and row.op == "build_tuple" and len(row.items) == 2 for row in made):
                pairs = _named(func_ir, [row.items for row in made])
            if pairs is not None and value.args[0].name.startswith("$"):
                unused.add(value.args[0].name)
        if pairs is not None:
            unused.add(value.func.name)
    return pairs


def _named(func_ir: Any, items: Any) -> Pairs | None:
    """Return the items with their keys, if these are different texts that are known while compiling."""
    keys = [_constant(_definition(func_ir, key)) for key, _ in items]
    if not keys or not all(isinstance(k, str) for k in keys) or len(set(keys)) < len(keys):
        return None
    return [(str(key), item) for key, (_, item) in zip(keys, items, strict=True)]


def _definition(func_ir: Any, var: Any) -> Any:
    try:
        return func_ir.get_definition(var)
    except KeyError:
        return None


def _constant(definition: Any) -> Any:
    return definition.value if isinstance(definition, ir.Const | ir.Global | ir.FreeVar) else None


def _is_dict(func_ir: Any, function: Any) -> bool:
    """Tell whether a definition stands for ``dict``, ``OrderedDict`` or ``collections.OrderedDict``."""
    if isinstance(function, ir.Expr) and function.op == "getattr":
        module = _constant(_definition(func_ir, function.value))
        return getattr(module, function.attr, None) is OrderedDict
    return _constant(function) in (dict, OrderedDict)
