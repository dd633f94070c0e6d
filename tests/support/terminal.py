"""Programs on a terminal of their own, where Ctrl-C is pressed."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.clients import ROOT
from tests.support.sandbox import Sandbox

TIMEOUT_S: Final = 50.0
_CTRL_C: Final = b"\x03"


class Terminal:
    """The terminal of one program, from the side of who sits before it."""

    def __init__(self, sandbox: Sandbox, source: str) -> None:
        """Start a program; its standard streams and its controlling terminal are this one."""
        self._fd, child_side = pty.openpty()
        # Ctrl-C is for the session whose controlling terminal it is pressed on.
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.on_terminal", source],
            env=sandbox.env,
            cwd=ROOT,
            stdin=child_side,
            stdout=child_side,
            stderr=child_side,
            start_new_session=True,
        )
        os.close(child_side)
        self.text = ""
        self._deadline_s = time.monotonic() + TIMEOUT_S

    def wait_for(self, text: str, times: int = 1) -> None:
        """Read until the program has shown a text so many times."""
        while self.text.count(text) < times:
            assert self._read(), f"the program ended without showing {text!r}:\n{self.text}"

    def press_ctrl_c(self) -> None:
        """Press it once."""
        os.write(self._fd, _CTRL_C)

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self._fd, line.encode() + b"\n")

    def finish(self) -> int:
        """Read to the program's end; return its exit status."""
        while self._read():
            pass
        return self.process.wait(max(0.0, self._deadline_s - time.monotonic()))

    def close(self) -> None:
        """End the program if it has not ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._fd)

    def _read(self) -> bool:
        left_s = self._deadline_s - time.monotonic()
        assert select.select([self._fd], [], [], max(0.0, left_s))[0], f"nothing more came:\n{self.text}"
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # every process has closed the other side
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)


INTERRUPTED: Final = -signal.SIGINT
"""How Python ends after a KeyboardInterrupt that nobody has caught."""


@contextmanager
def on_terminal(sandbox: Sandbox, source: str) -> Iterator[Terminal]:
    """Run a program on a terminal."""
    terminal = Terminal(sandbox, source)
    try:
        yield terminal
    finally:
        terminal.close()
