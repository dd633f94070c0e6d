"""What the supervisor decides, as a pure state machine: events and the time in, instructions out.

Per daemon: STARTING -> RUNNING -> (dies) -> WAITING -> STARTING ..., and at the end STOPPING -> STOPPED. All
start at once, because each retries its connections to the others; they stop one after the other, so that the
raylet can still tell the GCS and the store what ends. The restart limit works as systemd's: more than
``restart_limit`` restarts within ``restart_window_ms`` and the whole cluster stops.
"""

import enum
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

EXIT_CANNOT_START: Final = 2


class DaemonState(enum.Enum):
    """Where one daemon is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """Died; is started again when its pause is over."""
    STOPPING = "stopping"
    STOPPED = "stopped"


_TRANSITIONS: Final[dict[DaemonState, frozenset[DaemonState]]] = {
    DaemonState.NEW: frozenset({DaemonState.STARTING, DaemonState.STOPPED}),
    DaemonState.STARTING: frozenset(
        {DaemonState.RUNNING, DaemonState.WAITING, DaemonState.STOPPING, DaemonState.STOPPED}
    ),
    DaemonState.RUNNING: frozenset({DaemonState.WAITING, DaemonState.STOPPING, DaemonState.STOPPED}),
    DaemonState.WAITING: frozenset({DaemonState.STARTING, DaemonState.STOPPED}),
    DaemonState.STOPPING: frozenset({DaemonState.STOPPED}),
    DaemonState.STOPPED: frozenset(),
}


class Phase(enum.Enum):
    """Where the whole cluster is."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"


# ---- instructions ----


@dataclass(frozen=True)
class Spawn:
    """Fork this daemon."""

    name: str


@dataclass(frozen=True)
class Kill:
    """Send a signal to this daemon."""

    name: str
    signal: int


@dataclass(frozen=True)
class ReportReady:
    """Every daemon is ready for the first time."""


@dataclass(frozen=True)
class ReportFailure:
    """The cluster cannot start or cannot go on; ``name`` is the daemon at fault."""

    name: str
    reason: str


@dataclass(frozen=True)
class Finish:
    """Every daemon has ended: clean up and exit with ``status``."""

    status: int


Instruction = Spawn | Kill | ReportReady | ReportFailure | Finish


@dataclass(frozen=True)
class Policy:
    """Limits, all in milliseconds or counts; see ``[supervisor]`` of the configuration."""

    restart_limit: int = 5
    restart_window_ms: int = 60_000
    restart_delay_ms: int = 100
    restart_delay_max_ms: int = 5_000
    ready_timeout_ms: int = 20_000
    stop_timeout_ms: int = 4_000


@dataclass
class _Daemon:
    name: str
    state: DaemonState = DaemonState.NEW
    deadline_ms: int | None = None
    """STARTING: ready by then. WAITING: start then. STOPPING: kill then."""
    restarts_ms: deque[int] = field(default_factory=deque)


