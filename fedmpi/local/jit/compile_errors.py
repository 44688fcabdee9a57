"""Why a body was refused, in one paragraph: Numba's errors in plain words, at the user's file and line."""

from __future__ import annotations

import linecache
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import Any

from fedmpi.language.errors import Report
from fedmpi.language.source import PACKAGE

INTERPRET = "a python_computation runs it interpreted"
READ_ONLY = "arguments are read-only, because clients share them: write to a copy, made with .copy()"
CHANGED = (
    "a struct cannot be changed: return a new one; into an array of an argument that is donated, write with [:], "
    "as in model.weights[:] -= …"
)

_OPCODES = {
    "IMPORT_NAME": "an import inside the body: write it at the top of the file",
    "STORE_GLOBAL": "an assignment to a global name",
    "DELETE_GLOBAL": "a deletion of a global name",
    "SETUP_ASYNC_WITH": "async code",
    "LOAD_BUILD_CLASS": "a class inside the body",
}
_OPERATORS = {
    "setitem": "item assignment", "getitem": "indexing", "static_getitem": "indexing", "contains": "in",
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
    "iadd": "+=", "isub": "-=", "imul": "*=", "itruediv": "/=", "and_": "&", "or_": "|", "xor": "^", "invert": "~",
    "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=", "neg": "-", "not_": "not",
}  # fmt: skip

# What Numba says, and what a user of fedmpi is told; the first that is found wins, the hint is None for INTERPRET.
_RULES: tuple[tuple[str, str, str | None], ...] = (
    (r"fedmpi: (.*)", r"\1", None),
    (r"(NUMBA_DISABLE_JIT .*)", r"\1", ""),
    (r"Cannot modify readonly array|Cannot (?:set|modify).*read-?only|read-only", READ_ONLY, ""),
    (r"'NoneType' object has no attribute 'args'", READ_ONLY, ""),  # numba 0.6x, for ``argument += 1``
    (r"No definition for lowering .*\.(\w+) = ", r"a struct cannot be changed (.\1 = …): return a new one", ""),
    (r"Can't unify return type from the following types: (.*)", r"its returns differ in type: \1", ""),
    (
        r"Cannot unify (.*) and (.*) for '([^'.]+)[^']*'",
        r"the variable \3 has the type \1 in one place and \2 in another",
        "",
    ),
    (
        r"wrong tuple length for ([^:$]*)[^:]*: ', 'expected (\d+), got (\d+)",
        r"\1 has \3 elements, unpacked into \2",
        "",
    ),
    (r"invalid type in signature: expected a type instance, got \{", "a function that takes any keywords", None),
    (
        r"runaway recursion|compiler re-entrant",
        "the recursion has no end that is seen before it: return something that is not made of a call of its own first",
        None,
    ),
    (r"NameError: name '(\w+)' is not defined", r"the name \1 is not defined", ""),
    (r"Variable '([\w.]+)' referenced before assignment", r"the variable \1 is used before it has a value", ""),
    (r"Unknown attribute '(\w+)' of type struct<(.*?)>\(", r"the struct has no element '\1'; there are \2", ""),
    (r"Unknown attribute '(\w+)' of type Module\((\S+)\)", r"Numba knows no \2.\1", None),
    (r"Unknown attribute '(\w+)' of type (.*)", r"Numba knows no attribute '\1' of \2", None),
    (
        r"Untyped (?:global|freevar|nonlocal)? ?name '(\w+)': [^<]*<class '([\w.<>]+)'>",
        r"the name \1 of the program around it holds an object of the class \2, which compiled code cannot use",
        None,
    ),
    (r"Use of unsupported NumPy function '([\w.]+)'", r"Numba knows no \1, or not with these arguments", None),
    (r"Exception object cannot be stored into variable \((\w+)\)", r"except … as \1: write except Exception", None),
    (r"Exception matching is limited to", "except can name Exception only, no other class", None),
    (r"Unsupported context manager in use", "a with statement", None),
    (r"format spec in f-strings not supported", "an f-string with a format", None),
    (r"Use of (?:unsupported|unknown) opcode \(?(\w+)\)?", "OPCODE", None),
    (r"No implementation of function", "SIGNATURE", None),
)


