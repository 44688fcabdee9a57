"""When a body may write into an argument: the state of a ``sequence_reduce`` that nobody reads again.

A functional kernel such as ``softmax_sgd_step`` returns new arrays.  Where a body does nothing with its state but give
parts of it to one such kernel, and returns the kernel's results and nothing else, the loop that owns the state can call
the kernel's in-place form on it: the same bits, without an allocation for each batch.

What is looked for, in Numba's intermediate code of a body without branches::

    new_weights, new_bias = kernel(batch.x, batch.y, model.weights, model.bias, rate)   # model is the state
    return {"weights": new_weights, "bias": new_bias}
"""

from __future__ import annotations

import functools
from typing import Any

from fedmpi.local.jit.callee import callee
from fedmpi.local.jit.generated import code_of
from fedmpi.local.jit.kernel import Kernel
from fedmpi.local.numba_parts.intermediate import ir


def consuming_call(func_ir: Any, parameter: str) -> Any:
    """Return the statement that calls the kernel whose in-place form may write into ``parameter``, or None."""
    if len(func_ir.blocks) != 1:
        return None
    look = _Look(func_ir, parameter)
    statements = next(iter(func_ir.blocks.values())).body
    return look.call if all(map(look.at, statements)) and look.returned and look.call is not None else None


@functools.cache
def consuming_form(kernel: Kernel) -> Any:
    """Return a compiled function like the functional form, whose results are the arguments that it wrote into."""
    assert kernel.in_place is not None
    names = list(kernel.__signature__.parameters)
    results = ", ".join(names[i] for i in kernel.in_place.writes)
    text = f"def form({', '.join(names)}):\n    into({', '.join(names)})\n    return {results}\n"
    scope: dict[str, Any] = {"into": kernel.in_place.dispatcher, "__name__": __name__}
    exec(code_of(text, kernel.__name__), scope)
    return callee(scope["form"])


class _Look:
    """Follows the parameter, its parts and the kernel's results through a body; anything unexpected ends it."""

    def __init__(self, func_ir: Any, parameter: str) -> None:
        self.func_ir, self.parameter = func_ir, parameter
        self.state: set[str] = set()  # variables that hold the parameter
        self.parts: dict[str, str] = {}  # variables that hold a part of it, by the part's name
        self.results: dict[str, int | None] = {}  # variables that hold a result, by its number; None: all of them
        self.built: set[str] = set()  # variables that hold results in a container
        self.call: Any = None
        self.returned = False

    def at(self, statement: Any) -> bool:
        """Take the next statement; tell whether it is still all right."""
        if isinstance(statement, ir.Del | ir.Jump):
            return True
        if isinstance(statement, ir.Return):
            self.returned = statement.value.name in self.built
            return self.returned
        if not isinstance(statement, ir.Assign):
            return not self._uses(statement)
        value, target = statement.value, statement.target.name
        if isinstance(value, ir.Arg):
            if value.name == self.parameter:
                self.state.add(target)
            return True
        if isinstance(value, ir.Var):
            return self._alias(value.name, target)
        if isinstance(value, ir.Expr) and self._uses(value):
            return self._expression(statement, value, target)
        return True

    def _uses(self, value: Any) -> bool:
        names = {var.name for var in value.list_vars()}
        return bool(names & (self.state | self.parts.keys() | self.results.keys() | self.built))

    def _alias(self, source: str, target: str) -> bool:
        if source in self.state:
            self.state.add(target)
        if source in self.parts:
            self.parts[target] = self.parts[source]
        if source in self.results:
            self.results[target] = self.results[source]
        if source in self.built:
            self.built.add(target)
        return True

    def _expression(self, statement: Any, value: Any, target: str) -> bool:
        match value.op:
            case "getattr" | "getitem" | "static_getitem" if value.value.name in self.state and self.call is None:
                part = value.attr if value.op == "getattr" else self._index(value)
                self.parts[target] = str(part)
                return isinstance(part, str)
            case "exhaust_iter" if self.results.get(value.value.name, 0) is None:
                self.results[target] = None
                return True
            case "getitem" | "static_getitem" if self.results.get(value.value.name, 0) is None:
                number = self._index(value)
                self.results[target] = number if isinstance(number, int) else -1
                return isinstance(number, int) and number >= 0
            case "cast" if value.value.name in self.built:
                self.built.add(target)
                return True
            case "build_map" | "build_tuple":
                items = [item[1] if value.op == "build_map" else item for item in value.items]
                return self._build(items, target)
            case "call" if self.call is None and self._is_kernel_on_parts(value):
                self.call = statement
                self.results[target] = None
                return True
            case "call" if not value.args and value.kws:  # dict(…), a record
                return self._build([item for _, item in value.kws], target)
        return False

    def _index(self, value: Any) -> Any:
        """Return the constant in brackets, or None."""
        if value.op == "static_getitem":
            return value.index
        definition = self.func_ir.get_definition(value.index)
        return getattr(definition, "value", None) if isinstance(definition, ir.Const) else None

    def _build(self, items: list[Any], target: str) -> bool:
        """A container of results, each of them once."""
        numbers = [self.results.get(item.name) for item in items]
        self.built.add(target)
        return None not in numbers and len(set(numbers)) == len(numbers)

    def _is_kernel_on_parts(self, call: Any) -> bool:
        kernel = resolved(self.func_ir, call.func)
        if not isinstance(kernel, Kernel) or kernel.in_place is None or call.kws or call.vararg:
            return False
        if len(call.args) != len(kernel.__signature__.parameters):
            return False
        written = [self.parts.get(call.args[i].name) for i in kernel.in_place.writes]
        others = {arg.name for i, arg in enumerate(call.args) if i not in kernel.in_place.writes}
        tainted = self.state | self.parts.keys() | self.results.keys() | self.built
        return None not in written and len(set(written)) == len(written) and not others & tainted


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
