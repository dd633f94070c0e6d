"""The commands of the README's cluster without a supervisor, as they stand there."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aktis._common.paths import SessionPaths
from aktis._common.records import DaemonRecord

from tests.support.clients import ROOT, output, run_program
from tests.support.sandbox import Sandbox

DIRECTORY = "/tmp/my-cluster"
DAEMONS = ("gcs", "plasma", "raylet")
START_LIMIT_S = 30.0


def commands_after(text: str) -> str:
    """Return the first indented block of the README that comes after a text."""
    _, found, rest = (ROOT / "README.md").read_text().partition(text)
    assert found
    block = re.search(r"(?:^(?:    .*)?\n)+?(?=\S)", rest[rest.index("\n\n") :], re.MULTILINE)
    assert block is not None
    return "\n".join(line[4:] for line in block[0].splitlines()).strip()


class ByHand:
    """The README's commands with a directory of the sandbox in place of the one in /tmp."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.directory = sandbox.base / "mine"
        self._sandbox = sandbox
        self._notify = sandbox.base / "notify"
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = {**sandbox.env, "PATH": programs, "NOTIFY_SOCKET": str(self._notify)}

    def here(self, commands: str) -> str:
        return commands.replace(DIRECTORY, str(self.directory))

    def shell(self, commands: str) -> subprocess.Popen[str]:
        command = ["bash", "-c", self.here(commands)]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self._sandbox.base, env=self._env, text=True, stdout=pipe, stderr=pipe
        )

    @contextmanager
    def running(self, start: str) -> Iterator[None]:
        """Run the commands that start the daemons; afterwards all must stop cleanly on SIGTERM."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(self._notify))
            shell = self.shell(f"set -e\n{start}\nfor job in $(jobs -p); do wait $job; done")
            try:
                wait_ready(notify)
                yield
            finally:
                for name in DAEMONS:
                    record = DaemonRecord.read(SessionPaths.in_session(self.directory).daemon_record(name))
                    if record is not None:
                        os.kill(record.pid, signal.SIGTERM)
                _, log = shell.communicate(timeout=30)
        assert shell.returncode == 0, log
        shutil.rmtree(self.directory)
        self._notify.unlink()
        (self._sandbox.base / "my-cluster.toml").unlink()


def wait_ready(notify: socket.socket) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    waiting = len(DAEMONS)
    while waiting:
        notify.settimeout(max(0.01, deadline - time.monotonic()))
        waiting -= b"READY=1" in notify.recv(4096)


def test_three_daemons_by_hand(sandbox: Sandbox) -> None:
    start = commands_after("Without the supervisor each daemon")
    status = commands_after("They may start in any order")
    join = re.search(r"A driver joins with `(aktis\.init\(.*\))`", (ROOT / "README.md").read_text())
    assert all(f"\naktis-{name} --config" in start for name in DAEMONS)
    assert "aktis status" in status
    assert join is not None
    by_hand = ByHand(sandbox)
    with by_hand.running(start):
        shell = by_hand.shell(status)
        shown, errors = shell.communicate(timeout=50)
        assert shell.returncode == 0, errors
        assert "ALIVE" in shown
        program = f"import aktis\n{by_hand.here(join[1])}\nprint(aktis.get(aktis.remote(lambda: 7).remote()))"
        assert output(run_program(sandbox, program)) == "7\n"
