"""Start a cluster below this process, and end it without a trace.

Imports neither grpc nor pydantic: it runs in the user's process, where every millisecond of ``init`` counts.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aktis._common.paths import SessionPaths, create_session, current_cluster_file, read_token, remove_tree
from aktis._common.records import DaemonRecord
from aktis._common.sessions import sweep_stale
from aktis._interrupts import HeldInterrupts, interrupts_let_through

STOP_TIMEOUT_S: Final = 6.0
_KILL_TIMEOUT_S: Final = 2.0
_DAEMONS: Final = ("raylet", "plasma", "gcs")


class ClusterStartError(RuntimeError):
    """The cluster could not start; the message has the reason and the last log lines of the daemon."""


class ClusterStopError(RuntimeError):
    """Something of the cluster could not be removed; the message names it."""


@dataclass(frozen=True)
class LaunchOptions:
    """How to start a cluster."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """Settings by dotted key, for example ``{"raylet.num_cpus": 2, "plasma.capacity_bytes": 2**30}``."""
    config_file: Path | None = None
    """TOML file; default /etc/aktis/aktis.toml when it exists."""
    detached: bool = False
    """Outlive this process, as the user's current cluster (``aktis start``)."""
    ready_timeout_s: float = 30.0
    """How long to wait until every daemon is ready."""


