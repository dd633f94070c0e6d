"""The shell around `Environments`: fetches descriptions, runs set-ups, removes what is not needed.

Belongs to the loop and never blocks it: set-ups and removals are processes of their own.
"""

import asyncio
import itertools
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aktis._common.environments import KV_NAMESPACE, MAX_DESCRIPTION_BYTES, Environment
from aktis._common.logging import get_logger
from aktis._proto import gcs_pb2

from aktisd.raylet import messages as m
from aktisd.raylet.environments.setup import READY_SUFFIX, Prepared
from aktisd.raylet.processes import kill_group, kill_sessions, read_tail

FETCH_TIMEOUT_S: Final = 30.0
MAX_SETUPS: Final = 4
"""At one time; more wait."""
OUTPUT_TAIL_BYTES: Final = 16 * 1024
LABEL: Final = "runtime_env"

GcsCall = Callable[[str, bytes, float, Callable[[gcs_pb2.RelayReply], None]], None]


@dataclass(frozen=True, slots=True)
class SetupCommand:
    """How set-ups are started."""

    cache: Path
    log_dir: Path
    gcs_address: str
    token_file: str
    environ: Mapping[str, str]


@dataclass(slots=True, eq=False)
class _Setup:
    name: str
    pid: int
    token: int
    log: Path
    order: Path
    result: Path
    end_reason: str = ""


