"""The language's facts, one case each, in the JSON files beside this one; they were compared with upstream.

A case is ``{"id", "area", "given", "expect"}``: ``given`` is a Python expression over the names below, ``expect`` one
of ``{"type": text}``, ``{"value": x, "container"?}`` and ``{"raises": name}`` (a class anywhere in the error's MRO).
``"upstream"`` says what `federated_language` 0.5.4 does where fedmpi decides otherwise.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.language.errors import ComputationReturnedNoneError, ContextError, TypingError

try:
    import attrs
except ImportError:
    attrs = None
try:
    import ml_dtypes
except ImportError:
    ml_dtypes = None


class NT(NamedTuple):
    a: np.int32
    b: np.bool_


@dataclasses.dataclass
class DC:
    a: np.int32
    b: np.float32


class Obj:
    def m(self, x):
        return x

    @classmethod
    def c(cls, x):
        return x

    @staticmethod
    def s(x):
        return x

    def __call__(self, x):
        return x


def deflt(x, y=1):
    return x


def posonly(x, /):
    return x


def kwonly(x, *, y):
    return x


def star(*a):
    return a


def kw(**k):
    return k


def two(x, y):
    return x


def none(x):
    return None


def boom(x):
    raise KeyError("boom")


def gen():
    yield from [1, 2]


fc, C, S, FT = fm.federated_computation, fm.CLIENTS, fm.SERVER, fm.FederatedType
NAMES = {
    "fl": fm, "np": np, "OD": collections.OrderedDict, "functools": functools, "mld": ml_dtypes,
    "C": C, "S": S, "FT": FT, "ST": fm.StructType, "SEQ": fm.SequenceType, "FN": fm.FunctionType, "T": fm.TensorType,
    "SWP": fm.StructWithPythonType, "fc": fc, "to": fm.to_type, "infer": fm.infer_type,
    "iC": FT(np.int32, C), "iS": FT(np.int32, S), "fC": FT(np.float32, C), "fS": FT(np.float32, S),
    "iE": FT(np.int32, C, True), "fE": FT(np.float32, C, True),
    "NT": NT, "DC": DC, "Obj": Obj, "CN": collections.namedtuple("CN", "a b"),
    "AT": attrs and attrs.make_class("AT", ["a", "b"]),
    "deflt": deflt, "posonly": posonly, "kwonly": kwonly, "star": star, "kw": kw, "two": two, "none": none,
    "boom": boom, "gen": gen,
    "sig": lambda fn, *types: str(fc(fn, *types).type_signature),
    "res": lambda fn, *types: str(fc(fn, *types).type_signature.result),
    "ident": lambda type_: fc(lambda x: x, type_),
}  # fmt: skip
CASES = [case for path in sorted(Path(__file__).parent.glob("cases_*.json")) for case in json.loads(path.read_text())]


def plain(x):
    if hasattr(x, "_asdict"):
        return plain(x._asdict())
    if dataclasses.is_dataclass(x):
        return plain(dataclasses.asdict(x))
    if attrs and attrs.has(type(x)):
        return plain(attrs.asdict(x))
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    if isinstance(x, list | tuple):
        return [plain(value) for value in x]
    return x.tolist() if isinstance(x, np.ndarray | np.generic) else x


def check(case):
    expect = case["expect"]
    if "raises" in expect:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the class is the case's
            eval(case["given"], dict(NAMES))
        assert expect["raises"] in [base.__name__ for base in type(caught.value).__mro__], repr(caught.value)
        return caught.value
    got = eval(case["given"], dict(NAMES))
    if "container" in expect:
        assert type(got).__name__ == expect["container"]
    assert plain(got) == expect.get("type", expect.get("value"))
    return None


@pytest.fixture(params=["mpi", "reference"])
def context(request):
    fm.set_default_context(fm.ReferenceContext() if request.param == "reference" else None)
    yield
    fm.set_default_context(None)


def needed(case):
    if (attrs is None and "AT" in case["given"]) or (ml_dtypes is None and "mld" in case["given"]):
        pytest.skip("needs attrs or ml_dtypes")


@pytest.mark.parametrize("case", [c for c in CASES if not c.get("exec")], ids=lambda case: case["id"])
def test_definitions(case):
    needed(case)
    error = check(case)
    if error is not None and "boom" not in case["given"]:  # which raises its own
        assert isinstance(error, TypingError | ContextError | ComputationReturnedNoneError)
        located = "test_conformance.py:" in str(error) or "<string>:" in str(error)
        assert located or "check_" in case["given"]  # whose texts are upstream's


@pytest.mark.parametrize("case", [c for c in CASES if c.get("exec")], ids=lambda case: case["id"])
def test_calls(case, context):
    needed(case)
    error = check(case)
    assert error is None or "\n" not in str(error) or "<string>:" in str(error)