class EmbeddedCluster:
    """A running cluster that this process started. Methods may be called from any thread, one at a time."""

    def __init__(self, process: subprocess.Popen[bytes], paths: SessionPaths) -> None:
        """Take over a supervisor that has reported that everything is ready; made by `launch`."""
        self._process = process
        self._creator_pid = os.getpid()
        self._stopped = False
        self.paths = paths
        """Where its files lie."""
        self.token = read_token(paths.token_file)
        """The cluster's secret."""

    @property
    def raylet_address(self) -> str:
        """The raylet's wire address."""
        return f"unix:{self.paths.raylet_socket}"

    @property
    def gcs_address(self) -> str:
        """The GCS's gRPC address."""
        return f"unix:{self.paths.gcs_socket}"

    @property
    def supervisor_pid(self) -> int:
        """The supervisor's process id."""
        return self._process.pid

    def is_alive(self) -> bool:
        """Say whether the supervisor still runs."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait for the end of the cluster, without a limit: it is a foreground command that waits.

        Returns the supervisor's exit status.
        """
        self._stopped = True
        return self._process.wait()

    def detach(self) -> None:
        """Leave the cluster running when this object goes; `shutdown` does nothing any more."""
        self._stopped = True
        # Otherwise Popen warns about a child that nobody waits for; it is init's as soon as we end.
        self._process.returncode = 0

    def shutdown(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Stop every process of the cluster and remove its directory. A second call does nothing.

        In a forked child of the process that started the cluster this does nothing either.

        Raises:
            ClusterStopError: something is left after ``timeout_s`` and a forced end.
        """
        if self._stopped or os.getpid() != self._creator_pid:
            return
        self._stopped = True
        _end_supervisor(self._process, self.paths, timeout_s)


class StartingCluster:
    """A supervisor that has been started and has not reported yet; made by `begin_launch`."""

    def __init__(
        self, process: subprocess.Popen[bytes], ready_fd: int, options: LaunchOptions, paths: SessionPaths
    ) -> None:
        self._process = process
        self._ready_fd = ready_fd
        self._options = options
        self._paths = paths

    def wait(self) -> EmbeddedCluster:
        """Wait until every daemon is ready. Call it exactly once.

        Raises:
            ClusterStartError: with the reason; nothing is left behind.
        """
        try:
            _wait_until_ready(self._process, self._ready_fd, self._paths, self._options.ready_timeout_s)
            return EmbeddedCluster(self._process, self._paths)
        except BaseException:
            _end_supervisor(self._process, self._paths, STOP_TIMEOUT_S)
            raise
        finally:
            os.close(self._ready_fd)

    def abandon(self) -> None:
        """End it instead of waiting for it."""
        os.close(self._ready_fd)
        _end_supervisor(self._process, self._paths, STOP_TIMEOUT_S)


def launch(options: LaunchOptions) -> EmbeddedCluster:
    """Start a supervisor with its daemons and wait until every one is ready.

    Raises:
        ClusterStartError: with the reason; nothing is left behind.
    """
    return begin_launch(options).wait()


def begin_launch(options: LaunchOptions) -> StartingCluster:
    """Start a supervisor and return at once, so that the caller can import what it needs meanwhile.

    Raises:
        ClusterStartError: the session directory or the process cannot be created; nothing is left behind.
    """
    try:
        sweep_stale()
        paths = create_session()
    except (OSError, ValueError) as error:
        raise ClusterStartError(f"cannot create a session directory: {error}") from error
    try:
        process, ready_fd = _spawn(options, paths)
    except OSError as error:
        remove_tree(paths.root)
        raise ClusterStartError(f"cannot start the supervisor: {error}") from error
    return StartingCluster(process, ready_fd, options, paths)


def _spawn(options: LaunchOptions, paths: SessionPaths) -> tuple[subprocess.Popen[bytes], int]:
    """Start the supervisor; return it and the pipe on which it reports."""
    ready_read, ready_write = os.pipe()
    pass_fds = [ready_write]
    # -P: a module in the user's working directory must not shadow one that the daemons import.
    command = [sys.executable, "-P", "-m", "aktisd.supervisor", "--session-dir", str(paths.root)]
    command += ["--settings", json.dumps(dict(options.settings)), "--ready-fd", str(ready_write)]
    if options.config_file is not None:
        command += ["--config", str(options.config_file.absolute())]
    if options.detached:
        # Nobody waits for its end, so its logs must tell why it ended; the next start sweeps them away.
        command += ["--current-file", str(current_cluster_file()), "--keep-session-dir"]
    else:
        # A pidfd rather than a pipe: a child forked by the user's code would keep a pipe open.
        pass_fds.append(os.pidfd_open(os.getpid()))
        command += ["--parent-fd", str(pass_fds[-1])]
    try:
        with (paths.log_dir / "supervisor.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C in the terminal is for the driver alone
            )
    except BaseException:
        os.close(ready_read)
        raise
    finally:
        for fd in pass_fds:
            os.close(fd)
    return process, ready_read


def _wait_until_ready(
    process: subprocess.Popen[bytes], ready_fd: int, paths: SessionPaths, timeout_s: float
) -> None:
    line = _read_line(ready_fd, timeout_s)
    if line is None:
        raise ClusterStartError(f"the cluster was not ready within {timeout_s:g} s; see {paths.log_dir}")
    if not line:
        log = (paths.log_dir / "supervisor.log").read_text(errors="replace")[-4096:]
        raise ClusterStartError(f"the supervisor (process {process.pid}) ended before it was ready:\n{log}")
    report: dict[str, Any] = json.loads(line)
    if report["status"] != "ready":
        raise ClusterStartError(_explain(report))


def _explain(report: dict[str, Any]) -> str:
    who = f"aktis-{report['daemon']}: " if report["daemon"] else ""
    text = f"the cluster cannot start: {who}{report['message']}"
    # A refusal says all in one line; after a crash the traceback is what helps.
    lines = [line for line in report["log"] if report["message"] not in line]
    return text + "".join(f"\n  {line}" for line in lines)


def _read_line(fd: int, timeout_s: float) -> bytes | None:
    """Return a line, or what came before the end of the file, or None when the time is up."""
    deadline_s = time.monotonic() + timeout_s
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    data = b""
    while not data.endswith(b"\n"):
        with interrupts_let_through():
            if not poller.poll(max(0.0, deadline_s - time.monotonic()) * 1000):
                return None
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _end_supervisor(process: subprocess.Popen[bytes], paths: SessionPaths, timeout_s: float) -> None:
    """Stop a supervisor; when it does not stop, or was killed, do its work for it."""
    # Somebody who is in a hurry gets a quicker end: a second SIGTERM has the supervisor use force.
    with HeldInterrupts(on_interrupt=process.terminate):
        _end_daemons(process, paths, timeout_s)


def _end_daemons(process: subprocess.Popen[bytes], paths: SessionPaths, timeout_s: float) -> None:
    records = [DaemonRecord.read(paths.daemon_record(name)) for name in _DAEMONS]
    process.terminate()
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    # Without a supervisor the daemons stop by themselves; none is left after one that ended in good order.
    deadline_s = time.monotonic() + timeout_s
    left = [record for record in records if record is not None and not _ends_by(record, deadline_s)]
    remove_tree(paths.root)
    if left:
        names = ", ".join(f"aktis-{record.name} (process {record.pid})" for record in left)
        raise ClusterStopError(f"{names} survived SIGKILL: see `ps -o pid,stat,wchan` for what holds it")


def _ends_by(record: DaemonRecord, deadline_s: float) -> bool:
    """Wait for the end of a daemon until the deadline, then kill it; return whether it has ended."""
    if wait_for_end(record, max(0.0, deadline_s - time.monotonic())):
        return True
    with contextlib.suppress(ProcessLookupError):
        os.kill(record.pid, signal.SIGKILL)
    return wait_for_end(record, _KILL_TIMEOUT_S)


def wait_for_end(record: DaemonRecord, timeout_s: float) -> bool:
    """Wait until the process of a record has ended; return whether it has."""
    try:
        fd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        if not record.is_alive():
            return True
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(timeout_s * 1000))
    finally:
        os.close(fd)
