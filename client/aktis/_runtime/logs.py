"""What workers print, shown by the driver: each line with who said it, coloured on a terminal."""

import contextlib
import functools
import os
import sys
import threading
import zlib
from collections.abc import Callable
from typing import Final, TextIO

from aktis._proto import raylet_pb2
from aktis._runtime.errands import Errands

_COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)

MAX_QUEUED: Final = 1000
"""Batches and messages that wait for a reader of ours; what comes beyond is counted and left out."""
CLOSE_TIMEOUT_S: Final = 2.0


class Printer:
    """Prints on a thread of its own, in order: a pipe that nobody reads must only hold up that thread."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._errands = Errands("print", max_threads=1, max_queued=MAX_QUEUED)
        self._lock = threading.Lock()
        self._dropped = 0
        self.shows_workers = False
        """Whether the raylet sends what workers print."""

    def show(self, batch: raylet_pb2.LogBatch) -> None:
        """Show what workers printed."""
        self._run(functools.partial(print_batch, batch), len(batch.lines))

    def complain(self, message: str) -> None:
        """Tell the user something on stderr."""
        self._run(functools.partial(_complain, message), 1)

    def close(self) -> None:
        """Wait a little for what is still to be printed."""
        self._errands.finish(CLOSE_TIMEOUT_S)

    def _run(self, step: Callable[[], None], lines: int) -> None:
        def print_it() -> None:
            # The program may have closed its output: nobody is left to show anything to.
            with contextlib.suppress(OSError, ValueError):
                print_what_came()

        def print_what_came() -> None:
            with self._lock:
                dropped, self._dropped = self._dropped, 0
            if dropped:
                _complain(
                    f"{dropped} lines were left out because what this program prints is read too slowly"
                )
            step()

        try:
            self._errands.run(print_it)
        except RuntimeError:
            with self._lock:
                self._dropped += lines


def _complain(message: str) -> None:
    if sys.stderr is not None:
        print(f"aktis: {message}", file=sys.stderr, flush=True)


def format_line(line: raylet_pb2.LogLine, colour: bool) -> str:
    """Return a line as the driver shows it, without the line end."""
    prefix = f"({line.label or 'worker'} pid={line.pid})"
    if colour:
        # One colour per process, the same in every run of the same pid.
        code = 31 if line.is_stderr else _COLOURS[zlib.crc32(str(line.pid).encode()) % len(_COLOURS)]
        prefix = f"\x1b[{code}m{prefix}\x1b[0m"
    repeated = f" [repeated {line.repeats}x across cluster]" if line.repeats > 1 else ""
    return f"{prefix} {line.text}{repeated}"


def print_batch(batch: raylet_pb2.LogBatch) -> None:
    """Show a batch: stdout lines on stdout, stderr lines on stderr."""
    for line in batch.lines:
        stream: TextIO | None = sys.stderr if line.is_stderr else sys.stdout
        if stream is not None:
            print(format_line(line, _is_terminal(stream)), file=stream)
    if batch.dropped and sys.stderr is not None:
        print(f"aktis: {batch.dropped} lines of worker output were left out", file=sys.stderr)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _is_terminal(stream: TextIO) -> bool:
    """Whether colours can be shown and are wanted (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR")
