"""Integers in compiled bodies: NumPy's numbers, as in debug mode, or a refusal; never others in silence."""

from __future__ import annotations

import operator
import random
import warnings

import numpy as np
import pytest

import fedmpi as fm

I8, U8, U16, I32, U32, I64, U64, F32 = (
    *(np.int8, np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32),
)
LABELS = fm.TensorType(I32, [None])
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of overflow in debug mode


def wrapped(value, dtype):
    """Return an exact integer modulo 2 to the power of the dtype's bits."""
    bits = np.iinfo(dtype).bits
    value %= 2**bits
    return value - 2**bits if np.iinfo(dtype).min and value >= 2 ** (bits - 1) else value


def as_tuple(value):
    """Return a result as the tuple of its parts."""
    return value if isinstance(value, tuple) else (value,)


def agree(function, types, *calls, **options):
    """Return the results of the compiled body for each call's arguments, equal to those of debug mode."""
    compiled = fm.numba_computation(function, *types, **options)
    results = []
    for arguments in calls:
        got = compiled(*arguments)
        with fm.debug():
            want = fm.numba_computation(function, *types, **options)(*arguments)
        for one, other in zip(*map(as_tuple, (got, want)), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=str(arguments))
        results.append(got)
    return results


@pytest.mark.parametrize(
    ("function", "dtype", "value", "exact"),
    [
        (lambda x: x // 2, U64, 2**63 + 1, (2**63 + 1) // 2),
        (lambda x: x % 10, U64, 2**64 - 1, (2**64 - 1) % 10),
        (lambda x: x // 7 % 100, U64, 2**64 - 3, (2**64 - 3) // 7 % 100),
        (lambda x: x >> 1, U64, 2**63 + 1, 2**62),
        (lambda x: x * 3 + 1, U64, 2**63 + 1, wrapped(3 * (2**63 + 1) + 1, U64)),
        (lambda x: max(x, 7) + np.uint64(1), U64, 2**63 + 1, 2**63 + 2),
        (lambda x: (x + 1) // 2, I32, 2**31 - 1, -(2**30)),
        (lambda x: x**2 // 3, I32, 100_000, wrapped(10**10, I32) // 3),
        (lambda x: (x << 4) >> 4, U8, 255, 15),
        (lambda x: ~x, U8, 5, 250),
        (lambda x: abs(x) // 2, I8, -128, -64),
        (lambda x: x // np.int64(-1), I64, -(2**63), -(2**63)),
        (lambda x: x % np.int64(-1), I64, -(2**63), 0),
        (lambda x: divmod(x, np.int64(-1))[0], I64, -(2**63), -(2**63)),
        (lambda x: x // np.int64(0), I64, 5, 0),
        (lambda x: np.int32(x * 3), U8, 200, 88),
        (lambda x: int(x * 3), U8, 200, 88),
        (lambda x: x << 70 - 30, I32, 1, 0),
        (lambda x: 2**x // 2, I32, 31, -(2**30)),
    ],
)
def test_one_operation_after_the_other(function, dtype, value, exact):
    assert agree(function, [dtype], [dtype(value)])[0] == exact


@pytest.mark.parametrize(
    ("function", "dtype", "value", "result"),
    [
        (lambda x: x * x > 0, I32, 65536, False),
        (lambda x: x == 2**63 + 1, U64, 2**63 + 2, False),
        (lambda x: x - 1 > 200, I64, -(2**63), True),  # wraps; an optimiser may not think that it cannot
        (lambda x: x > -1, U64, 2**64 - 1, True),
        (lambda x: (x > 0) + (x > 1), I32, 5, True),
        (lambda x: float(x * x), I32, 100_000, 1410065408.0),
        (lambda x: F32(x * 3) + 1, U8, 200, 89.0),
        (lambda x: x / 2, U64, 2**63, 2.0**62),
        (lambda x: x * np.int64(-1), U64, 2**63, -(2.0**63)),  # NumPy has no integer for both
    ],
)
def test_what_integers_decide(function, dtype, value, result):
    assert agree(function, [dtype], [dtype(value)])[0] == result


def test_ordinary_programs_need_no_conversions():
    def mean(labels):
        total = 0
        for label in labels:
            total += label
        return total / len(labels)

    def histogram(labels):
        counts = np.zeros(4, np.int32)
        for i in range(len(labels)):
            counts[labels[i]] += 1
        return counts

    def accuracy(scores, labels):
        hits = 0
        for i, label in enumerate(labels):
            if np.argmax(scores[i]) == label:
                hits += 1
        return F32(hits) / len(labels)

    def collatz(n):
        steps = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        return steps

    assert agree(mean, [LABELS], [[1, 2, 6]], [[2**31 - 1, 1]]) == [3.0, -(2.0**30)]
    assert agree(histogram, [LABELS], [[1, 1, 3]])[0].tolist() == [0, 2, 0, 1]
    assert agree(accuracy, [(F32, [None, 2]), LABELS], [np.eye(2, dtype=F32), [0, 0]]) == [0.5]
    assert agree(collatz, [I32], [27]) == [111]
    assert agree(lambda n: n / 2.0, [I32], [5]) == [2.5]
    square = np.eye(2, dtype=I64)
    assert agree(lambda x, y: x[np.arange(len(y)), y].sum(), [(I64, [2, 2]), (I32, [2])], [square, [0, 0]]) == [1]


def test_hashes_of_unsigned_integers():
    def splitmix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB
        return z ^ (z >> 31)

    def expected(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for value, got in zip((1, 2**64 - 1), agree(splitmix, [U64], [1], [2**64 - 1]), strict=True):
        assert got == expected(value)

    def fnv(data):
        h = np.uint32(2166136261)
        for byte in data:
            h = np.uint32((h ^ byte) * np.uint32(16777619))
        return h

    h = 2166136261
    for byte in (1, 2, 255):
        h = (h ^ byte) * 16777619 % 2**32
    assert agree(fnv, [(U8, [None])], [[1, 2, 255]]) == [h]


def test_helpers_are_told_what_is_an_integer_of_pythons():
    def scaled(x, n):
        return x * n // 2

    def helped(x, values):
        return scaled(x, len(values)), scaled(len(values), 3), scaled(x, np.int64(3))

    for got in agree(helped, [U8, LABELS], [200, [1, 2, 3]]):
        assert got == (wrapped(600, U8) // 2, 4, 300)


def test_arrays():
    def small(v):
        return v * 2, (v + 100) // 2 + v, np.minimum(v, 3) - np.where(v > 3, v, 0), (v > 3) * 2, v.sum() + 1

    def labels(v):
        w = v.copy()
        w *= 3
        w[0] -= 1
        return v * v // 3, w

    def long(v, w):
        return v // w, v // 2 + 1

    got = agree(small, [(U8, [2])], [[200, 4]])[0]
    assert [part.tolist() for part in got[:4]] == [[144, 8], [222, 56], [59, 255], [2, 2]]
    assert got[4] == 205
    got = agree(labels, [(I32, [2])], [[65537, 2**30]])[0]
    assert [part.tolist() for part in got] == [[wrapped(65537**2, I32) // 3, 0], [3 * 65537 - 1, -(2**30)]]
    assert agree(long, [(I64, [2])] * 2, [[-(2**63), 5], [-1, 0]])[0][0].tolist() == [-(2**63), 0]
    assert agree(lambda v: v // 2 + 1, [(U64, [2])], [[2**63 + 1, 5]])[0].tolist() == [2**62 + 1, 3]


REFUSED = [
    (lambda x: x + 300, U8, "int64 in|300 does not fit uint8|300 out of bounds for uint8"),
    (lambda x: x & np.int64(1), U64, "NumPy has no integer that holds both"),
    (lambda x: (x > 0) - (x > 1), I32, "truth values are no integers"),
    (lambda x: -(x > 0), I32, "no - of truth values"),
    (lambda x: x**-1, I32, "negative powers of integers"),
    (lambda x: (x if x > 3 else np.int64(3)) * 2 // 3, I32, "give it one dtype|depends on the way there"),
]


@pytest.mark.parametrize(("function", "dtype", "text"), REFUSED, ids=[text for _, _, text in REFUSED])
def test_refused_at_the_definition(function, dtype, text):
    result = np.bool_ if "truth" in text else dtype
    with pytest.raises(TypeError, match=text) as caught:
        fm.numba_computation(function, dtype, result=result)
    assert "test_integers.py:" in str(caught.value)


def test_integers_of_pythons_have_64_bits():
    def fibonacci(n):
        a, b = 0, 1
        for _ in range(n):
            a, b = b, a + b
        return a

    compiled = fm.numba_computation(fibonacci, I32, result=I64)
    assert compiled(90) == 2880067194370816120
    with pytest.raises(OverflowError, match="does not fit the 64 bits that it has in compiled code"):
        compiled(100)
    for function, arguments, kind in (
        (lambda x: int(x) * int(x), [2**40], OverflowError),
        (lambda x: int(x) << int(x), [63], OverflowError),
        (lambda x: int(x) ** 5, [2**40], OverflowError),
        (lambda x: 5 // int(x), [0], ZeroDivisionError),
        (lambda x: 5 % int(x), [0], ZeroDivisionError),
        (lambda x: 1 << int(x), [-1], ValueError),
        (lambda x: np.uint8(int(x)), [256], OverflowError),
        (lambda x: np.uint8(1) + int(x), [256], OverflowError),
    ):
        with pytest.raises(kind):
            fm.numba_computation(function, I64, result=I64)(*arguments)


def test_floats_that_no_integer_holds():
    to_int = fm.numba_computation(lambda x: int(x), np.float64)
    to_byte = fm.numba_computation(lambda x: np.uint8(x), np.float64)
    assert (to_int(-3.9), to_byte(255.9), to_byte(-0.9)) == (-3, 255, 0)
    for body, value in ((to_int, 1e30), (to_int, float("nan")), (to_byte, 256.0), (to_byte, -1.0)):
        with pytest.raises(OverflowError, match="a float that is converted to an integer does not fit"):
            body(value)


@pytest.mark.parametrize(
    ("function", "types", "good", "bad", "text"),
    [
        (lambda x: x + 1, [I32], [5], [2**31 - 1], "result: expected int32, found int 2147483648"),
        (lambda x: x - 1, [U8], [5], [0], "result: expected uint8, found int -1"),
        (lambda x: {"a": x * x}, [I32], [9], [65536], "result, a: expected int32, found int 4294967296"),
    ],
)
def test_results_that_do_not_fit(function, types, good, bad, text):
    body = fm.numba_computation(function, *types)
    body(*good)
    with pytest.raises(OverflowError, match=text) as caught:
        body(*bad)
    assert "holds" in str(caught.value)


def test_declared_results_are_checked():
    for result, bad in ((I32, 2**40), (U8, -1), (U64, -1), (I8, 128)):
        body = fm.numba_computation(lambda x: x, I64, result=result)
        assert body(7) == 7
        with pytest.raises(OverflowError, match=f"expected {np.dtype(result).name}, found int {bad}"):
            body(bad)
    body = fm.numba_computation(lambda x: x, U64, result=I64)
    with pytest.raises(OverflowError, match="found int 9223372036854775808"):
        body(2**63)
    body = fm.numba_computation(lambda v: v * np.int64(1000), LABELS, result=LABELS)
    with pytest.raises(OverflowError, match=r"expected int32\[\?\], found int 1073741824000"):
        body([1, 2**30])
    # The product of two uint8 is one in NumPy: a wider result does not make it another number.
    with pytest.raises(OverflowError, match="does not fit uint8"):
        fm.numba_computation(lambda x: x * x, U8, result=I32)(20)


# --- random programs -------------------------------------------------------------------------------------------------

DTYPES = (np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64)
HELPERS = """
def h0(x, y):
    return x + y
def h1(x, y):
    if x > y:
        return x * 3 - y
    return y // 2
"""


class Writer:
    """Writes random functions of two integers and a list."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = ["a", "b", "a", "b", "n", "wide"]

    def expression(self, depth):
        """Return an expression."""
        draw, of = self.random.random(), self.random.choice
        if depth == 0 or draw < 0.12:
            return of([*self.names, "1", "2", "3", "7", "10", "100", "-1"])
        left, right = self.expression(depth - 1), self.expression(depth - 1)
        if draw < 0.30:
            functions = ("-", "~", "abs", "int", "np.int32", "np.uint8", "np.uint64", "np.int64")
            return f"({of(functions)}({left}))"
        if draw < 0.44:
            return of(("max({}, {})", "min({}, {})", "h0({}, {})", "h1({}, {})")).format(left, right)
        if draw < 0.52:
            return f"({left} {of(('<', '==', '!=', '>='))} {right})"
        if draw < 0.60:
            return f"({left} {of(('<<', '>>', '**'))} {of(('1', '2', '3', '8', right))})"
        return f"({left} {of('+-*+-*%&|^') if draw < 0.92 else '//'} {right})"

    def function(self):
        """Return the text of a function and the dtypes of its integers."""
        lines = ["n = len(xs)", "wide = np.int64(n)"]
        if self.random.random() < 0.5:
            lines += [f"t = {self.random.choice('01a')}", "for i in range(3):"]
            lines += [f"    t {self.random.choice(('+=', '-=', '*='))} {self.expression(1)}"]
            self.names.append("t")
        lines += [f"u = {self.expression(2)}"]
        self.names.append("u")
        lines += [f"return {self.expression(3)}"]
        text = "\n".join(f"    {line}" for line in lines)
        return f"{HELPERS}def f(a, b, xs):\n{text}\n", [self.random.choice(DTYPES) for _ in range(2)]

    def value(self, dtype):
        """Return an integer: small, or at the ends of the dtype."""
        low, high = (int(n) for n in (np.iinfo(dtype).min, np.iinfo(dtype).max))
        return dtype(self.random.choice([0, 1, 2, 3, 7, high, high - 1, low, low + 1, self.random.randint(low, high)]))


def outcome(function, arguments):
    """Return what a call gives or raises."""
    try:
        return function(*arguments)
    except (ArithmeticError, ValueError) as error:
        return error


def tried(seed):
    """Compare a random function compiled and in debug mode; return how many calls gave a number, None if refused."""
    writer = Writer(seed)
    text, dtypes = writer.function()
    scope = {"np": np, "__name__": __name__}
    exec(compile(text, f"<program {seed}>", "exec"), scope)
    types = [*dtypes, fm.SequenceType(F32)]
    try:
        compiled = fm.numba_computation(scope["f"], *types)
    except TypeError:
        return None
    with fm.debug():
        interpreted = fm.numba_computation(scope["f"], *types)
    numbers = 0
    for _ in range(15):
        arguments = [*(writer.value(dtype) for dtype in dtypes), [1.0] * writer.random.randint(0, 3)]
        got = outcome(compiled, arguments)
        with fm.debug():
            want = outcome(interpreted, arguments)
        said = f"{text}{arguments}, {compiled.type_signature}: {got!r}, not {want!r}"
        if isinstance(want, Exception):
            assert isinstance(got, Exception), said
        elif isinstance(got, Exception):  # Python's integers end at 64 bits, and a mixture divides as Python does
            assert isinstance(got, OverflowError | ZeroDivisionError), said
        else:
            assert got == want or (np.isnan(got) and np.isnan(want)), said
            numbers += 1
    return numbers


@pytest.mark.parametrize("first", [0, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_programs(first):
    count = 8 if first == 0 else 150
    found = [tried(seed) for seed in range(first, first + count)]
    numbers = [n for n in found if n is not None]
    assert len(numbers) >= count // 3  # most are accepted …
    assert sum(numbers) >= 5 * len(numbers)  # … and most calls give a number


def test_rules_agree_with_numpy():
    """The dtype of each operation, of all pairs of NumPy's dtypes and Python's numbers."""
    from fedmpi.local.integers.promotion import dtype_of

    samples = {np.dtype(dtype).name: dtype(1) for dtype in (*DTYPES, np.bool_)} | {"weak": 1, "pybool": True}
    for left, a in samples.items():
        for right, b in samples.items():
            for op in (operator.add, operator.mul):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    made = op(a, b)
                name = made.dtype.name if isinstance(made, np.generic) else "weak"
                assert dtype_of(left, right) == ("float" if name.startswith("float") else name), (left, right)
