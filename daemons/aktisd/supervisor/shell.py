"""The supervisor's I/O: polls descriptors, feeds the machine, carries out what it decides.

One thread and `select.poll`, on purpose: the process forks daemons at any time, and neither a thread nor an
epoll descriptor survives a fork in good order.
"""

import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from aktis._common.config import AktisConfig
from aktis._common.logging import get_logger
from aktis._common.paths import remove_tree
from aktis._common.records import DaemonRecord, own_record
from aktis._common.sessions import CurrentCluster

from aktisd.supervisor.child import DaemonSpec, fork_daemon
from aktisd.supervisor.descendants import kill_all
from aktisd.supervisor.logfile import LogFile
from aktisd.supervisor.machine import (
    Finish,
    Instruction,
    Kill,
    Phase,
    Policy,
    ReportFailure,
    ReportReady,
    Spawn,
    SupervisorMachine,
    describe_status,
)
from aktisd.supervisor.notifications import NotifySocket
from aktisd.supervisor.prctl import become_subreaper

_KILL_TIMEOUT_S: Final = 2.0
_LOG_LINES_IN_REPORT: Final = 20


@dataclass(frozen=True)
class Options:
    """How this supervisor was started."""

    parent_fd: int | None = None
    """A pidfd of the parent or a pipe that it holds: readable once the parent has ended, however it ended."""
    ready_fd: int | None = None
    """Gets one line of JSON: that all is ready, or why not."""
    current_file: Path | None = None
    """Record of the user's current cluster, written when all is ready and removed at the end."""
    keep_session_dir: bool = False
    """Leave the session directory behind after a failure, for its logs."""


@dataclass
class _Child:
    spec: DaemonSpec
    log: LogFile
    pid: int | None = None
    log_fd: int | None = None
    status_text: str = ""


