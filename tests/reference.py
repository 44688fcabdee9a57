"""What the pages take from the code: the rows of the table of operators, and the public names with their docstrings.

A page asks for it by a comment, ``<!-- operator federated_sum -->`` or ``<!-- names fedmpi.language.types -->``; the
text stands below it, down to ``<!-- end -->``, in plain Markdown, so that a page reads whole as a file and on the site.
``python -m tests.pages --write docs/operators.md`` brings it up to date, and a test fails where it is not.
"""

from __future__ import annotations

import base64
import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import fedmpi as fm
from fedmpi.language.operators.table import OPERATORS, Operator

# A mark, and what stands between it and its end.
MARK = re.compile(
    r"^<!-- (operator|arithmetic|names|members|index|rest|notebook|source) ?([^\n]*?) -->\n"
    r"(?:(?:(?!^<!-- ).)*^<!-- end -->\n)?",
    re.MULTILINE | re.DOTALL,
)
PAGES = Path(__file__).parents[1] / "docs"
NOTEBOOKS = PAGES.parent / "jobs" / "notebooks"
# They take whatever stands for a decorator's forms; their docstrings say which.
DECORATORS = (fm.federated_computation, fm.numba_computation, fm.python_computation)


def expanded(page: Path) -> str:
    """Return the text of a page with what its comments ask for as it is now."""
    writers: dict[str, Callable[..., Iterator[str]]] = {
        "operator": operator,
        "arithmetic": arithmetic,
        "names": names,
        "members": members,
        "index": index,
        "rest": rest,
        "notebook": notebook,
        "source": source,
    }

    def written(mark: re.Match[str]) -> str:
        words = " ".join(filter(None, mark.groups()))
        text = "\n".join(writers[mark[1]](*mark[2].split())).strip()
        text = re.sub(r"\n{3,}", "\n\n", text).replace("](" + page.name + "#", "](#")
        return f"<!-- {words} -->\n\n{text}\n\n<!-- end -->\n"

    return MARK.sub(written, page.read_text())


def pictures() -> dict[Path, bytes]:
    """Return the pictures that the pages of notebooks show, by their files."""
    return {
        PAGES / f"{path.stem}-{number}.png": base64.b64decode(data)
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        if (PAGES / f"{path.stem}.md").exists()
        for number, data in enumerate(_drawn(path.stem), 1)
    }


def operator(name: str) -> Iterator[str]:
    """Write the row of one operator."""
    row = OPERATORS[name]
    yield f"**`fm.{name}({', '.join(_parameters(row.rule))})`**"
    yield from _paragraphs(row.doc)
    for text in row.signature.split(", "):
        yield f"- Type: `{text}`"
    for parameter, words in _taken(row).items():
        yield f"- `{parameter}`: {words}"
    yield f"- Runs as: {row.runs}."


def arithmetic() -> Iterator[str]:
    """Write the rows of arithmetic and comparison as one table."""
    yield "| operator | type | what it computes |"
    yield "|---|---|---|"
    for row in OPERATORS.values():
        if not row.name.startswith(("federated_", "sequence_", "model_")):
            yield f"| `{row.name}` | `{row.signature}` | {row.doc} |"


def names(*modules: str) -> Iterator[str]:
    """Write the public names that are defined in modules of fedmpi, each with its docstring."""
    for name, value in sorted(public().items()):
        if _is_of(value, modules) and name not in OPERATORS:
            yield from _described(name, value)


def rest() -> Iterator[str]:
    """Write the public names that no other page asks for."""
    others = [name for name in public() if _place(name) == "api.md"]
    if others:
        yield "## Other names\n"
    for name in sorted(others):
        yield from _described(name, public()[name])