def refusal(name: str, where: str, error: Exception) -> str:
    """Return the paragraph for a body that Numba could not compile: reason, hint, place."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    reason, hint = _reason(text)
    place = next(_places(text), None)
    at = _line(*place) if place else where
    if "expected" in reason and "found" in reason and reason.startswith(f"{name}: "):
        return str(Report(reason, where=at))  # its result or an argument, and not the result type that was declared
    return cannot_compile(name, at, reason, hint)


def cannot_compile(name: str, where: str, reason: str, hint: str = INTERPRET) -> str:
    """Return the paragraph for a body that has no compiled form."""
    return str(Report(f"Numba cannot compile this: {reason}{f' ({hint})' if hint else ''}", name, where))


def _reason(text: str) -> tuple[str, str]:
    for pattern, said, hint in _RULES:
        found = re.search(pattern, text)
        if found:
            if said == "OPCODE":
                reason = _OPCODES.get(found[1], f"a construct of Python that Numba does not know ({found[1]})")
            else:
                reason = _signature(text) if said == "SIGNATURE" else found.expand(said)
            return _readable(reason), INTERPRET if hint is None else hint
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("Failed in nopython", "During:", "File ", "- Resolution"))]
    first = re.sub(r"\.?\s*Raised from .*", "", lines[0].rstrip(":")) if lines else "no reason given"
    return _readable(first), INTERPRET


def _signature(text: str) -> str:
    """Return what function has no form for what arguments, and why if Numba says so."""
    call = re.search(r">>> ([^\n]*)", text)
    name, _, arguments = (call.group(1) if call else "").partition("(")
    specific = re.findall(r"raised a specific error:\s+\w+: ([^\n]*)", text)
    why = next((reason for reason in specific if "nopython mode pipeline" not in reason), "")
    # Names with an underscore are Numba's own functions inside of what the user called.
    head = "" if not name or name.startswith("_") else f"no {_OPERATORS.get(name, name)} for ({arguments}"
    return ": ".join(part for part in (head, why) if part) or "a function that Numba does not know for these arguments"


def _readable(text: str) -> str:
    """Write Numba's types as the language does, and leave out what only Numba's developers understand."""

    def array(found: re.Match[str]) -> str:
        return f"{found.group(1)}[{','.join('?' * int(found.group(2)))}]"

    text = re.sub(r"(?:readonly )?(?:unaligned )?array\((\w+), (\d)d, \w+\)", array, text)
    text = re.sub(r"Literal\[(\w+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"OptionalType\((.*?)\)", r"\1 or None", text)
    text = re.sub(r"(?:iterator\()?sequence\((.*?), [tT]uple\((?:[^()]|\([^()]*\))*\)\)", r"\1*", text)
    text = re.sub(r"(?:reflected )?list\(([^()]*)\)(?:<iv=[^>]*>)?", r"list of \1", text)
    text = text.replace("unicode_type", "str").replace("UniTuple", "tuple")
    return " ".join(re.sub(r" at 0x[0-9a-f]+", "", text).split())


def _places(text: str) -> Iterator[tuple[str, int]]:
    """Yield the file and line of each place in the user's program that Numba names, the innermost first."""
    pattern = r'(?:\bat|\bfrom|File) "?([^"\n]+?\.py|<[^>\n]+>)"?(?:, line | \()(\d+)'
    for found in re.finditer(pattern, text):
        filename = found.group(1)
        if not _ours(filename):
            yield filename, int(found.group(2))


def _ours(filename: str) -> bool:
    """Tell whether a file is Numba's or fedmpi's own: generated code has no place in an error."""
    import numba

    if filename.startswith("<fedmpi"):
        return True
    path = os.path.abspath(filename)
    layers = [os.path.join(PACKAGE, layer) for layer in ("language", "local", "runtime")]
    return path.startswith(tuple(package + os.sep for package in (os.path.dirname(numba.__file__), *layers)))


def _line(filename: str, number: int) -> str:
    code = linecache.getline(filename, number).strip()
    return f"{os.path.basename(filename)}:{number}{': ' + code if code else ''}"


def not_compiled(computation: Any) -> str:
    """Say why compiled code cannot call a computation."""
    expression = getattr(computation, "expression", None)
    if expression is None:
        return f"{computation.name} has no declared parameter types: compiled code cannot call it"
    kind = "python_computation" if hasattr(expression, "impl") else "federated_computation"
    return f"{computation.name} is a {kind}: compiled code cannot call it"


# --- probes ----------------------------------------------------------------------------------------------------------

# Mistakes that no declared result would mend.
_DEFINITE = (AttributeError, KeyError, NameError, RecursionError)


def probe_refusal(name: str, where: str, error: Exception) -> str:
    """Return the paragraph for a body that raised on the probes: the cause, its line, and what to do."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _library(f.filename)]
    at = _line(frames[-1].filename, frames[-1].lineno or 0) if frames else where
    if "can't set attribute" in text or ("does not support item assignment" in text and "struct<" in text):
        return str(Report(CHANGED, name, at))
    if "read-only" in text or "does not support item assignment" in text:
        return str(Report(READ_ONLY, name, at))
    hint = "" if isinstance(error, _DEFINITE) else "\n  if it works on real arguments, declare the type with result=…"
    failed = "the result type cannot be inferred, running the function on small probes failed"
    return str(Report(f"{failed}: {type(error).__name__}: {text}{hint}", name, at))


def untyped_refusal(name: str, where: str, error: Exception) -> str:
    """Return the paragraph for a body whose result has no type."""
    hint = "" if isinstance(error, ReturnedNoneError | NotImplementedError) else "\n  declare it with result=…"
    return str(Report(f"the result type cannot be inferred: {getattr(error, 'text', error)}{hint}", name, where))


class ReturnedNoneError(TypeError):
    """The function returned None."""


def _library(filename: str) -> bool:
    return _ours(filename) or filename.startswith(
        (sys.prefix + os.sep, sys.base_prefix + os.sep, "<frozen", "<__array")
    )