class SupervisorMachine:
    """Decides; does nothing itself. Not thread-safe. Times are of any monotonic clock."""

    def __init__(self, stop_order: Sequence[str], policy: Policy) -> None:
        """Make the machine of these daemons, named in the order in which they stop."""
        if not stop_order or len(set(stop_order)) != len(stop_order):
            raise ValueError(f"daemons must be distinct and at least one, got {list(stop_order)}")
        self._policy = policy
        self._daemons = {name: _Daemon(name) for name in stop_order}
        self._phase = Phase.STARTING
        self._status = 0
        self._stop_deadline_ms = 0

    @property
    def phase(self) -> Phase:
        """Where the whole cluster is."""
        return self._phase

    def state(self, name: str) -> DaemonState:
        """Where one daemon is."""
        return self._daemons[name].state

    def next_deadline_ms(self) -> int | None:
        """Return when `tick` must be called next, None when nothing is timed."""
        return min((d.deadline_ms for d in self._daemons.values() if d.deadline_ms is not None), default=None)

    # ---- events ----

    def start(self, now_ms: int) -> list[Instruction]:
        """Begin: every daemon starts at once."""
        instructions: list[Instruction] = []
        for daemon in self._daemons.values():
            instructions += self._spawn(daemon, now_ms)
        return instructions

    def ready(self, name: str) -> list[Instruction]:
        """A daemon says that it serves. Said twice or too late, it changes nothing."""
        daemon = self._daemons[name]
        if daemon.state is not DaemonState.STARTING:
            return []
        self._move(daemon, DaemonState.RUNNING, None)
        everyone = all(d.state is DaemonState.RUNNING for d in self._daemons.values())
        if self._phase is Phase.STARTING and everyone:
            self._phase = Phase.RUNNING
            return [ReportReady()]
        return []

    def exited(self, name: str, status: int, now_ms: int) -> list[Instruction]:
        """A daemon's process has ended; ``status`` is its exit code, negative for a signal."""
        daemon = self._daemons[name]
        if daemon.state in (DaemonState.STOPPED, DaemonState.WAITING, DaemonState.NEW):
            return []
        if self._phase is Phase.STOPPING:
            self._move(daemon, DaemonState.STOPPED, None)
            return self._stop_next(now_ms)
        if self._phase is Phase.STARTING and status == EXIT_CANNOT_START:
            return self._give_up(daemon, EXIT_CANNOT_START, "cannot start", now_ms)
        restarts = daemon.restarts_ms
        while restarts and restarts[0] <= now_ms - self._policy.restart_window_ms:
            restarts.popleft()
        if len(restarts) >= self._policy.restart_limit:
            count, window_s = len(restarts) + 1, self._policy.restart_window_ms / 1000
            reason = f"{describe_status(status)}, {count} times within {window_s:g} s"
            return self._give_up(daemon, 1, reason, now_ms)
        delay_ms = min(self._policy.restart_delay_ms << len(restarts), self._policy.restart_delay_max_ms)
        restarts.append(now_ms)
        self._move(daemon, DaemonState.WAITING, now_ms + delay_ms)
        return []

    def stop(self, now_ms: int) -> list[Instruction]:
        """Stop everything; asked again, it kills what still runs."""
        if self._phase is Phase.STOPPED:
            return []
        if self._phase is Phase.STOPPING:
            alive = (DaemonState.STARTING, DaemonState.RUNNING, DaemonState.STOPPING)
            return [Kill(d.name, signal.SIGKILL) for d in self._daemons.values() if d.state in alive]
        self._phase = Phase.STOPPING
        self._stop_deadline_ms = now_ms + self._policy.stop_timeout_ms
        for daemon in self._daemons.values():
            if daemon.state in (DaemonState.NEW, DaemonState.WAITING):
                self._move(daemon, DaemonState.STOPPED, None)
            daemon.deadline_ms = None
        return self._stop_next(now_ms)

    def tick(self, now_ms: int) -> list[Instruction]:
        """Do what is due by now."""
        instructions: list[Instruction] = []
        for daemon in self._daemons.values():
            if daemon.deadline_ms is None or daemon.deadline_ms > now_ms:
                continue
            if daemon.state is DaemonState.WAITING:
                instructions += self._spawn(daemon, now_ms)
            else:  # not ready or not gone in time: its end is then an ordinary exit
                daemon.deadline_ms = None
                instructions.append(Kill(daemon.name, signal.SIGKILL))
        return instructions

    # ---- parts ----

    def _spawn(self, daemon: _Daemon, now_ms: int) -> list[Instruction]:
        self._move(daemon, DaemonState.STARTING, now_ms + self._policy.ready_timeout_ms)
        return [Spawn(daemon.name)]

    def _give_up(self, daemon: _Daemon, status: int, reason: str, now_ms: int) -> list[Instruction]:
        self._status = status
        self._move(daemon, DaemonState.STOPPED, None)
        return [ReportFailure(daemon.name, reason), *self.stop(now_ms)]

    def _stop_next(self, now_ms: int) -> list[Instruction]:
        """Stop the next daemon in the order once those before it have ended.

        Each may use twice the equal share of the time that is left, so that an early one that is quick leaves
        more to the others and a slow one cannot use it all.
        """
        left = [d for d in self._daemons.values() if d.state is not DaemonState.STOPPED]
        if not left:
            self._phase = Phase.STOPPED
            return [Finish(self._status)]
        if left[0].state is DaemonState.STOPPING:
            return []
        remaining_ms = max(0, self._stop_deadline_ms - now_ms)
        share_ms = remaining_ms if len(left) == 1 else 2 * remaining_ms // (len(left) + 1)
        self._move(left[0], DaemonState.STOPPING, now_ms + share_ms)
        return [Kill(left[0].name, signal.SIGTERM)]

    def _move(self, daemon: _Daemon, state: DaemonState, deadline_ms: int | None) -> None:
        if state not in _TRANSITIONS[daemon.state]:
            raise AssertionError(f"{daemon.name}: {daemon.state.name} -> {state.name} is not a transition")
        daemon.state = state
        daemon.deadline_ms = deadline_ms


def describe_status(status: int) -> str:
    """Say how a process ended, for people; a negative status is a signal."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