class EnvironmentHost:
    """See the module."""

    def __init__(
        self,
        command: SetupCommand,
        gcs_call: GcsCall,
        submit: Callable[[m.Event], None],
        on_prepared: Callable[[str, Environment, Prepared], None],
        log_files: "LogFiles",
    ) -> None:
        self._command = command
        self._gcs_call = gcs_call
        self._submit = submit
        self._on_prepared = on_prepared
        self._log_files = log_files
        self._loop = asyncio.get_running_loop()
        self._log = get_logger()
        self._setups: dict[int, _Setup] = {}
        self._queue: deque[m.PrepareEnvironment] = deque()
        self._environments: dict[str, Environment] = {}  # those that are being set up
        self._numbers = itertools.count(1)
        self._stopped = False
        self.failures_total = 0

    # ---- life ----

    def start(self) -> dict[str, int]:
        """Prepare the cache; return the sizes of what an earlier raylet has left there, oldest first."""
        cache = self._command.cache
        for name in ("", "locks", "trash", "setups"):
            (cache / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        found: dict[str, int] = {}
        for ready in sorted(cache.glob(f"*{READY_SUFFIX}"), key=lambda path: path.stat().st_mtime):
            found[ready.name.removesuffix(READY_SUFFIX)] = int(ready.read_text() or 0)
        keep = {"locks", "trash", "setups", *found, *(key + READY_SUFFIX for key in found)}
        self._trash([path for path in cache.iterdir() if path.name not in keep])
        return found

    def stop(self) -> None:
        """End every set-up; what it has made so far is not used."""
        self._stopped = True
        for pid in self._setups:
            kill_group(pid)
        kill_sessions(set(self._setups))

    # ---- instructions ----

    def fetch(self, name: str) -> None:
        """Ask the cluster for a description."""
        request = gcs_pb2.KvGetRequest(namespace=KV_NAMESPACE, key=name.encode())

        def on_reply(reply: gcs_pb2.RelayReply) -> None:
            event = self._described(name, reply)
            if not self._stopped:
                self._submit(event)

        self._gcs_call("KvGet", request.SerializeToString(), FETCH_TIMEOUT_S, on_reply)

    def _described(self, name: str, reply: gcs_pb2.RelayReply) -> m.Event:
        if reply.status:
            return m.EnvironmentFailed(name, f"its description cannot be fetched: {reply.error}")
        found = gcs_pb2.KvGetReply.FromString(reply.payload)
        if not found.found or len(found.value) > MAX_DESCRIPTION_BYTES:
            return m.EnvironmentFailed(name, "the cluster does not have its description")
        try:
            return m.EnvironmentDescribed(name, Environment.decode(found.value))
        except ValueError as error:
            return m.EnvironmentFailed(name, str(error))

    def prepare(self, order: m.PrepareEnvironment) -> None:
        """Set an environment up, soon or when others are done."""
        self._loop.call_soon(self._begin, order)

    def _begin(self, order: m.PrepareEnvironment) -> None:
        self._environments[order.name] = order.environment
        if len(self._setups) < MAX_SETUPS:
            self._try_spawn(order)
        else:
            self._queue.append(order)

    def end_setup(self, order: m.EndSetup) -> None:
        """End a set-up with everything that it has started, soon: after it has begun."""
        self._loop.call_soon(self._end, order)

    def _end(self, order: m.EndSetup) -> None:
        for setup in self._setups.values():
            if setup.name == order.name:
                setup.end_reason = order.reason
                kill_group(setup.pid)
                kill_sessions({setup.pid})
                return
        waiting = [other for other in self._queue if other.name == order.name]
        for other in waiting:
            self._queue.remove(other)
            self._fail(order.name, order.reason)

    def remove(self, order: m.RemoveCached) -> None:
        """Remove entries of the cache."""
        self._log.info("environment_cache_evicts", entries=order.keys)
        for key in order.keys:
            (self._command.cache / (key + READY_SUFFIX)).unlink(missing_ok=True)
        self._trash([self._command.cache / key for key in order.keys])

    def _trash(self, paths: list[Path]) -> None:
        """Put paths out of everybody's way at once, and delete them in a process of its own."""
        trash = self._command.cache / "trash"
        for path in paths:
            if path.exists():
                path.rename(trash / f"{next(self._numbers)}-{os.getpid()}-{path.name}")
        if any(trash.iterdir()):
            os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", 'rm -rf -- "$0"/*', str(trash)],
                dict(self._command.environ),
                setsid=True,
            )

    # ---- processes ----

    def _try_spawn(self, order: m.PrepareEnvironment) -> None:
        try:
            self._spawn(order)
        except OSError as error:
            self._fail(order.name, f"its set-up could not be started: {error}")

    def _spawn(self, order: m.PrepareEnvironment) -> None:
        if not order.environment.needs_setup:  # a template of its own, for variables that are read at starts
            self._ready(order.name, Prepared())
            return
        number = next(self._numbers)
        command, setups = self._command, self._command.cache / "setups"
        order_file = setups / f"{order.name}-{number}.order"
        result = setups / f"{order.name}-{number}.json"
        order_file.write_bytes(order.environment.encode())
        log = command.log_dir / f"{LABEL}-{order.name[:12]}-{number}.err"
        arguments = {
            "--gcs": command.gcs_address,
            "--token-file": command.token_file,
            "--cache": str(command.cache),
            "--order": str(order_file),
            "--result": str(result),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        pid = os.posix_spawn(
            sys.executable,
            [
                sys.executable,
                "-m",
                "aktisd.raylet.environments.setup",
                *(text for pair in arguments.items() for text in pair),
            ],
            dict(command.environ),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
        )
        token = self._log_files.follow(order.name, pid, log)
        self._setups[pid] = _Setup(order.name, pid, token, log, order_file, result)
        self._log.info("environment_setup_started", environment=order.name, pid=pid)

    def exited(self, pid: int, exit_code: int, signal_number: int) -> bool:
        """A child of the raylet has ended; False when it is not a set-up."""
        setup = self._setups.pop(pid, None)
        if setup is None:
            return False
        kill_group(pid)
        self._log_files.finish(setup.token, setup.log)
        prepared = self._result(setup, exit_code, signal_number)
        for path in (setup.order, setup.result):
            path.unlink(missing_ok=True)
        if prepared.error:
            self._log.warning("environment_setup_failed", environment=setup.name, error=prepared.error)
            output = read_tail(str(setup.log), OUTPUT_TAIL_BYTES).rstrip()
            self._fail(setup.name, f"{prepared.error}\nIts output:\n{output}" if output else prepared.error)
        else:
            self._ready(setup.name, prepared)
        while self._queue and len(self._setups) < MAX_SETUPS and not self._stopped:
            self._try_spawn(self._queue.popleft())
        return True

    def _result(self, setup: _Setup, exit_code: int, signal_number: int) -> Prepared:
        if setup.end_reason:
            return Prepared(error=setup.end_reason)
        try:
            return Prepared.read(setup.result)
        except (OSError, ValueError, TypeError):
            name = signal.Signals(signal_number).name if signal_number else ""
            how = f"was ended by {name}" if name else f"ended with exit code {exit_code}"
            return Prepared(error=f"the set-up {how} without a result")

    def _ready(self, name: str, prepared: Prepared) -> None:
        environment = self._environments.pop(name)
        if not self._stopped:
            self._on_prepared(name, environment, prepared)
            self._submit(m.EnvironmentPrepared(name, prepared.sizes))

    def _fail(self, name: str, reason: str) -> None:
        self.failures_total += 1
        del self._environments[name]
        if not self._stopped:
            self._submit(m.EnvironmentFailed(name, reason))


class LogFiles:
    """Which files of set-ups are followed, so that their lines find the drivers that wait."""

    def __init__(
        self,
        follow: Callable[[int, str, str], None],
        finish: Callable[[str, str], None],
        new_token: Callable[[], int],
    ) -> None:
        self._follow = follow
        self._finish = finish
        self._new_token = new_token
        self._sources: dict[int, tuple[str, int]] = {}

    def follow(self, name: str, pid: int, path: Path) -> int:
        """Begin with the output of a set-up."""
        token = self._new_token()
        self._sources[token] = (name, pid)
        self._follow(token, os.devnull, str(path))
        return token

    def finish(self, token: int, path: Path) -> None:
        """The set-up has ended."""
        self._finish(os.devnull, str(path))
        self._sources.pop(token, None)

    def source(self, token: int) -> tuple[str, int] | None:
        """The environment and the process behind a token; None when it is not a set-up's."""
        return self._sources.get(token)
