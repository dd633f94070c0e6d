"""What workers print, shown by the driver: each line with who said it, coloured on a terminal."""

import sys
import zlib
from typing import Final, TextIO

from aktis._proto import raylet_pb2

_COLOURS: Final = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)


def format_line(line: raylet_pb2.LogLine, colour: bool) -> str:
    """Return a line as the driver shows it, without the line end."""
    prefix = f"({line.label or 'worker'} pid={line.pid})"
    if colour:
        # One colour per process, the same in every run of the same pid.
        code = 31 if line.is_stderr else _COLOURS[zlib.crc32(str(line.pid).encode()) % len(_COLOURS)]
        prefix = f"\x1b[{code}m{prefix}\x1b[0m"
    repeated = f" [repeated {line.repeats} times]" if line.repeats > 1 else ""
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
    return stream.isatty()
