"""The same program is accepted by fedmpi and by `federated_language`, with the same type, or refused by both.

Arguments and functions are parameters of the traced program, so that any types can stand anywhere.  What fedmpi decides
otherwise is listed in `DECIDED`.  Skipped where `federated_language` is not installed.
"""

from __future__ import annotations

import os
import random
import re
import warnings

import numpy as np
import pytest

import fedmpi as fm
from fedmpi.language.errors import TypingError

upstream = pytest.importorskip("federated_language")

PROGRAMS = int(os.environ.get("FEDMPI_TEST_UPSTREAM", "400"))  # for each operator
# An error of ours must be caught where one of these is.
CAUGHT = (TypeError, ValueError, NotImplementedError)
# Upstream's accidents, by what it says, and what it does not have; each with its line of language.md.
DECIDED = [
    (r"sequence_", r"AttributeError|NotImplemented"),  # 8.12: what comes of misuse; 8.4: an unplaced zero
    (r"select", r"AttributeError"),  # 8.12: a select_fn without a parameter
    (r"sequence_.*,S,False", r"str"),  # no operator gives {T}@SERVER; here upstream takes it, elsewhere not
]

MEMBERS = [
    "np.int32",
    "np.float32",
    "np.float64",
    "np.bool_",
    "np.str_",
    "np.complex64",
    "np.uint8",
    "np.int64",
    "(np.float32,[3])",
    "(np.float32,[None])",
    "T(np.float32,None)",
    "(np.float32,[0])",
    "(np.int32,[3])",
    "(np.int32,[1])",
    "(np.int32,[None])",
    "[np.float32,np.float32]",
    "[('a',np.float32),('b',np.float32)]",
    "[np.int32,np.str_]",
    "[]",
    "[np.int32]",
    "[np.int32,np.int32]",
    "[('a',np.int32),('b',np.int32)]",
    "[('b',np.int32),('a',np.int32)]",
    "[[np.int32],np.int32]",
    "SEQ(np.float32)",
    "SEQ(np.int32)",
    "SEQ([('a',np.float32)])",
]
STRANGE = [
    "fl.PlacementType()",
    "FN(None,np.float32)",
    "FN(np.float32,np.float32)",
    "FN(None,FT(np.int32,S))",
    "[FT(np.float32,C),np.float32]",
    "[FT(np.float32,C),FT(np.float32,S)]",
    "[FT(np.int32,S),FT(np.float32,S)]",
    "[('a',FT(np.int32,C)),('b',[FT(np.int32,C)])]",
    "[FT(SEQ(np.float32),C),FT(np.float32,C)]",
]


