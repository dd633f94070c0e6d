"""Fork one daemon from the supervisor, which has everything imported already.

A fork costs 2 ms and shares the imported code's memory with the supervisor, where a new interpreter costs
300 ms and 20 MiB. The supervisor has a single thread and no event loop object with kernel state, so that
nothing of it can be disturbed from the child.
"""

import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import setproctitle
from aktis._common.config import AktisConfig
from aktis._common.daemon import CreateService, run_daemon

from aktisd.supervisor.prctl import die_with_parent

_RESET_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


@dataclass(frozen=True)
class DaemonSpec:
    """One daemon that the supervisor runs."""

    name: str
    create_service: CreateService


def fork_daemon(
    spec: DaemonSpec, config: AktisConfig, *, log_pipe: int, notify_socket: Path, close_fds: Iterable[int]
) -> int:
    """Fork the daemon and return its pid; never returns in the child.

    Args:
        log_pipe: write end of the pipe that becomes its stdout and stderr.
        notify_socket: where it says READY=1.
        close_fds: descriptors of the supervisor that the daemon must not hold.
    """
    parent_pid = os.getpid()
    pid = os.fork()
    if pid != 0:
        return pid
    _child(lambda: _become(spec, config, parent_pid, log_pipe, notify_socket, close_fds))
    raise AssertionError("the child has exited")


def _child(run: Callable[[], int]) -> None:
    """Run and exit, whatever happens: the child must never return into the supervisor's loop."""
    status = 1
    try:
        status = run()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stderr.flush()
            sys.stdout.flush()
        finally:
            os._exit(status)


def _become(
    spec: DaemonSpec,
    config: AktisConfig,
    parent_pid: int,
    log_pipe: int,
    notify_socket: Path,
    close_fds: Iterable[int],
) -> int:
    signal.set_wakeup_fd(-1)
    for number in _RESET_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    os.setpgid(0, 0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log_pipe, 1)
    os.dup2(log_pipe, 2)
    for fd in {null, log_pipe, *close_fds} - {0, 1, 2}:
        os.close(fd)
    # A supervisor that is killed cannot stop its daemons; they stop themselves.
    die_with_parent(signal.SIGTERM, parent_pid)
    setproctitle.setproctitle(f"aktis-{spec.name}")
    os.environ["NOTIFY_SOCKET"] = str(notify_socket)
    gc.enable()
    return run_daemon(spec.name, config, spec.create_service)


def freeze_heap() -> None:
    """Move everything imported so far out of the collector's sight.

    A collection in a forked child would write to every object's header and so unshare all of the memory.
    """
    gc.collect()
    gc.freeze()
