"""A compile that takes more than a second is said, and at its end how long it took: nobody should wonder.

What compiles holds its thread, so another one looks after a second whether it is done.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from fedmpi.local.status import NOW

AFTER = 1.0  # seconds
_busy = threading.local()
_speak: Callable[[str], None] = print


def set_speaker(speak: Callable[[str], None]) -> None:
    """Let ``speak(text)`` say from now on what is announced; it decides where, and on which ranks."""
    global _speak
    _speak = speak


class _Watch:
    """What one thread compiles; a listener of Numba's, which tells compiling from loading."""

    def __init__(self, name: str) -> None:
        self.name, self.thread = name, threading.get_ident()
        self.began: float | None = None  # when it began to compile (`time.perf_counter`)
        self.waiting = False  # for another process to compile it
        self.done = False
        self.said = False
        self._timer: threading.Timer | None = None

    def notify(self, notice: Any) -> None:
        """Hear of an event of Numba's."""
        if notice.is_start and self.began is None and threading.get_ident() == self.thread:
            self.began = time.perf_counter()
            NOW.compiling, NOW.compiling_since = self.name, self.began
            self.look_later()

    def look_later(self) -> None:
        """Look in a second whether it is done."""
        self.stop()
        self._timer = threading.Timer(AFTER, contextvars.copy_context().run, [self._look])
        self._timer.daemon = True
        with contextlib.suppress(RuntimeError):  # no thread can be had: at the end it is said all the same
            self._timer.start()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self.done:
            return
        if self.began is not None:
            self.said = True
            _speak(f"compiling {self.name} …")
        elif self.waiting:
            _speak(f"waiting for another process that compiles {self.name} …")
        else:
            self.look_later()

    def end(self, *, well: bool) -> None:
        """Say how long it took, if that was long."""
        self.done = True
        self.stop()
        seconds = 0.0 if self.began is None else time.perf_counter() - self.began
        NOW.compiling, NOW.compiled = "", NOW.compiled + seconds
        if self.said or seconds > AFTER:
            _speak(f"compiled {self.name} in {seconds:.1f} s" if well else f"{self.name} is not compiled")


@contextlib.contextmanager
def announced(name: str) -> Iterator[None]:
    """Within the block, say what is compiled and for how long; what that needs compiled is a part of it."""
    from fedmpi.local.numba_parts.events import event

    if getattr(_busy, "now", None) is not None:
        yield
        return
    watch, well = _Watch(name), False
    _busy.now = watch
    event.Listener.register(_Watch)
    event.register("numba:compile", watch)
    watch.look_later()
    try:
        yield
        well = True
    finally:
        event.unregister("numba:compile", watch)
        _busy.now = None
        watch.end(well=well)


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Around waiting for another process to compile what is announced."""
    watch = getattr(_busy, "now", None)
    if watch is not None:
        watch.waiting = True
    try:
        yield
    finally:
        if watch is not None:
            watch.waiting = False


def announcing(dispatcher: Any, name: str) -> Any:
    """Return a dispatcher that announces what it compiles when it is called with arguments of new types."""
    compile_ = dispatcher.compile

    @functools.wraps(compile_)
    def compile_announced(signature: Any) -> Any:
        with announced(name):
            return compile_(signature)

    dispatcher.compile = compile_announced
    return dispatcher
