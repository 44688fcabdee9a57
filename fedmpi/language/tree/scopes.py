"""The bodies that are being traced: a stack of scopes, innermost last."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fedmpi.language.errors import ContextError, LeakedValueError, Report
from fedmpi.language.tree.expressions import Expr, Ref, Select
from fedmpi.language.types import StructType


class Scope:
    """The body of one function while it is traced: its locals so far, in order.

    ``labels`` says what the user calls an expression, for error texts.
    """

    def __init__(self, name: str, where: str, parent: Scope | None) -> None:
        self.name = name
        self.where = where
        self.parent = parent
        self.open = False
        self.locals: list[tuple[str, Expr]] = []
        self.labels: dict[Expr, str] = {}
        self._taken: set[str] = set() if parent is None else parent._taken

    def chain(self) -> Iterator[Scope]:
        """Yield this scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope.parent

    def is_around(self, scope: Scope | None) -> bool:
        """Say whether this body is still being traced and ``scope`` is it or stands inside of it."""
        return self.open and scope is not None and any(each is self for each in scope.chain())

    def fresh(self, name: str) -> str:
        """Return ``name``, or ``name_1`` and so on if a scope around or beside this one has it."""
        text, n = name, 0
        while text in self._taken:
            n += 1
            text = f"{name}_{n}"
        self._taken.add(text)
        return text

    def bind(self, expr: Expr, label: str = "") -> Ref:
        """Make ``expr`` the next local, so that it is computed once, and return its name."""
        ref = Ref(self.fresh(f"fc_{self.name}_symbol_{len(self.locals)}"), expr.type)
        self.locals.append((ref.name, expr))
        if label:
            self.labels[ref] = label
        return ref

    def describe(self, expr: Expr) -> str:
        """Return what the user calls an expression of this scope or of those around it."""
        for scope in self.chain():
            if expr in scope.labels:
                return scope.labels[expr]
        if isinstance(expr, Select):
            struct = getattr(expr.source.type, "member", expr.source.type)
            name = struct.items()[expr.index][0] if isinstance(struct, StructType) else None
            source = self.describe(expr.source)
            if name is not None:
                return f"{source}.{name}" if source != "a value" else name
        return "a value"


_CURRENT: ContextVar[Scope | None] = ContextVar("fedmpi_scope", default=None)


def current_scope() -> Scope | None:
    """Return the innermost body that is being traced here, None outside of all."""
    return _CURRENT.get()


@contextmanager
def entered(scope: Scope | None) -> Iterator[None]:
    """Trace into ``scope``; with None, run Python code as if no body were being traced."""
    token = _CURRENT.set(scope)
    was_open = scope is not None and scope.open
    if scope is not None:
        scope.open = True
    try:
        yield
    finally:
        if scope is not None:
            scope.open = was_open
        _CURRENT.reset(token)


def tracing_scope(what: str) -> Scope:
    """Return the body that is being traced; raise `ContextError` outside of all."""
    scope = current_scope()
    if scope is None:
        report = Report.here(
            f"{what} can be used only inside a federated computation",
            "put it into a function decorated with @fm.federated_computation",
        )
        raise ContextError(str(report))
    return scope


def leaked(owner: Scope, what: str) -> LeakedValueError:
    """Return the error for the use of something that belongs to a body which is not being traced here."""
    report = Report.here(
        f"{what} belongs to the computation {owner.name} ({owner.where}) and cannot be used outside of it",
        f"return it from {owner.name}, or make it a parameter of the computation that uses it",
    )
    return LeakedValueError(str(report))
