"""Exceptions taken apart into plain values, and made again without a call of the user's code.

What an exception is made of: the name of its class, its text, its arguments, its attributes (its own dictionary, slots,
and the members that classes written in C have, such as `errno`) and its notes, as far as these are plain values
(`fedmpi.runtime.collective.plain`) and not huge.  It is made by the constructor of the class in C that it is derived
from, so that `__init__`, `__new__`, `__setattr__` of the user's, whatever they want, are not asked.

A class makes its text of its arguments (most do), or of its attributes by a `__str__` of its own.  Only where the
exception that is made has the text of the first one has it been made.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any, cast

from fedmpi.local.attributes import arguments_of, attributes_of, text_of
from fedmpi.runtime.collective import plain

# Bytes of an argument or attribute: what is longer is left out.
LARGEST = 1 << 20
# Exceptions in the groups of a group, and groups in each other.
_MOST_PARTS, _DEEPEST = 100, 10
# The members in which classes in C keep the text that they show between others.
_MESSAGES = ("msg", "strerror")
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement; its constructor may be Python
_CAUSE, _ARGUMENTS = (cast("GetSetDescriptorType", vars(BaseException)[name]) for name in ("__cause__", "args"))


class RemoteError(RuntimeError):
    """Stands for an exception whose class the ranks cannot all make; derived also from the nearest base that they can.

    Its text begins with the name of the class.
    """

    def __str__(self) -> str:
        return BaseException.__str__(self)  # not as the base would make it


@dataclass(frozen=True)
class Taken:
    """What an exception is made of; ``classes``: module and qualified name of its own and of its bases, in order.

    ``stands_in`` tells that it is a `RemoteError` already, which the first of the classes is only a base of.
    ``args`` is None where the arguments do not travel, ``whole`` tells whether all does; ``parts`` are the exceptions
    of a group.
    """

    classes: list[tuple[str, str]]
    text: str
    args: tuple[Any, ...] | None = None
    state: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    parts: list[Taken] = field(default_factory=list)
    whole: bool = True
    stands_in: bool = False

    @property
    def name(self) -> str:
        return self.classes[0][1]


def take_apart(error: BaseException, depth: int = 0) -> Taken:
    """Return what an exception is made of; never raises an `Exception`, whatever its class does."""
    kind = type(error)
    stands_in = kind is not RemoteError and issubclass(kind, RemoteError)
    bases = (kind.__bases__[1] if stands_in else kind).__mro__
    classes = [(c.__module__, c.__qualname__) for c in bases if issubclass(c, BaseException)]
    text = text_of(error)
    try:
        args: tuple[Any, ...] | None = arguments_of(error)
        state = _members(error) | attributes_of(error)
        notes = state.pop("__notes__", [])
        kept = {name: value for name, value in state.items() if _travels(name, value)}
        parts: list[Taken] = []
        whole = len(kept) == len(state)
        if issubclass(kind, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            inner = group.exceptions
            if len(inner) <= _MOST_PARTS and depth < _DEEPEST:
                parts = [take_apart(part, depth + 1) for part in inner]
                whole &= all(part.whole for part in parts)
            args = (str(group.message),) if parts else None
            kept.pop("message", None)
            kept.pop("exceptions", None)
        elif not _travels("args", args):
            args, whole = None, False
        told = [note for note in notes if type(note) is str] if isinstance(notes, list | tuple) else []
        return Taken(classes, text, args, kept, told, parts, whole, stands_in)
    except Exception:
        return Taken(classes, text, whole=False, stands_in=stands_in)


def make(kind: Any, taken: Taken, where: str = "") -> BaseException | None:
    """Return an exception of a class from what `take_apart` gave; None if the class cannot have that text.

    ``where`` is put before its text; where the class makes its text of its attributes, it becomes a note.
    """
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return None
    text = _joined(where, taken.text)
    with contextlib.suppress(BaseException):  # a text may be made by Python code that raises anything
        if kind.__str__ in (BaseException.__str__, KeyError.__str__):
            error = _made(kind, (), replace(taken, args=(text,)))
            return error if str(error) in (text, repr(text)) else None
        if taken.args is not None or not issubclass(kind, BaseExceptionGroup):
            error = _made(kind, taken.args or (), taken)
            if str(error) == taken.text:
                return _placed(error, taken.text, where) if where else error
    return None


def stand_in(base: type[Exception], taken: Taken, where: str = "") -> RemoteError | None:
    """Return a `RemoteError` that is also an exception of class ``base``; None if there can be none."""
    text = _joined(where, taken.text) if taken.stands_in else f"{taken.name}: {_joined(where, taken.text)}"
    with contextlib.suppress(BaseException):
        kind: Any = RemoteError
        if not issubclass(kind, base):
            kind = type("RemoteError", (RemoteError, base), {"__module__": __name__, "__doc__": RemoteError.__doc__})
        error = _made(kind, (), replace(taken, args=(text,), parts=[]))
        return cast("RemoteError", error) if isinstance(str(error), str) else None
    return None


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Return the error with its cause set, which a frozen class would refuse."""
    _CAUSE.__set__(error, cause)
    return error