def index() -> Iterator[str]:
    """Write all public names as a table of links; that each of them is described, the links see to."""
    yield "| name | |"
    yield "|---|---|"
    for name, value in sorted(public().items(), key=lambda item: item[0].lower()):
        first = (inspect.getdoc(value) or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        yield f"| {_link(name)} | {_linked(first)} |"


def members(module: str) -> Iterator[str]:
    """Write the public names of a module of fedmpi, each with its docstring."""
    for name, value in sorted(vars(importlib.import_module(module)).items()):
        if not name.startswith("_") and not isinstance(value, ModuleType) and inspect.getdoc(value):
            yield from _described(f"{module.removeprefix('fedmpi.')}.{name}", value)


def source(module: str, *names: str) -> Iterator[str]:
    """Write the source of names of a module, or its whole file."""
    found = importlib.import_module(module)
    objects = [OPERATORS[name].rule if name in OPERATORS else getattr(found, name) for name in names] or [found]
    yield "```text"
    yield "\n\n\n".join(inspect.getsource(getattr(part, "function", part)).rstrip() for part in objects)
    yield "```"


def notebook(name: str) -> Iterator[str]:
    """Write the cells of a notebook and what they show."""
    pictures = 0
    for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
        text = "".join(cell["source"])
        yield text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        yield ""
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text")})
            if "image/png" in data:
                pictures += 1
                yield f"![what the cell draws]({name}-{pictures}.png)\n"
            else:
                yield f"```text\n{''.join(data['text/plain'])}\n```\n"


def _drawn(name: str) -> Iterator[str]:
    for cell in json.loads((NOTEBOOKS / f"{name}.ipynb").read_text())["cells"]:
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                yield output["data"]["image/png"]


def public() -> dict[str, Any]:
    """Return the public names of fedmpi, but for its modules."""
    ours = {name: value for name, value in vars(fm).items() if not name.startswith("_")}
    ours["kernel"] = fm.kernel  # made when it is asked for
    return {n: v for n, v in ours.items() if not isinstance(v, ModuleType) and _module(v).startswith("fedmpi.")}


def _is_of(value: Any, modules: Collection[str]) -> bool:
    return any(f"{_module(value)}.".startswith(f"{module}.") for module in modules)


def _module(value: Any) -> str:
    return getattr(value, "__module__", None) or type(value).__module__


def _taken(row: Operator) -> dict[str, str]:
    """Return what each parameter of an operator takes."""
    taken = {}
    for name, parameter in inspect.signature(row.rule).parameters.items():
        words = row.takes[name].value
        taken[name] = words if parameter.default is parameter.empty else f"{words}; it may be left out"
    return taken


def _parameters(function: Any) -> list[str]:
    """Return the parameters of a function without their annotations."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return []
    if function in DECORATORS:
        return ["..."]
    plain = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    return str(inspect.Signature(plain))[1:-1].split(", ")


def _paragraphs(doc: str) -> Iterator[str]:
    """Write a docstring."""
    yield from ("", *_linked(doc).splitlines(), "")


def _linked(doc: str) -> str:
    """Return a docstring whose public names lead to their places."""

    def link(quoted: re.Match[str]) -> str:
        name = quoted[1].removeprefix("fm.")
        return _link(name, quoted[1]) if name in public() else quoted[0]

    return re.sub(r"(?<!`)`([\w.]+)`(?!`)", link, doc)


def _link(name: str, shown: str = "") -> str:
    anchor = name if name in OPERATORS else f"fm{name}".lower()
    return f"[`{shown or f'fm.{name}'}`]({_place(name)}#{anchor})"


@functools.cache
def _place(name: str) -> str:
    """Return the page that describes a public name."""
    if name in OPERATORS:
        return "operators.md"
    for page in sorted(PAGES.glob("*.md")):
        for kind, words in MARK.findall(page.read_text()):
            if kind == "names" and _is_of(public()[name], words.split()):
                return page.name
    return "api.md"


def _described(name: str, value: Any) -> Iterator[str]:
    doc = inspect.getdoc(value) or ""
    is_error = isinstance(value, type) and issubclass(value, Exception)
    made = f"({', '.join(_parameters(value))})" if callable(value) and not is_error else ""
    yield f"### fm.{name}"
    yield ""
    yield f"**`fm.{name}{made}`**"
    yield from _paragraphs(doc)
    if isinstance(value, type):
        if "__new__" in vars(value):  # what the arguments of an immutable class may be
            yield from _paragraphs(inspect.getdoc(value.__new__) or "")
        yield from _members(value)


def _members(value: type) -> Iterator[str]:
    """Write the methods and properties of a class that it defines itself and that have a docstring."""
    for member, found in sorted(vars(value).items()):
        function = getattr(found, "__func__", found)
        if member.startswith(("_", "fedmpi_")) or not inspect.getdoc(function):
            continue
        if inspect.isfunction(function):
            parameters = [p for p in _parameters(function) if p not in ("self", "/", "cls")]
            text = f".{member}({', '.join(parameters)})"
        elif isinstance(found, property):
            text = f".{member}"
        else:
            continue
        first, _, more = _linked(inspect.getdoc(function) or "").partition("\n\n")
        yield f"- **`{text}`** {' '.join(first.split())}"
        if more:
            yield ""
            yield from (f"  {line}".rstrip() for line in more.splitlines())
    yield ""
