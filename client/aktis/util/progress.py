"""How far a loop over references, or over anything else, has come: a bar in a terminal, lines in a log."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

import aktis
from aktis.util.completion import as_completed

LOG_INTERVAL_S: Final = 10.0


def progress(
    items: Iterable[Any],
    description: str = "tasks",
    *,
    total: int | None = None,
    file: TextIO | None = None,
    log_interval_s: float = LOG_INTERVAL_S,
) -> Iterator[Any]:
    """Yield the values of references as they become ready, and show how many there have been.

    In a terminal that is a bar. Elsewhere, in a log file or in a worker, it is a line now and then.

    Args:
        items: A list of references; or anything else, whose items are yielded as they are.
        description: What is being done.
        total: How many items there will be, when their number is not known.
        file: Where to show it; default: standard error.
        log_interval_s: Seconds between two lines at least, where it is lines.

    Raises:
        Exception: what a task raised, when its turn comes.

    Example:
        >>> @aktis.remote
        ... def double(value):
        ...     return 2 * value
        >>> sum(progress([double.remote(n) for n in range(10)], "doubling", file=sys.stdout))
        doubling: 10 of 10 ...
        90
    """
    known = len(items) if total is None and isinstance(items, Sized) else total
    refs = list(items) if isinstance(items, list | tuple) else []
    if refs and all(isinstance(ref, aktis.ObjectRef) for ref in refs):
        items = as_completed(refs)
    out = sys.stderr if file is None else file
    if out.isatty():
        return _shown(items, _Bar(description, known, out))
    return _shown(items, LogLines(description, known, out, log_interval_s))


class _Display(AbstractContextManager["_Display"], Protocol):
    def advance(self) -> None:
        """One more is done."""


def _shown(items: Iterable[Any], display: _Display) -> Iterator[Any]:
    with display:
        for item in items:
            display.advance()
            yield item


class _Bar:
    """A bar with counts and times. Belongs to the thread that iterates."""

    def __init__(self, description: str, total: int | None, file: TextIO) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(file=file),
        )
        self._task = self._progress.add_task(description, total=total)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self) -> None:
        """One more is done."""
        self._progress.advance(self._task)


class LogLines:
    """A line at most every so often, and one at the end. Belongs to the thread that iterates."""

    def __init__(
        self,
        description: str,
        total: int | None,
        file: TextIO,
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show ``description`` and counts in ``file``."""
        self._description = description
        self._total = total
        self._file = file
        self._interval_s = interval_s
        self._clock = clock
        self._done = 0
        self._start_s = self._due_s = 0.0

    def __enter__(self) -> Self:
        self._start_s = self._clock()
        self._due_s = self._start_s + self._interval_s
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        how = "" if kind is None or kind is GeneratorExit else f", ended by {kind.__name__}"
        self._show(f" in {_duration(self._clock() - self._start_s)}{how}")

    def advance(self) -> None:
        """One more is done."""
        self._done += 1
        now_s = self._clock()
        if now_s < self._due_s:
            return
        self._due_s = now_s + self._interval_s
        spent_s = now_s - self._start_s
        left = ""
        if self._total:
            left = f", {_duration(spent_s / self._done * max(0, self._total - self._done))} left"
        self._show(f" after {_duration(spent_s)}, {self._done / spent_s:.3g} per second{left}")

    def _show(self, rest: str) -> None:
        count = str(self._done) if self._total is None else f"{self._done} of {self._total}"
        print(f"{self._description}: {count}{rest}", file=self._file, flush=True)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02} min"