def add_note(error: BaseException, text: str) -> None:
    """Add a note to an exception, without asking its class."""
    attributes = attributes_of(error)
    notes = attributes.get("__notes__")
    attributes["__notes__"] = [*notes, text] if isinstance(notes, list) else [text]


def _joined(where: str, text: str) -> str:
    return f"{where}: {text}" if where and text else where or text


def _travels(name: Any, value: Any) -> bool:
    try:
        return type(name) is str and plain.to_bytes(value).nbytes <= LARGEST
    except BaseException:  # not plain, or a class of its that raises
        return False


def _members(error: BaseException) -> dict[str, Any]:
    """Return what stands in slots and in the members of classes in C; the latter are None where they are not set."""
    found: dict[str, Any] = {}
    for kind in type(error).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, MemberDescriptorType) and not name.startswith("__"):
                with contextlib.suppress(AttributeError):  # an empty slot
                    value = member.__get__(error, type(error))
                    if value is not None or kind.__flags__ & _HEAP:
                        found[name] = value
    return found


def _made(kind: type[Exception], args: tuple[Any, ...], taken: Taken) -> Exception:
    base: Any = kind
    while base.__flags__ & _HEAP:
        base = base.__base__
    if issubclass(kind, BaseExceptionGroup):
        args = (*args, [_part(part) for part in taken.parts])
    error: Exception = base.__new__(kind, *args)
    with contextlib.suppress(TypeError):
        base.__init__(error, *args)
    if not issubclass(kind, BaseExceptionGroup) and taken.args is not None:
        _ARGUMENTS.__set__(error, taken.args)
    members = {n: m for k in reversed(kind.__mro__) for n, m in vars(k).items() if isinstance(m, MemberDescriptorType)}
    for name, value in taken.state.items():
        if name in members:
            with contextlib.suppress(AttributeError, TypeError):  # one that is only read
                members[name].__set__(error, value)
        else:
            attributes_of(error)[name] = value
    if taken.notes:
        attributes_of(error)["__notes__"] = list(taken.notes)
    return error


def _part(taken: Taken) -> BaseException:
    """Return an exception of a group: of its own class where that can be, else what stands for it."""
    for kind in (plain.found_class(*name) for name in taken.classes):
        if (made := make(kind, taken)) is not None:
            return made
        if isinstance(kind, type) and issubclass(kind, Exception) and (made := stand_in(kind, taken)) is not None:
            return made
    return RemoteError(f"{taken.name}: {taken.text}")


def _placed(error: Exception, text: str, where: str) -> Exception:
    """Put a place into the text of an exception that makes it of its attributes, or, where that cannot be, a note."""
    for kind in type(error).__mro__:
        for name in _MESSAGES:
            member = vars(kind).get(name)
            if isinstance(member, MemberDescriptorType) and isinstance(message := member.__get__(error), str):
                member.__set__(error, f"{where}: {message}")
                if where in str(error):
                    return error
                member.__set__(error, message)
    add_note(error, where)
    return error
