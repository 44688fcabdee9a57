"""What a traced body handles: a `Value` stands for an expression, and every use of it adds to the tree."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedmpi.language.errors import (
    NoSuchElementError,
    TypeNotAssignableError,
    TypingError,
    UnsupportedValueError,
    reporting,
)
from fedmpi.language.operators.arithmetic import one_dtype
from fedmpi.language.operators.hints import FUNCTION_HINT, LOCAL_HINT, TEXT_HINT, contrast, hint_for
from fedmpi.language.operators.table import OPERATORS
from fedmpi.language.source import stack_is_deep, user_location
from fedmpi.language.tracing.calls import listed, pack_args
from fedmpi.language.tracing.elements import checked_struct, selected, sliced, struct_of
from fedmpi.language.tracing.refusing import Refusing, ValueText
from fedmpi.language.tree import constants
from fedmpi.language.tree.expressions import Apply, Call, Expr, Lambda, Literal, Ref, Struct, show
from fedmpi.language.tree.scopes import Scope, current_scope, leaked, tracing_scope
from fedmpi.language.types import (
    FederatedType,
    FunctionType,
    StructType,
    StructWithPythonType,
    TensorType,
    Type,
)
from fedmpi.language.types.assignability import is_zippable, names_fit
from fedmpi.language.types.classes import TypeSpec
from fedmpi.language.types.containers import unpack
from fedmpi.language.types.to_type import read_type


class Value(Refusing):
    """A value of a federated computation while its body is traced: it has a type, but no data yet."""

    __slots__ = ("_expr", "_scope")
    _expr: Expr
    _scope: Scope

    def __init__(self, expr: Expr, scope: Scope) -> None:
        object.__setattr__(self, "_expr", expr)
        object.__setattr__(self, "_scope", scope)

    @property
    def type_signature(self) -> Type:
        """The type of the value."""
        return self._expr.type

    @property
    def comp(self) -> Expr:
        """The expression that the value stands for."""
        return self._expr

    def __repr__(self) -> str:
        return ValueText(f"<Value {show(self._expr)}: {self.type_signature}>")

    def __str__(self) -> str:
        return ValueText(show(self._expr))

    def __dir__(self) -> list[str]:
        struct = struct_of(self.type_signature)
        return ["type_signature", "comp", *(struct.fields() if struct is not None else ())]

    def __getattr__(self, name: str) -> Value:
        # What Python looks for, such as __len__, is no element here; in brackets any name is.
        struct = None if name.startswith("__") and name.endswith("__") else struct_of(self.type_signature)
        if struct is not None:
            return self._element(name)
        with reporting("element"):
            text = f"a value of type {self.type_signature} has no element named {name!r}"
            raise NoSuchElementError(text, LOCAL_HINT if isinstance(self.type_signature, TensorType) else "")

    def __getitem__(self, key: int | str | slice) -> Value:
        checked_struct(self.type_signature, "[]")
        if not isinstance(key, slice):
            return self._element(key)
        alive(self)
        return Value(sliced(self._expr, key), tracing_scope("[]"))

    def _element(self, key: int | str) -> Value:
        alive(self)
        return Value(selected(self._expr, key), self._scope)

    def __iter__(self) -> Iterator[Value]:
        struct = checked_struct(self.type_signature, "iteration")
        return iter([self._element(index) for index in range(len(struct))])

    def __len__(self) -> int:
        return len(checked_struct(self.type_signature, "len"))

    def __call__(self, /, *args: Any, **kwargs: Any) -> Value:
        """Call a value that is a function."""
        with reporting("call"):
            if not isinstance(self.type_signature, FunctionType):
                raise TypingError(f"only a function can be called, found a value of type {self.type_signature}")
            return call(self, pack_args(self.type_signature.parameter, args, kwargs))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Value:
        """Take NumPy's `np.float32(2) * value`, and refuse its functions of values."""
        if method == "__call__" and ufunc.__name__ in OPERATORS and len(inputs) == 2 and not options:
            return binary(ufunc.__name__, *inputs)
        with reporting(f"np.{ufunc.__name__}"):
            raise TypingError(f"there is no such operation on values, found {self.type_signature}", LOCAL_HINT)

    __hash__ = Refusing.__hash__  # which __eq__ would take away

    def __copy__(self) -> Value:
        return self

    def __deepcopy__(self, memo: Any) -> Value:
        return self

    def __eq__(self, other: object) -> Value:  # type: ignore[override]
        return binary("equal", self, other)

    def __ne__(self, other: object) -> Value:  # type: ignore[override]
        return binary("not_equal", self, other)

    def __lt__(self, other: Any) -> Value:
        return binary("less", self, other)

    def __le__(self, other: Any) -> Value:
        return binary("less_equal", self, other)

    def __gt__(self, other: Any) -> Value:
        return binary("greater", self, other)

    def __ge__(self, other: Any) -> Value:
        return binary("greater_equal", self, other)

    def __add__(self, other: Any) -> Value:
        return binary("add", self, other)

    def __radd__(self, other: Any) -> Value:
        return binary("add", other, self)

    def __sub__(self, other: Any) -> Value:
        return binary("subtract", self, other)

    def __rsub__(self, other: Any) -> Value:
        return binary("subtract", other, self)

    def __mul__(self, other: Any) -> Value:
        return binary("multiply", self, other)

    def __rmul__(self, other: Any) -> Value:
        return binary("multiply", other, self)

    def __neg__(self) -> Value:
        alive(self)
        with reporting("negative"):
            return emit("negative", [self])

    def __truediv__(self, other: Any) -> Value:
        return binary("divide", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return binary("divide", other, self)


class FunctionSource(ABC):
    """A Python object that stands for a function of the language, such as a `Computation`."""

    @abstractmethod
    def as_value(self, parameter: Type | None) -> Value:
        """Return the function as a value; ``parameter`` is the type that it will be applied to, where that is known."""


def to_value(obj: Any, type_spec: TypeSpec | None = None) -> Value:
    """Return a constant, a Python container of values, or a computation as a value, of a given type if there is one."""
    with reporting("to_value"):
        if type_spec is None:
            return embed(obj, None, "value")
        wanted = read_type(type_spec)
        value = fitted(embed(obj, wanted, "value"), wanted, "value")
        if isinstance(value.comp, Literal) and value.type_signature is not wanted:
            return _widened(value, wanted)
        return value


def _widened(value: Value, wanted: Type) -> Value:
    """Return a constant as a value of the declared type, which says less of its shape: such a ``zero`` can grow."""
    scope = tracing_scope("to_value")
    parameter = Ref(scope.fresh("to_value_arg"), wanted)
    return call(Value(Lambda(parameter.name, parameter, FunctionType(wanted, wanted)), scope), value)


def embed(obj: Any, wanted: Type | None, name: str) -> Value:
    """Return ``obj`` as a value; ``wanted`` guides constants and the order of mappings, but is not enforced."""
    if isinstance(obj, Value | FunctionSource):
        return _embed(obj, wanted, name)
    try:
        return _embed(obj, wanted, name)
    except RecursionError:
        if stack_is_deep():
            raise  # of the body around it
        raise TypingError(f"{(name or 'the argument').split('[')[0]} is nested too deeply, or holds itself") from None


def _embed(obj: Any, wanted: Type | None, name: str) -> Value:
    if isinstance(obj, Value):
        alive(obj)
        return obj
    scope = tracing_scope("a value")
    what = name or "the argument"
    if isinstance(obj, FunctionSource):
        return obj.as_value(wanted.parameter if isinstance(wanted, FunctionType) else None)
    if isinstance(obj, ValueText):
        raise UnsupportedValueError(f"{what} must be a value, found the text {str(obj)!r} that shows one", TEXT_HINT)
    if isinstance(obj, constants.SCALARS):
        tensor = wanted if isinstance(wanted, TensorType) else None
        return Value(constants.literal(obj, tensor, what), scope)
    if callable(obj) and not isinstance(obj, type):
        raise UnsupportedValueError(
            f"{what} must be a value, found a Python function",
            FUNCTION_HINT,
        )
    parts = None if isinstance(obj, type) else unpack(obj)
    if parts is None:
        raise UnsupportedValueError(f"{what} must be a value, found {obj!r} of class {type(obj).__name__}")
    items = _wanted_items(wanted)
    names = [key for key, _ in items if key is not None]
    if isinstance(obj, Mapping) and len(names) == len(items) > 0:
        parts = _by_key(obj, names, name)
    guides = items if len(items) == len(parts) else [(None, None)] * len(parts)
    values = [
        _embed(part, guide, element_name(name, key or called, i))
        for i, ((key, part), (called, guide)) in enumerate(zip(parts, guides, strict=True))
    ]
    return struct_value(values, [key for key, _ in parts], type(obj))


def element_name(name: str, key: str | None, index: int) -> str:
    """Return what error texts call an element of ``name``; "" is the argument of a call."""
    if not name:
        return key if key is not None else f"argument {index}"
    return f"{name}.{key}" if key is not None else f"{name}[{index}]"


def _wanted_items(wanted: Type | None) -> Sequence[tuple[str | None, Type]]:
    """The names and types of the elements that are wanted, where that is a struct, or one at each place."""
    match wanted:
        case StructType():
            return wanted.items()
        case FederatedType(StructType() as member, placement, all_equal):
            return [(key, FederatedType(element, placement, all_equal)) for key, element in member.items()]
    return ()


def _by_key(given: Mapping[str, Any], names: Sequence[str], name: str) -> list[tuple[str | None, Any]]:
    what = f"{name or 'the argument'} must have the elements {listed(names)}"
    if missing := [key for key in names if key not in given]:
        raise TypingError(f"{what}, found no {listed(missing)}")
    if unknown := [key for key in given if key not in names]:
        raise TypingError(f"{what}, found also {listed(unknown)}")
    return [(key, given[key]) for key in names]


def struct_value(values: Sequence[Value], names: Sequence[str | None], container: type | None) -> Value:
    """Return a struct of values."""
    items = [(name, value.type_signature) for name, value in zip(names, values, strict=True)]
    type_ = StructType(items) if container is None else StructWithPythonType(items, container)
    return Value(Struct(tuple(value.comp for value in values), type_), tracing_scope("a struct"))


def fitted(value: Value, wanted: Type, name: str) -> Value:
    """Return the value where ``wanted`` is wanted: as it is, or with structs of federated values zipped."""
    found = value.type_signature
    if wanted.is_assignable_from(found):
        return value
    match wanted, found:
        case FederatedType(), StructType() if is_zippable(found):
            zipped = emit("federated_zip", [value])
            if wanted.is_assignable_from(zipped.type_signature):
                return zipped
            found = zipped.type_signature
        case StructType(), StructType() if names_fit(wanted, found):
            parts = [
                fitted(part, element, element_name(name, key, i))
                for i, (part, (key, element)) in enumerate(zip(value, wanted.items(), strict=True))
            ]
            return struct_value(parts, [key for key, _ in found.items()], found.python_container)
    texts = contrast(wanted, found)
    raise TypeNotAssignableError(
        f"{name or 'the argument'} must be {texts[0]}, found {texts[1]}", hint_for(wanted, found)
    )


def alive(value: Value) -> None:
    """Raise `LeakedValueError` if the value belongs to a body that is not being traced here."""
    if not value._scope.is_around(current_scope()):
        raise leaked(value._scope, value._scope.describe(value.comp))


def emit(op: str, args: Sequence[Value], type_: Type | None = None) -> Value:
    """Apply an operator of the table; ``type_`` is the result's type, where the rule wants more than theirs."""
    scope = tracing_scope(op)
    result = OPERATORS[op].rule(*(arg.type_signature for arg in args)) if type_ is None else type_
    where = user_location()
    ref = scope.bind(Apply(op, tuple(arg.comp for arg in args), result, where), f"the result of {op} at {where}")
    return Value(ref, scope)


def call(function: Value, argument: Any) -> Value:
    """Apply a function value to a packed Python argument (None if it takes none)."""
    alive(function)
    scope = tracing_scope("a call")
    type_ = function.type_signature
    assert isinstance(type_, FunctionType)
    packed = None
    if type_.parameter is not None:
        packed = fitted(embed(argument, type_.parameter, ""), type_.parameter, "").comp
    where = user_location()
    ref = scope.bind(Call(function.comp, packed, type_.result, where), f"the result of a call at {where}")
    return Value(ref, scope)


def binary(op: str, left: Any, right: Any) -> Value:
    """Apply an arithmetic or comparison operator; a Python constant takes the dtype of the other side."""
    with reporting(op):
        for side in (left, right):
            if isinstance(side, Value):
                alive(side)
        wanted = (left if isinstance(left, Value) else right).type_signature
        if isinstance(wanted, TensorType):
            wanted = TensorType(wanted.dtype)
        elif isinstance(wanted, StructType) and any(isinstance(side, constants.SCALARS) for side in (left, right)):
            wanted = TensorType(one_dtype(wanted, "a struct beside a scalar"))
        sides = embed(left, wanted, "left side"), embed(right, wanted, "right side")
        return emit(op, sides)
