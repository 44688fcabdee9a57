"""Operations on integers in compiled code that end as NumPy's and Python's do, where Numba's are undefined or differ.

Each is made for a kind (see `fedmpi.local.integers.promotion`) and has the attribute ``gives``, the kind of its result.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fedmpi.local.integers.promotion import UNSIGNED
from fedmpi.local.numba_parts.lowering import cgutils, cpu_target, impl_ret_borrowed

Builder = Any
Value = Any
OUT_OF_64 = "an integer of Python's does not fit the 64 bits that it has in compiled code"


def _raise_if(context: Any, builder: Builder, wrong: Value, error: type[Exception], text: str) -> None:
    with builder.if_then(wrong, likely=False):
        context.call_conv.return_user_exc(builder, error, (text,))


def _made(gives: str, define: Any) -> Any:
    made = intrinsic(define)
    made.gives = gives
    cpu_target.typing_context.refresh()  # it may be made while a body is compiled that needs it
    return made


@functools.cache
def checked(kind: str, returned: bool = False) -> Any:
    """Return the function that gives an integer back, and raises `OverflowError` if it is none of the kind's dtype."""
    limits = np.iinfo(kind)
    text = f"an integer does not fit {kind}, in which NumPy computes here: convert the other side with np.int64(…)"
    if returned:
        text = (
            f"an integer of the result does not fit {kind}, in which NumPy computes it: convert first with np.int64(…)"
        )

    def fitting(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            number, type_ = args[0], args[0].type
            signed, bits = sig.args[0].signed, sig.args[0].bitwidth
            compare = builder.icmp_signed if signed else builder.icmp_unsigned
            low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
            wrong = ir.Constant(ir.IntType(1), 0)
            if limits.min > low:
                wrong = builder.or_(wrong, compare("<", number, ir.Constant(type_, int(limits.min))))
            if limits.max < high:
                wrong = builder.or_(wrong, compare(">", number, ir.Constant(type_, int(limits.max))))
            _raise_if(context, builder, wrong, OverflowError, text)
            return number

        plain = types.unliteral(value)
        return (plain(plain), generate) if isinstance(plain, types.Integer) else None

    return _made(f"fitting {kind}", fitting)


def _to_python(typing: Any, value: Any) -> Any:
    """Return a NumPy integer as one of Python's, which has 64 bits; a larger one is an `OverflowError`."""

    def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
        wrong = builder.icmp_signed("<", args[0], ir.Constant(args[0].type, 0))
        _raise_if(context, builder, wrong, OverflowError, OUT_OF_64)
        return args[0]

    return types.int64(types.uint64), generate


python_int = _made("weak", _to_python)


@functools.cache
def truncated(kind: str) -> Any:
    """Return the conversion of a float to an integer; what is none of the kind's dtype is an `OverflowError`."""
    limits = np.iinfo("int64" if kind == "weak" else kind)
    type_ = getattr(types, "int64" if kind == "weak" else kind)
    text = f"a float that is converted to an integer does not fit {'int64' if kind == 'weak' else kind}, or is NaN"

    def cut(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            double = ir.DoubleType()
            number = context.cast(builder, args[0], sig.args[0], types.float64)
            above = builder.fcmp_ordered(">", number, ir.Constant(double, float(int(limits.min) - 1)))
            if int(limits.min) - 1 == float(int(limits.min)):  # of 64 bits: no float lies between
                above = builder.fcmp_ordered(">=", number, ir.Constant(double, float(limits.min)))
            inside = builder.and_(
                above, builder.fcmp_ordered("<", number, ir.Constant(double, float(int(limits.max) + 1)))
            )
            _raise_if(context, builder, builder.not_(inside), OverflowError, text)
            return context.cast(builder, number, types.float64, type_)

        return (type_(value), generate) if isinstance(value, types.Float) else None

    return _made(kind, cut)


def _binary(kind: str, emit: Any, gives: str = "") -> Any:
    """Return an operation on two integers of a kind; Python's have 64 bits."""
    type_ = types.int64 if kind == "weak" else getattr(types, kind)

    def operation(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            return emit(context, builder, args[0], args[1])

        return type_(type_, type_), generate

    return _made(gives or kind, operation)


def _keep(typing: Any, array: Any) -> Any:
    """Return an array itself: what comes before and after is not one expression then.

    Numba computes an expression of arrays element by element, in the dtypes that it has for scalars.
    """

    def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
        return impl_ret_borrowed(context, builder, sig.return_type, args[0])

    return array(array), generate


kept = _made("same", _keep)


@functools.cache
def of_arrays(kind: str, name: str) -> Any:
    """Return ``//``, ``%``, ``<<`` or ``>>`` of arrays of a kind, or of one and a scalar, element by element."""
    makers = {"//": (quotient, False), "%": (quotient, True), "<<": (shift, True), ">>": (shift, False)}
    maker, option = makers[name]
    operation = maker(kind, option)
    made = numba.vectorize(lambda a, b: operation(a, b))
    made.gives = kind
    return made


@functools.cache
def quotient(kind: str, rest: bool) -> Any:
    """Return ``//`` or ``%``: by zero it gives 0 as NumPy does, or raises as Python does; the least by -1 wraps."""
    signed = kind not in UNSIGNED

    def emit(context: Any, builder: Builder, left: Value, right: Value) -> Value:
        zero, one = ir.Constant(right.type, 0), ir.Constant(right.type, 1)
        by_zero = builder.icmp_unsigned("==", right, zero)
        if kind == "weak":
            text = "integer modulo by zero" if rest else "integer division or modulo by zero"
            _raise_if(context, builder, by_zero, ZeroDivisionError, text)
        if not signed:
            divisor = builder.select(by_zero, one, right)
            result = (builder.urem if rest else builder.udiv)(left, divisor)
            return builder.select(by_zero, zero, result)
        by_minus_one = builder.icmp_signed("==", right, ir.Constant(right.type, -1))
        divisor = builder.select(builder.or_(by_zero, by_minus_one), one, right)  # the least by -1 would be a trap
        if kind == "weak" and not rest:
            least = ir.Constant(left.type, -(2**63))
            overflow = builder.and_(by_minus_one, builder.icmp_signed("==", left, least))
            _raise_if(context, builder, overflow, OverflowError, OUT_OF_64)
        whole, over = builder.sdiv(left, divisor), builder.srem(left, divisor)
        opposite = builder.icmp_signed("<", builder.xor(over, divisor), zero)
        down = builder.and_(opposite, builder.icmp_signed("!=", over, zero))
        if rest:
            return builder.select(by_zero, zero, builder.select(down, builder.add(over, divisor), over))
        floor = builder.select(down, builder.sub(whole, one), whole)
        floor = builder.select(by_minus_one, builder.neg(left), floor)
        return builder.select(by_zero, zero, floor)

    return _binary(kind, emit)


@functools.cache
def shift(kind: str, left_: bool) -> Any:
    """Return ``<<`` or ``>>`` by any count: all bits may leave.  Python's raise as in Python, and beyond 64 bits."""
    signed = kind not in UNSIGNED

    def emit(context: Any, builder: Builder, number: Value, count: Value) -> Value:
        type_ = number.type
        zero, width = ir.Constant(type_, 0), type_.width
        if kind == "weak":
            negative = builder.icmp_signed("<", count, zero)
            _raise_if(context, builder, negative, ValueError, "negative shift count")
        inside = builder.icmp_unsigned("<", count, ir.Constant(type_, width))
        by = builder.select(inside, count, zero)
        if not left_:
            none = builder.ashr(number, ir.Constant(type_, width - 1)) if signed else zero
            return builder.select(inside, (builder.ashr if signed else builder.lshr)(number, by), none)
        result = builder.select(inside, builder.shl(number, by), zero)
        if kind == "weak":
            lost = builder.icmp_signed("!=", builder.ashr(result, by), number)
            _raise_if(context, builder, lost, OverflowError, OUT_OF_64)
        return result

    return _binary(kind, emit)


@functools.cache
def inverse(kind: str) -> Any:
    """Return ``~`` of an unsigned integer, in its dtype."""
    type_ = getattr(types, kind)

    def inverted(typing: Any, value: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            return builder.not_(args[0])

        return type_(type_), generate

    return _made(kind, inverted)


@functools.cache
def comparison(symbol: str) -> Any:
    """Return ``==``, ``<`` … of uint64 and another integer: Numba compares them as floats."""

    def compare(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            both = zip(args, sig.args, strict=True)
            wide = [builder.sext(v, _128) if type_.signed else builder.zext(v, _128) for v, type_ in both]
            return builder.icmp_signed(symbol, *wide)

        sides = [types.int64 if isinstance(t, types.Boolean) else types.unliteral(t) for t in (left, right)]
        return types.boolean(*sides), generate

    return _made("bool", compare)


_128 = ir.IntType(128)


@functools.cache
def overflowing(kind: str, name: str) -> Any:
    """Return ``add``, ``sub`` or ``mul`` of two integers of a dtype, as the wrapped result and whether it is wrong."""
    type_ = getattr(types, kind)

    def both(typing: Any, left: Any, right: Any) -> Any:
        def generate(context: Any, builder: Builder, sig: Any, args: Any) -> Value:
            prefix = "s" if type_.signed else "u"
            made = getattr(builder, f"{prefix}{name}_with_overflow")(*args)
            parts = builder.extract_value(made, 0), builder.extract_value(made, 1)
            return context.make_tuple(builder, sig.return_type, parts)

        return types.Tuple((type_, types.boolean))(type_, type_), generate

    return _made("pair", both)


@functools.cache
def wrapping(name: str) -> Any:
    """Return ``add``, ``sub`` or ``mul`` of int64 modulo 2**64, as NumPy's; where Numba's overflow all is undefined."""

    def emit(context: Any, builder: Builder, left: Value, right: Value) -> Value:
        return getattr(builder, name)(left, right)

    made = _binary("int64", emit, gives="wide")
    made.op = name
    return made


@functools.cache
def exact(name: str) -> Any:
    """Return ``add``, ``sub`` or ``mul`` of Python's integers: beyond 64 bits it is an `OverflowError`."""

    def emit(context: Any, builder: Builder, left: Value, right: Value) -> Value:
        both = getattr(builder, f"s{name}_with_overflow")(left, right)
        _raise_if(context, builder, builder.extract_value(both, 1), OverflowError, OUT_OF_64)
        return builder.extract_value(both, 0)

    return _binary("weak", emit)


@functools.cache
def power(kind: str) -> Any:
    """Return ``**`` of integers: that of NumPy wraps, that of Python raises beyond 64 bits; by squaring."""

    def emit(context: Any, builder: Builder, base: Value, exponent: Value) -> Value:
        type_ = base.type
        zero, one = ir.Constant(type_, 0), ir.Constant(type_, 1)
        if kind not in UNSIGNED:
            negative = builder.icmp_signed("<", exponent, zero)
            text = "Integers to negative integer powers are not allowed."
            _raise_if(context, builder, negative, ValueError, text)
        result, square, left = (cgutils.alloca_once_value(builder, v) for v in (one, base, exponent))
        spoilt = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(1), 0))

        def times(a: Value, b: Value, counts: Value) -> Value:
            if kind != "weak":
                return builder.mul(a, b)
            both = builder.smul_with_overflow(a, b)
            over = builder.and_(builder.extract_value(both, 1), counts)
            builder.store(builder.or_(builder.load(spoilt), over), spoilt)
            return builder.extract_value(both, 0)

        head, body, end = (builder.append_basic_block(n) for n in ("power.head", "power.body", "power.end"))
        builder.branch(head)
        builder.position_at_end(head)
        builder.cbranch(builder.icmp_unsigned("!=", builder.load(left), zero), body, end)
        builder.position_at_end(body)
        odd = builder.icmp_unsigned("!=", builder.and_(builder.load(left), one), zero)
        multiplied = times(builder.load(result), builder.load(square), odd)
        builder.store(builder.select(odd, multiplied, builder.load(result)), result)
        builder.store(builder.lshr(builder.load(left), one), left)
        more = builder.icmp_unsigned("!=", builder.load(left), zero)
        builder.store(times(builder.load(square), builder.load(square), more), square)
        builder.branch(head)
        builder.position_at_end(end)
        if kind == "weak":
            _raise_if(context, builder, builder.load(spoilt), OverflowError, OUT_OF_64)
        return builder.load(result)

    return _binary(kind, emit)
