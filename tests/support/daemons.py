"""Real daemons of one session without a supervisor, for tests of a single daemon."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from aktis._common.paths import SessionPaths, create_session, remove_tree

from tests.support.sandbox import Sandbox, wait_for_exit


class Daemons:
    """Starts daemons, waits for their readiness, ends them. The session lies in the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.paths: SessionPaths = create_session()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Daemons":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything and remove the session; what does not stop cleanly fails the test."""
        try:
            self.stop()
        finally:
            for process in self._running.values():
                process.kill()
                process.wait()
            remove_tree(self.paths.root)

    @property
    def token(self) -> str:
        """The session's secret."""
        return self.paths.token_file.read_text().strip()

    def start(self, name: str, *settings: str) -> None:
        """Start ``python -m aktisd.<name>`` and return when it is ready."""
        notify = self.paths.root / f"notify-{name}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notify))
            command = [sys.executable, "-m", f"aktisd.{name}", "--session-dir", str(self.paths.root)]
            for setting in settings:
                command += ["--set", setting]
            log = self.log_file(name)
            with log.open("ab") as out:
                self._running[name] = subprocess.Popen(
                    command, env={**self._sandbox.env, "NOTIFY_SOCKET": str(notify)}, stderr=out
                )
            self._wait_ready(name, manager)
        notify.unlink()

    def _wait_ready(self, name: str, manager: socket.socket) -> None:
        pidfd = os.pidfd_open(self._running[name].pid)
        deadline = time.monotonic() + 20.0
        try:
            while True:
                left_s = deadline - time.monotonic()
                descriptors = [manager.fileno(), pidfd]
                ready = select.select(descriptors, [], [], max(0.0, left_s))[0]
                if manager.fileno() in ready and b"READY=1" in manager.recv(65536):
                    return
                if pidfd in ready or not ready:
                    raise AssertionError(f"{name} is not ready:\n{self.log_file(name).read_text()}")
        finally:
            os.close(pidfd)

    def log_file(self, name: str) -> Path:
        """What a daemon logs."""
        return self.paths.log_dir / f"{name}.log"

    def events(self, name: str) -> list[str]:
        """The events that a daemon has logged."""
        return [json.loads(line)["event"] for line in self.log_file(name).read_text().splitlines()]

    def pid(self, name: str) -> int:
        """The process of a daemon."""
        return self._running[name].pid

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a daemon."""
        self._running[name].send_signal(number)

    def wait(self, name: str, timeout_s: float = 10.0) -> int:
        """Wait until a daemon has ended; its exit status."""
        assert wait_for_exit(self.pid(name), timeout_s), f"{name} does not end"
        return self._running.pop(name).wait()

    def stop(self) -> None:
        """SIGTERM to all, raylet first; all must end cleanly."""
        for name in sorted(self._running, key=("raylet", "plasma", "gcs").index):
            self.signal(name, signal.SIGTERM)
            status = self.wait(name)
            assert status == 0, f"{name} ended with {status}:\n{self.log_file(name).read_text()}"