class Supervisor:
    """Runs the daemons until it is told to stop or cannot go on. Belongs to the main thread."""

    def __init__(self, config: AktisConfig, specs: Sequence[DaemonSpec], options: Options) -> None:
        """Prepare; ``specs`` are in the order in which the daemons stop. The layout must exist."""
        settings = config.supervisor
        policy = Policy(
            restart_limit=settings.restart_limit,
            restart_window_ms=round(settings.restart_window_s * 1000),
            restart_delay_ms=settings.restart_delay_ms,
            restart_delay_max_ms=settings.restart_delay_max_ms,
            ready_timeout_ms=round(settings.ready_timeout_s * 1000),
            stop_timeout_ms=round(settings.stop_timeout_s * 1000),
        )
        self._config = config
        self._layout = config.layout()
        self._options = options
        self._machine = SupervisorMachine([spec.name for spec in specs], policy)
        self._log = get_logger()
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._record_path = self._layout.daemon_record("supervisor")
        self._ready_fd = options.ready_fd
        self._failed = False
        self._finished: int | None = None
        self._record: DaemonRecord | None = None
        limit_bytes = config.logging.file_limit_bytes
        self._children = {
            spec.name: _Child(spec, LogFile(self._layout.log_dir / f"{spec.name}.log", limit_bytes))
            for spec in specs
        }
        self._notify = NotifySocket(self._layout.notify_socket)
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def _open_log(self, name: str) -> LogFile:
        return LogFile(self._layout.log_dir / f"{name}.log", self._config.logging.file_limit_bytes)

    def run(self) -> int:
        """Start everything, serve until the end, clean up; return the exit status."""
        become_subreaper()
        self._record = own_record("supervisor", 1)
        self._record.write(self._record_path)
        self._handle_signals()
        self._watch(self._wakeup_read, self._on_signals)
        self._watch(self._notify.fileno(), self._on_notifications)
        if self._options.parent_fd is not None:
            self._watch(self._options.parent_fd, self._on_parent)
        self._carry_out(self._machine.start(_now_ms()))
        while self._finished is None:
            self._step()
        return self._clean_up(self._finished)

    # ---- loop ----

    def _step(self) -> None:
        deadline_ms = self._machine.next_deadline_ms()
        timeout_ms = None if deadline_ms is None else max(0, deadline_ms - _now_ms())
        for fd, _ in self._poll.poll(timeout_ms):
            handler = self._handlers.get(fd)
            if handler is not None:
                handler()
        self._carry_out(self._machine.tick(_now_ms()))

    def _watch(self, fd: int, handler: Callable[[], None]) -> None:
        self._handlers[fd] = handler
        self._poll.register(fd, select.POLLIN)

    def _unwatch(self, fd: int) -> None:
        del self._handlers[fd]
        self._poll.unregister(fd)
        os.close(fd)

    def _handle_signals(self) -> None:
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
            # The wakeup descriptor gets the number; the handler only has to exist.
            signal.signal(number, lambda _number, _frame: None)

    # ---- events ----

    def _on_signals(self) -> None:
        numbers = os.read(self._wakeup_read, 4096)
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in numbers:
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stop(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                self._forward(signal.SIGHUP)

    def _forward(self, number: int) -> None:
        for child in self._children.values():
            if child.pid is not None:
                os.kill(child.pid, number)

    def _on_parent(self) -> None:
        assert self._options.parent_fd is not None
        self._unwatch(self._options.parent_fd)
        if self._machine.phase is not Phase.STOPPING:
            self._stop("parent ended")

    def _stop(self, why: str) -> None:
        self._log.info("stopping", why=why)
        self._carry_out(self._machine.stop(_now_ms()))

    def _reap(self) -> None:
        """Collect every child that has ended; orphans that were adopted need nothing more."""
        by_pid = {child.pid: child for child in self._children.values()}
        while True:
            try:
                pid, wait_status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = by_pid.get(pid)
            if child is not None:
                self._on_exit(child, os.waitstatus_to_exitcode(wait_status))

    def _on_exit(self, child: _Child, status: int) -> None:
        name = child.spec.name
        if child.log_fd is not None:
            child.log.copy_from(child.log_fd)
            self._unwatch(child.log_fd)
        self._log.info("daemon_exited", daemon=name, pid=child.pid, how=describe_status(status))
        child.pid = child.log_fd = None
        self._carry_out(self._machine.exited(name, status, _now_ms()))

    def _on_notifications(self) -> None:
        by_pid = {child.pid: child for child in self._children.values()}
        for notification in self._notify.receive():
            child = by_pid.get(notification.pid)
            if child is None:
                continue
            child.status_text = notification.fields.get("STATUS", child.status_text)
            if notification.fields.get("READY") == "1":
                self._log.info("daemon_ready", daemon=child.spec.name, pid=child.pid)
                self._carry_out(self._machine.ready(child.spec.name))

    def _on_log(self, child: _Child) -> None:
        if child.log_fd is not None and not child.log.copy_from(child.log_fd):
            self._unwatch(child.log_fd)
            child.log_fd = None

    # ---- instructions ----

    def _carry_out(self, instructions: Sequence[Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case Spawn(name):
                    self._spawn(self._children[name])
                case Kill(name, number):
                    self._kill(self._children[name], number)
                case ReportReady():
                    self._report_ready()
                case ReportFailure(name, reason):
                    self._report_failure(self._children[name], reason)
                case Finish(status):
                    self._finished = status

    def _spawn(self, child: _Child) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(read_end, False)
        close_fds = {
            *self._handlers,
            read_end,
            self._wakeup_write,
            *(c.log.fileno() for c in self._children.values()),
        }
        if self._ready_fd is not None:
            close_fds.add(self._ready_fd)
        child.status_text = ""
        child.pid = fork_daemon(
            child.spec,
            self._config,
            log_pipe=write_end,
            notify_socket=self._layout.notify_socket,
            close_fds=close_fds,
        )
        os.close(write_end)
        child.log_fd = read_end
        self._watch(read_end, lambda: self._on_log(child))
        self._log.info("daemon_started", daemon=child.spec.name, pid=child.pid)

    def _kill(self, child: _Child, number: int) -> None:
        if child.pid is not None:
            self._log.info(
                "signal_sent", daemon=child.spec.name, pid=child.pid, signal=signal.Signals(number).name
            )
            os.kill(child.pid, number)

    def _report_ready(self) -> None:
        records = [DaemonRecord.read(self._layout.daemon_record(name)) for name in self._children]
        daemons = [asdict(record) for record in records if record is not None]
        assert self._record is not None
        self._record = replace(self._record, state="running")
        self._record.write(self._record_path)
        if self._options.current_file is not None:
            cluster = CurrentCluster(str(self._layout.root), self._record.pid, self._record.start_ticks)
            cluster.write(self._options.current_file)
        self._report({"status": "ready", "session_dir": str(self._layout.root), "daemons": daemons})

    def _report_failure(self, child: _Child, reason: str) -> None:
        self._failed = True
        self._log.error("daemon_failed", daemon=child.spec.name, reason=reason)
        detail = (
            child.status_text.removeprefix("error: ") if child.status_text.startswith("error: ") else reason
        )
        log = child.log.tail()[-_LOG_LINES_IN_REPORT:]
        self._report({"status": "error", "daemon": child.spec.name, "message": detail, "log": log})

    def _report(self, message: dict[str, Any]) -> None:
        """Write the one line that the starter waits for; only the first report has a reader."""
        if self._ready_fd is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ready_fd, json.dumps(message).encode() + b"\n")
        os.close(self._ready_fd)
        self._ready_fd = None

    # ---- end ----

    def _clean_up(self, status: int) -> int:
        signal.set_wakeup_fd(-1)
        left = kill_all(_KILL_TIMEOUT_S)
        if left:
            self._log.error("processes_left", pids=left)
            status = status or 1
        early = {"status": "error", "daemon": "", "message": "stopped before it was ready", "log": []}
        self._report(early)
        self._notify.close()
        for child in self._children.values():
            child.log.close()
        self._record_path.unlink(missing_ok=True)
        self._forget_current()
        if self._config.paths.session_dir is not None and not (
            self._failed and self._options.keep_session_dir
        ):
            remove_tree(self._layout.root)
        return status

    def _forget_current(self) -> None:
        """Remove the record of the current cluster unless another one has taken its place."""
        path = self._options.current_file
        current = CurrentCluster.read(path) if path is not None else None
        if path is not None and current is not None and current.session_dir == str(self._layout.root):
            path.unlink(missing_ok=True)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
