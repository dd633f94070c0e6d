"""Ctrl-C while something begins or ends that must not stop halfway.

Only the main thread gets KeyboardInterrupt, between any two steps of whatever it runs. What starts processes
or ends them holds it back until nothing can be left behind, and lets it through where it waits.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

_Handler = Callable[[int, FrameType | None], Any]

_innermost: "HeldInterrupts | None" = None


class HeldInterrupts:
    """Holds SIGINT back in a ``with`` block of the main thread; then the program's own handler gets it.

    Does nothing in other threads, and where SIGINT is ignored or kills.
    """

    def __init__(self, *, on_interrupt: Callable[[], object] | None = None, deliver: bool = True) -> None:
        """Call ``on_interrupt`` for every SIGINT that is held back; ``deliver=False``: drop them."""
        self.pending = False
        self._let_through = False
        self._on_interrupt = on_interrupt
        self._deliver = deliver
        self._outer: HeldInterrupts | None = None
        self._before: _Handler | None = None

    def __enter__(self) -> Self:
        global _innermost
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                self._before = before
                signal.signal(signal.SIGINT, self._on_signal)
                self._outer, _innermost = _innermost, self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _innermost
        if self._before is None:
            return
        _innermost = self._outer
        signal.signal(signal.SIGINT, self._before)
        if self.pending and self._deliver and kind is None:
            self._before(signal.SIGINT, None)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._let_through and self._before is not None:
            self._before(number, frame)
            return
        self.pending = True
        if self._on_interrupt is not None:
            self._on_interrupt()


@contextmanager
def interrupts_let_through() -> Iterator[None]:
    """Let KeyboardInterrupt come in a block, also what was held back; where none is held, as ever."""
    held = _innermost if threading.current_thread() is threading.main_thread() else None
    if held is None or held._before is None:
        yield
        return
    held._let_through = True
    try:
        if held.pending:
            held.pending = False
            held._before(signal.SIGINT, None)
        yield
    finally:
        held._let_through = False
