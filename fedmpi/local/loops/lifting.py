"""From a function value to the text of a compiled entry: what a function captured becomes parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fedmpi.language.operators.rules import members
from fedmpi.language.tree.expressions import Closure
from fedmpi.language.types import Type
from fedmpi.local.computations.bodies import LocalBody
from fedmpi.local.loops.codegen import Generator, compilable
from fedmpi.local.loops.writer import Mapped, Parts, Var


class Lifted(Mapping[str, Any]):
    """The names around a function, their values taken through ``lift`` when they are looked up."""

    def __init__(self, env: Mapping[str, Any], lift: Callable[[Any], Any]) -> None:
        self._env, self._lift = env, lift

    def __getitem__(self, name: str) -> Any:
        return self._lift(self._env[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._env)

    def __len__(self) -> int:
        return len(self._env)


class LiftedParts(Sequence[Any]):
    """The parts of a struct around a function, each taken through ``lift`` when it is used.

    Only what the function uses can be lifted: beside it stand values at the server, which other ranks do not have.
    """

    def __init__(self, parts: Sequence[Any], lift: Callable[[Any], Any]) -> None:
        self._parts, self._lift = parts, lift

    def __getitem__(self, index: Any) -> Any:
        return self._lift(self._parts[index])

    def __len__(self) -> int:
        return len(self._parts)


class Lift:
    """Takes values around a function into the generated text; what it meets first becomes a parameter.

    ``captured`` lists those, objects with a ``type``, in the order of their parameters; ``member`` gives the type of
    the value that such an object stands for.
    """

    def __init__(self, generator: Generator, member: Callable[[Any], Type] = lambda symbol: symbol.type) -> None:
        self.generator, self.member = generator, member
        self.captured: list[Any] = []
        self.known: dict[int, Any] = {}

    def __call__(self, value: Any) -> Any:
        match value:
            case LocalBody():
                return compilable(value)
            case Var() | Mapped():
                return value
            case Closure(code, env):
                return Closure(code, Lifted(env, self))
            case Parts(parts, type_):
                return Parts(LiftedParts(parts, self), members(type_))  # type: ignore[arg-type]
        if id(value) not in self.known:
            self.captured.append(value)
            self.known[id(value)] = self.generator.parameter(self.member(value))
        return self.known[id(value)]


def text_of(generator: Generator, name: str, *, remarks: bool = False) -> str:
    """Return the text of ``name(progress, parameters…)``, for readers with remarks."""
    head = f"def {name}({', '.join(['progress', *generator.parameters])}):"
    generator.give_temporaries()
    lines = generator.lines
    if remarks:
        said = generator.remarks
        lines = [line + (f"  # {said[i]}" if i in said else "") for i, line in enumerate(lines)]
    return "\n".join([*generator.inner, head, *generator.head, *lines, ""])


def generate(
    function: Any, parameter: Type | None, result: Type, forms: tuple[str, ...] = (), *, dense: bool = False
) -> tuple[Generator, list[Any]]:
    """Write ``entry(progress, leaves…) -> leaves`` for a function value.

    Returns the generator and what the function captured (each an object with a ``type``, one more argument of the entry
    after its own).
    """
    generator = Generator(dense=dense)
    argument = None if parameter is None else generator.parameter(parameter, iter(forms))
    lift = Lift(generator)
    value = generator.owned(generator.invoke(lift(function), argument, result), result)
    slots = generator.slots(value, result)
    generator.line(f"return ({''.join(slot + ', ' for slot in slots)})")
    return generator, lift.captured
