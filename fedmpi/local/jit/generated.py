"""Generated Python code: whoever looks at a traceback, a warning or a profile through it sees its lines."""

from __future__ import annotations

import hashlib
import linecache
import types
from collections.abc import Callable
from typing import Any


def code_of(text: str, title: str) -> types.CodeType:
    """Compile a text; ``title`` says what it is the code of, and stands in its file name."""
    filename = f"<fedmpi {title} {hashlib.sha256(text.encode()).hexdigest()[:8]}>"
    linecache.cache[filename] = len(text), None, text.splitlines(keepends=True), filename
    return compile(text, filename, "exec")


def generated_function(name: str, parameters: str, body: str, scope: dict[str, Any]) -> Callable[..., Any]:
    """Return the function of a text, which finds in ``scope`` what it names."""
    scope["__name__"] = __name__  # Numba's cache asks for the module of every function
    exec(code_of(f"def {name}({parameters}):\n{body}", name), scope)
    made: Callable[..., Any] = scope[name]
    return made
