"""What a caller knows of actors: where each lives, in which incarnation, and which calls were lost with it.

Pure state machine. The shell (`aktis._runtime.actor_directory`) feeds it publications of the GCS and events
of the core, and carries out the effects. Publications may come twice, late or not at all: an actor's
knowledge only moves forward in the order (incarnation, stage), and DEAD is final.
"""

from dataclasses import dataclass, field
from enum import IntEnum


class Stage(IntEnum):
    """Life of one incarnation, in order. UNKNOWN: nothing has been heard yet."""

    UNKNOWN = 0
    PENDING = 1
    STARTING = 2
    ALIVE = 3
    RESTARTING = 4
    DEAD = 5


@dataclass(frozen=True, slots=True)
class Connect:
    """It is alive there: send what is queued."""

    actor_id: bytes
    incarnation: int
    worker_id: bytes
    address: str


@dataclass(frozen=True, slots=True)
class Pause:
    """It is not there now: queue calls."""

    actor_id: bytes


@dataclass(frozen=True, slots=True)
class Die:
    """It is dead for good: fail every call."""

    actor_id: bytes


@dataclass(frozen=True, slots=True)
class FailCall:
    """A lost call has no retries: fail it, because the actor is dead, or else not there at the moment."""

    task_id: bytes
    actor_id: bytes
    dead: bool


@dataclass(frozen=True, slots=True)
class Resubmit:
    """A lost call may be tried again; it waits until the actor is back."""

    task_id: bytes


@dataclass(frozen=True, slots=True)
class Inquire:
    """The connection broke and nothing explains it yet: find out whether the process is dead."""

    actor_id: bytes
    worker_id: bytes


Effect = Connect | Pause | Die | FailCall | Resubmit | Inquire


@dataclass(slots=True)
class _Known:
    incarnation: int = 0
    stage: Stage = Stage.UNKNOWN
    worker_id: bytes = b""
    address: str = ""
    lost_calls: list[bytes] = field(default_factory=list)


@dataclass
class ActorTable:
    """See the module."""

    _actors: dict[bytes, _Known] = field(default_factory=dict)

    def track(self, actor_id: bytes) -> bool:
        """Care about an actor from now on; False when that was so already."""
        if actor_id in self._actors:
            return False
        self._actors[actor_id] = _Known()
        return True

    def forget(self, actor_id: bytes) -> None:
        """Nobody here has a handle any more."""
        self._actors.pop(actor_id, None)

    def is_followed(self, actor_id: bytes) -> bool:
        """Whether news of an actor are news: somebody here has a handle, and it is not dead."""
        known = self._actors.get(actor_id)
        return known is not None and known.stage is not Stage.DEAD

    def tracked(self) -> list[bytes]:
        """Every actor that is not dead."""
        return [actor_id for actor_id, known in self._actors.items() if known.stage is not Stage.DEAD]

    def stage(self, actor_id: bytes) -> Stage:
        """The last that was heard of an actor."""
        known = self._actors.get(actor_id)
        return Stage.UNKNOWN if known is None else known.stage

    def heard(
        self, actor_id: bytes, incarnation: int, stage: Stage, worker_id: bytes = b"", address: str = ""
    ) -> list[Effect]:
        """The GCS says how an actor is; out of date or repeated news have no effect."""
        known = self._actors.get(actor_id)
        if known is None or known.stage is Stage.DEAD:
            return []
        if stage is not Stage.DEAD and (incarnation, stage) <= (known.incarnation, known.stage):
            return []
        known.incarnation, known.stage = incarnation, stage
        if stage is Stage.DEAD:
            return [*self._fail_lost(actor_id, known, dead=True), Die(actor_id)]
        effects = self._fail_lost(actor_id, known, dead=False)
        if stage is Stage.ALIVE:
            known.worker_id, known.address = worker_id, address
            return [*effects, Connect(actor_id, incarnation, worker_id, address)]
        return [*effects, Pause(actor_id)]

    def call_lost(self, task_id: bytes, actor_id: bytes, worker_id: bytes, retries_left: int) -> list[Effect]:
        """A call was under way when the connection broke."""
        known = self._actors.get(actor_id)
        if known is not None and known.stage is Stage.DEAD:
            return [FailCall(task_id, actor_id, dead=True)]
        if retries_left != 0:
            return [Resubmit(task_id)]
        if known is None or known.stage is not Stage.ALIVE or known.worker_id != worker_id:
            return [FailCall(task_id, actor_id, dead=False)]  # that it comes back is known already
        known.lost_calls.append(task_id)  # dead or restarting? the GCS will say
        return []

    def connection_lost(self, actor_id: bytes, worker_id: bytes) -> list[Effect]:
        """The connection to the actor's process broke."""
        known = self._actors.get(actor_id)
        if known is None or known.stage is not Stage.ALIVE or known.worker_id != worker_id:
            return []
        return [Inquire(actor_id, worker_id)]

    def process_lives(self, actor_id: bytes, worker_id: bytes) -> list[Effect]:
        """The answer to Inquire: only the connection was lost, the process is well."""
        known = self._actors.get(actor_id)
        if known is None or known.stage is not Stage.ALIVE or known.worker_id != worker_id:
            return []
        effects = self._fail_lost(actor_id, known, dead=False)
        return [*effects, Connect(actor_id, known.incarnation, worker_id, known.address)]

    def _fail_lost(self, actor_id: bytes, known: _Known, *, dead: bool) -> list[Effect]:
        calls, known.lost_calls = known.lost_calls, []
        return [FailCall(task_id, actor_id, dead) for task_id in calls]
