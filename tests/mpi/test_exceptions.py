"""Exceptions of every kind in a client's function: the same class, text and attributes on all ranks, and in the
reference evaluator; whatever their classes do, no rank is left behind."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import subprocess
import threading

import numpy as np
import pytest
from numba.core.errors import TypingError as NumbaTypingError

import fedmpi as fm
from fedmpi.runtime.collective.failures import RemoteError

pytestmark = pytest.mark.mpi


class Plain(Exception):
    pass


class OwnText(Exception):
    def __str__(self):
        return "my text"


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Several(ValueError):
    def __init__(self, code, detail):
        self.code, self.detail = code, detail

    def __str__(self):
        return f"{self.detail} ({self.code})"


class Slots(Exception):
    __slots__ = ("code", "unset")

    def __init__(self, code):
        super().__init__("slots")
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    reason: str


class WithLock(KeyError):
    """Has what does not travel beside what does."""

    def __init__(self, key):
        super().__init__(key)
        self.lock, self.code, self.me = threading.Lock(), 4, self
        self.huge = np.zeros(1 << 20)
        self.small = [1, (2.5, "x"), {"a": None}]


class TextOfLock(RuntimeError):
    """Its text cannot be made from what travels."""

    def __init__(self, lock):
        self.lock = lock

    def __str__(self):
        return f"locked: {self.lock.locked()}"


class NewWantsMore(Exception):
    def __new__(cls, a, b, *, c):
        return super().__new__(cls, a)

    def __init__(self, a, b, *, c):
        self.sum = a + b + c


class FileGone(FileNotFoundError):
    def __init__(self, path):
        super().__init__(2, "gone", path)
        self.path = path


class Two(KeyError, AttributeError):
    pass


class Proxy(Exception):
    def __getattr__(self, name):
        return getattr(self.wrapped, name)  # never set: recursion


class RaisingText(Exception):
    def __str__(self):
        raise SystemExit("in __str__")


class NoText(Exception):
    def __str__(self):
        return 5


class Hostile(Exception):
    args = property(lambda self: 1 / 0)
    __notes__ = property(lambda self: 1 / 0)

    def __getattribute__(self, name):
        raise RuntimeError(name)

    def __setattr__(self, name, value):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError("repr")

    def __eq__(self, other):
        raise RuntimeError("eq")

    __hash__ = None

    def __reduce__(self):
        raise RuntimeError("reduce")


def local_class():
    class Local(ArithmeticError):
        pass

    return Local("of a function")


def with_a_note():
    error = Plain("noted")
    error.add_note("look here")
    error.__cause__ = OSError("under it")
    return error


def caught(action):
    try:
        action()
    except Exception as error:
        return error


KINDS = {
    "called process": (lambda: subprocess.CalledProcessError(3, ["train.sh", pathlib.Path("x")]),
        "train.sh", {"returncode": 3, "cmd": ["train.sh", pathlib.Path("x")]}),
    "time-out": (lambda: subprocess.TimeoutExpired(["train.sh"], 5, output=b"\xff"),
        "train.sh", {"timeout": 5, "output": b"\xff"}),
    "decoding": (lambda: caught(lambda: b"a\xff".decode()),
        "invalid start byte", {"reason": "invalid start byte", "object": b"a\xff", "start": 1}),
    "encoding": (lambda: caught(lambda: "\udcff".encode()), "surrogates", {"object": "\udcff", "end": 1}),
    "file": (lambda: FileNotFoundError(2, "No such file", "x.npz"), "x.npz", {"errno": 2, "filename": "x.npz"}),
    "two files": (lambda: PermissionError(13, "No", "a", None, "b"), "'a' -> 'b'", {"errno": 13, "filename2": "b"}),
    "OSError alone": (lambda: OSError("text"), "text", {"errno": None}),
    "own file error": (lambda: FileGone("x"), "gone", {"errno": 2, "path": "x", "filename": "x"}),
    "import": (lambda: caught(lambda: __import__("no_such")), "No module named", {"name": "no_such"}),
    "attribute": (lambda: caught(lambda: (5).real_part), "real_part", {"name": "real_part", "obj": 5}),
    "JSON": (lambda: caught(lambda: json.loads("[1,")), "Expecting value", {"pos": 3, "doc": "[1,", "lineno": 1}),
    "syntax": (lambda: caught(lambda: compile("a b", "f.py", "exec")), "f.py", {"lineno": 1, "filename": "f.py"}),
    "key": (lambda: KeyError("k"), "k", {}),
    "stop": (lambda: StopIteration(5), "5", {"value": 5}),
    "linear algebra": (lambda: caught(lambda: np.linalg.inv(np.zeros((2, 2)))), "Singular", {}),
    "axis": (lambda: caught(lambda: np.zeros(2).sum(axis=4)), "out of bounds", {"axis": 4, "ndim": 1}),
    "numba": (lambda: NumbaTypingError("no type"), "no type", {"msg": "no type"}),
    "own text": (lambda: OwnText(1), "my text", {"args": (1,)}),
    "keyword": (lambda: KeywordOnly(code=7), "code 7", {"code": 7}),
    "several": (lambda: Several(7, "much"), "much (7)", {"code": 7, "detail": "much"}),
    "slots": (lambda: Slots(7), "slots", {"code": 7, "unset": None}),
    "frozen": (lambda: Frozen(7, "cold"), "cold", {"code": 7, "reason": "cold"}),
    "new": (lambda: NewWantsMore(1, 2, c=3), "1", {"sum": 6}),
    "two bases": (lambda: Two("k"), "k", {}),
    "lock": (lambda: WithLock("k"),
        "k", {"code": 4, "small": [1, (2.5, "x"), {"a": None}], "lock": None, "huge": None, "me": None}),
    "note": (with_a_note, "noted", {}),
    "surrogate": (lambda: Plain("\ud83d\ude00 \udcff", b"\xff"), "\\udcff", {}),
    "no text": (lambda: AssertionError(), "", {}),
    "group": (lambda: ExceptionGroup("two", [Several(1, "a"), ExceptionGroup("in", [OSError(2, "b", "c")])]),
        "two (2 sub-exceptions)", {"message": "two"}),
    "proxy": (lambda: Proxy("text"), "text", {}),
}  # fmt: skip

# The class cannot be made, or not found, on the other ranks.
STAND_INS = {
    "local": (local_class, ArithmeticError, "local_class.<locals>.Local: .*: of a function"),
    "unnamed": (lambda: type("Unnamed", (OSError,), {})(2, "text"), OSError, r"Unnamed: \[Errno 2\] .*: text"),
    "text of a lock": (lambda: TextOfLock(threading.Lock()), TextOfLock, "TextOfLock: .*: locked: False"),
    "raising text": (lambda: RaisingText(1), RaisingText, r"RaisingText: .*\(its text cannot be made: SystemExit\)"),
    "no text": (lambda: NoText(1), NoText, r"NoText: .*\(its text cannot be made: TypeError\)"),
    "hostile": (lambda: Hostile("text"), Exception, "text"),
}


def program(make, server=False):
    @fm.python_computation(np.float32, result=np.float32)
    def fails(x):
        raise make()

    def at_clients(x):
        return fm.federated_sum(fm.federated_map(fails, x))

    def at_server(x):
        return fm.federated_map(fails, fm.federated_sum(x))

    return fm.federated_computation(at_server if server else at_clients, fm.type_at_clients(np.float32))


def arrived(comm, call):
    """Return what this rank has caught, after all ranks have caught the same."""
    with pytest.raises(Exception) as info:  # noqa: PT011 - what it is follows
        call()
    error = info.value
    told = json.dumps([type(error).__module__, type(error).__qualname__, text_of(error)]).encode()
    everyone = {part.tobytes() for part in comm.allgather_bytes(np.frombuffer(told, np.uint8))}
    assert len(everyone) == 1, everyone
    assert fm.replicate(5) == 5  # the ranks are still together
    return error


def text_of(error):
    notes = vars(BaseException)["__dict__"].__get__(error).get("__notes__", [])
    own = [note for note in notes if not note.startswith("[rank ")]
    return ascii(
        "\n".join([BaseException.__str__(error) if issubclass(type(error), RemoteError) else str(error), *own])
    )


def attribute(error, name):
    try:
        return getattr(error, name, None)
    except AttributeError:
        return None


@pytest.mark.parametrize("server", [False, True], ids=["client", "server"])
@pytest.mark.parametrize("name", KINDS)
def test_an_exception_is_the_same_on_all_ranks(comm, name, server):
    make, text, attributes = KINDS[name]
    total = program(make, server)
    error = arrived(comm, lambda: total([1.0, 2.0]))
    assert type(error) is type(make())
    assert text in text_of(error)
    place = "at the server" if server else r"client 0 of x \(rank \d\)"
    assert re.search(rf"{'at_server' if server else 'at_clients'}: federated_map.*{place}.*, in fails", text_of(error))
    for key, value in attributes.items():
        assert attribute(error, key) == value, key
    if name == "stop":
        return
    with fm.ReferenceContext(), pytest.raises(type(error)) as info:
        total([1.0, 2.0])
    without_rank = re.compile(r" \(rank \d\)")
    assert without_rank.sub("", text_of(info.value)) == without_rank.sub("", text_of(error))
    for key, value in attributes.items():
        assert attribute(info.value, key) == value, key


@pytest.mark.parametrize("name", STAND_INS)
def test_a_stand_in_is_the_same_on_all_ranks(comm, name):
    make, base, text = STAND_INS[name]
    total = program(make)
    error = arrived(comm, lambda: total([1.0, 2.0]))
    assert issubclass(type(error), base)
    assert re.search(text, text_of(error))
    if name != "hostile":
        assert type(error).__name__ == "RemoteError"
        assert isinstance(error, RemoteError)
        assert "client 0" in str(error)
        with fm.ReferenceContext(), pytest.raises(RemoteError, match=text):
            total([1.0, 2.0])


def test_the_exceptions_of_a_group_arrive(comm):
    group = arrived(comm, lambda: program(KINDS["group"][0])([1.0]))
    several, inner = group.exceptions
    assert (type(several), several.code, str(several)) == (Several, 1, "a (1)")
    assert (inner.exceptions[0].errno, inner.exceptions[0].filename) == (2, "c")
    files, others = group.split(OSError)
    assert len(files.exceptions) == 1
    assert others.exceptions == (several,)


def test_notes_and_debug_mode(comm):
    total = program(with_a_note)
    assert "look here" in arrived(comm, lambda: total([1.0])).__notes__
    with fm.debug():
        error = arrived(comm, lambda: program(lambda: Frozen(7, "cold"))([1.0]))
    assert (type(error), error.code) == (Frozen, 7)


def test_an_exception_in_a_batch_of_a_frozen_class(comm):
    @fm.python_computation(np.float32, np.float32, result=np.float32)
    def fails(x, y):
        raise Frozen(7, "cold")

    reduced = fm.federated_computation(
        lambda x: fm.federated_sum(
            fm.federated_map(
                fm.federated_computation(
                    lambda s: fm.sequence_reduce(s, np.float32(0), fails), fm.SequenceType(np.float32)
                ),
                x,
            )
        ),
        fm.type_at_clients(fm.SequenceType(np.float32)),
    )
    error = arrived(comm, lambda: reduced([[1.0, 2.0]]))
    assert type(error) is Frozen
    assert "batch 0" in text_of(error)


def test_huge_texts_are_cut_alike(comm):
    error = arrived(comm, lambda: program(lambda: Plain("x" * 5_000_000))([1.0]))
    assert type(error) is Plain
    assert 2_000_000 < len(str(error)) < 2_100_000
    assert "[...]" in str(error)


def test_an_argument_that_raises(comm):
    class Strange(list):
        def __iter__(self):
            raise Several(3, "no list")

    total = program(lambda: Plain("x"))
    arrived(comm, lambda: total(Strange([1.0])))