class Writer:
    """Writes programs that are well typed but for what chance changes."""

    def __init__(self, seed):
        self.draw = random.Random(seed)

    def member(self):
        return self.draw.choice(MEMBERS)

    def near(self, member):
        return member if self.draw.random() < 0.85 else self.member()

    def placed(self, member, place="C"):
        if self.draw.random() < 0.75:
            return f"FT({member},{place})"
        other = "S" if place == "C" else "C"
        forms = (
            f"FT({member},{other}) FT({member},C,True) FT({member},S,False) [FT({member},{place})] FT(SEQ({member}),C)"
        )
        return self.draw.choice([*forms.split(" "), member, *STRANGE])

    def function(self, parameters, result):
        chance = self.draw.random()
        if chance < 0.04:
            return self.member()
        if chance < 0.08 or not parameters:
            return f"FN(None,{result})"
        if len(parameters) == 1:
            return f"FN({parameters[0]},{result})"
        if chance < 0.3:
            return f"FN([{','.join(f'({n!r},{t})' for n, t in zip('xy', parameters, strict=True))}],{result})"
        return f"FN([{','.join(parameters)}],{result})"

    def federated_broadcast(self):
        return [self.placed(self.member(), "S")]

    def federated_sum(self):
        return [self.placed(self.member())]

    federated_min = federated_max = federated_zip = federated_sum

    def federated_mean(self):
        return [self.placed(self.member()) for _ in range(self.draw.choice([1, 2]))]

    def federated_map(self):
        member = self.member()
        return [self.function([self.near(member)], self.member()), self.placed(member, self.draw.choice("CS"))]

    def federated_eval(self):
        return [self.function([], self.member())]

    def federated_aggregate(self):
        member, state, state_too = self.member(), self.member(), self.near
        functions = [
            self.function([state_too(state), self.near(member)], self.near(state)),
            self.function([state_too(state), self.near(state)], self.near(state)),
            self.function([self.near(state)], self.member()),
        ]
        return [self.placed(member), self.near(state), *functions]

    def federated_select(self):
        server = self.member()
        keys = self.draw.choice(
            ["FT((np.int32,[3]),C)"] * 5 + [self.placed("(np.int32,[3])"), "FT((np.int32,[None]),C)"]
        )
        limit = self.draw.choice(["FT(np.int32,S)"] * 5 + [self.placed("np.int32", "S"), "FT(np.int64,S)"])
        function = self.function([self.near(server), self.draw.choice(["np.int32"] * 5 + ["np.int64"])], self.member())
        return [keys, limit, self.placed(server, "S"), function]

    federated_secure_select = federated_select

    def federated_secure_sum(self):
        member = self.member()
        return [self.placed(member), self.draw.choice([member, "np.int32", self.member(), self.placed(member)])]

    federated_secure_sum_bitwidth = federated_secure_sum

    def sequence_sum(self):
        return [self.draw.choice([f"SEQ({self.member()})", self.placed(f"SEQ({self.member()})")])]

    def sequence_map(self):
        element = self.member()
        sequence = self.draw.choice([f"SEQ({element})", self.placed(f"SEQ({element})")])
        return [self.function([self.near(element)], self.member()), sequence]

    def sequence_reduce(self):
        element, state, place = self.member(), self.member(), self.draw.choice("CS")
        data = [f"SEQ({element})", self.near(state)]
        if self.draw.random() < 0.5:
            data = [self.placed(data[0], place), self.placed(data[1], place)]
        return [*data, self.function([self.near(state), self.near(element)], self.near(state))]


def outcome(program, fl):
    place = dict(fl=fl, np=np, C=fl.CLIENTS, S=fl.SERVER, FT=fl.FederatedType, SEQ=fl.SequenceType)  # noqa: C408
    try:
        types = eval(program[1], {**place, "FN": fl.FunctionType, "T": fl.TensorType})
    except (TypeError, ValueError):
        return None  # no types: test_conformance.py has those
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return str(fl.federated_computation(eval(program[0], place), *types).type_signature)
        except Exception as error:
            return error


@pytest.mark.parametrize("operator", [name for name in vars(Writer) if name.startswith(("federated_", "sequence_"))])
def test_operators(operator):
    writer, accepted = Writer(operator), 0
    for _ in range(PROGRAMS):
        types = getattr(writer, operator)()
        names = "xyzuv"[: len(types)]
        placement = ",C" if operator == "federated_eval" else ""
        program = f"lambda {','.join(names)}: fl.{operator}({','.join(names)}{placement})", f"[{','.join(types)}]"
        theirs, ours = outcome(program, upstream), outcome(program, fm)
        assert ours is None or isinstance(ours, str | TypingError), program
        if any(re.search(a, str(program)) and re.search(b, type(theirs).__name__) for a, b in DECIDED):
            continue
        if isinstance(theirs, Exception):
            assert isinstance(ours, Exception), f"fedmpi accepts {program}: {theirs}"
            assert any(isinstance(theirs, base) and isinstance(ours, base) for base in CAUGHT), program
        else:
            assert theirs == ours, f"{program}: {ours}"
            accepted += theirs is not None
    assert accepted > PROGRAMS // 20  # the programs are not all wrong
