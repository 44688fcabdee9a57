"""What a traced value refuses, because it wants the data: each refusal names the user's line and says what to do."""

from __future__ import annotations

from typing import Any, NoReturn

from fedmpi.language.errors import TypingError, reporting
from fedmpi.language.operators.hints import CHANGE_HINT, LOCAL_HINT, TEXT_HINT
from fedmpi.language.types import Type


class ValueText(str):
    """What a value shows of itself: for people, and no text of the program."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return super().__format__(spec) if spec else self


def _described(value: Refusing) -> str:
    return f"one of type {value.type_signature}"


class Refusing:
    """The base of `Value`: what Python would do with an object's data."""

    __slots__ = ()

    @property
    def type_signature(self) -> Type:
        """The type of the value."""
        raise NotImplementedError

    def __format__(self, spec: str) -> str:
        with reporting(f'f"{{…:{spec}}}"' if spec else 'f"{…}"'):
            raise TypingError(f"a value has no text while a computation is traced, found {_described(self)}", TEXT_HINT)

    def __setattr__(self, name: str, new: Any) -> None:
        self._refuse_change(f".{name} = …")

    def __delattr__(self, name: str) -> None:
        self._refuse_change(f"del .{name}")

    def __setitem__(self, key: Any, new: Any) -> None:
        self._refuse_change(f"[{key!r}] = …")

    def __delitem__(self, key: Any) -> None:
        self._refuse_change(f"del [{key!r}]")

    def _refuse_change(self, what: str) -> NoReturn:
        with reporting(what):
            raise TypingError(f"a value cannot be changed, found {_described(self)}", CHANGE_HINT)

    def __array__(self, *_: Any, **__: Any) -> Any:
        with reporting("np.array"):
            raise TypingError(
                f"a value has no numbers while a computation is traced, found {self.type_signature}", LOCAL_HINT
            )

    def __bool__(self) -> bool:
        with reporting("bool"):
            raise TypingError(
                f"a value of type {self.type_signature} has no truth value while a computation is traced",
                "`if`, `while`, `and`, `or` and `in` cannot depend on it; put the choice into a numba_computation",
            )

    def __contains__(self, item: Any) -> bool:
        return bool(self)  # which refuses

    def __hash__(self) -> int:
        with reporting("hash"):
            raise TypingError(
                f"a value cannot be a key of a dict or in a set, found {_described(self)}",
                "its data are not known while a computation is traced: keep values in lists, or in dicts by names",
            )

    def __reduce_ex__(self, protocol: Any) -> Any:
        with reporting("pickle"):
            raise TypingError(f"a value has no data while a computation is traced, found {_described(self)}")


def _refusing(name: str) -> Any:
    def method(self: Refusing, *_: Any) -> Any:
        with reporting(name):
            raise TypingError(f"there is no such operation on values, found {_described(self)}", LOCAL_HINT)

    method.__name__ = f"__{name}__"
    return method


_OTHER_OPERATIONS = """
    floordiv rfloordiv mod rmod divmod rdivmod pow rpow matmul rmatmul and rand or ror xor rxor lshift rlshift rshift
    rrshift neg pos abs invert round trunc floor ceil int float complex index bytes
"""
for _name in _OTHER_OPERATIONS.split():
    setattr(Refusing, f"__{_name}__", _refusing(_name))
