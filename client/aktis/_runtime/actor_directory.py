"""The actors that this process calls or created: the shell around `ActorTable`.

Creation goes to the GCS in batches on an errand thread, so that ``.remote()`` does not wait for it; the
state of actors comes back as publications. An actor lives as long as its last handle: the creator owns an
object that all handles refer to, and when the last reference goes the actor is asked to end after what was
called.
"""

import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from aktis._core import Core, ObjectRef, TaskTemplate
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2
from aktis._runtime.actor_table import (
    ActorTable,
    Connect,
    Die,
    Effect,
    FailCall,
    Inquire,
    Pause,
    Resubmit,
    Stage,
)
from aktis._runtime.causes import describe_death, setup_failure
from aktis._runtime.control import Control, ControlError
from aktis._runtime.errands import Errands
from aktis._runtime.errors import decode_error, encode_error, error_text
from aktis._runtime.refs import Watchers
from aktis.exceptions import (
    ActorDiedError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    AktisError,
    LocalRayletDiedError,
    RuntimeEnvSetupError,
    SessionEndedError,
)

CHANNEL: Final = "actors"
READY_METHOD: Final = "__aktis_ready__"
MAX_CREATIONS_PER_REQUEST: Final = 256
CREATE_TIMEOUT_S: Final = 60.0

_FORGOTTEN: Final = (
    "it ended so long ago that the cluster has forgotten why (the last gcs.dead_actors_kept are remembered)"
)
_NEVER_CREATED: Final = "the process that created it died, and the cluster knows nothing of it"

_READY: Final = TaskTemplate(
    class_key=0, function_id=bytes(16), name=READY_METHOD, method=READY_METHOD, max_retries=0
)


class ActorDirectory:
    """See the module. Any thread."""

    def __init__(
        self, core: Core, control: Control, watchers: Watchers, errands: Errands, inquiries: Errands
    ) -> None:
        """Serve one session; ``errands`` may wait for the GCS, ``inquiries`` only for the raylet."""
        self._core = core
        self._control = control
        self._watchers = watchers
        self._errands = errands
        self._inquiries = inquiries
        self._lock = threading.RLock()
        self._table = ActorTable()
        self._subscribed = False
        self._last: dict[bytes, gcs_pb2.Actor] = {}
        self._to_create: list[gcs_pb2.ActorSpec] = []
        self._creating = False
        # What creations refer to, as long as the actor may be started again.
        self._arguments: dict[bytes, list[ObjectRef[Any]]] = {}
        self._lives: dict[bytes, bytes] = {}  # actor by the object that its handles refer to
        self._handles: Counter[bytes] = Counter()  # in this process, by actor
        # Their creation has not been sent or not been answered yet, and so they cannot be ended: their lives.
        self._unconfirmed: dict[bytes, ObjectRef[Any]] = {}
        self._reserved: set[bytes] = set()  # they have their name, and wait for their arguments
        self._markers: dict[bytes, tuple[ObjectRef[Any], bytes, ObjectRef[Any] | None]] = {}
        self._lingering: list[tuple[bytes, ObjectRef[Any] | None]] = []

    # ---- creating ----

    def new_life(self, actor_id: bytes, *, detached: bool = False) -> ObjectRef[Any]:
        """Return the object that all handles of an actor refer to: unless it is detached, it ends with it.

        Its value is there as soon as the cluster knows the actor, or it is known that it never will: the
        cause of its death then, else nothing.
        """
        life = self._core.pending_object()
        with self._lock:
            self._unconfirmed[actor_id] = life
            if not detached:
                self._lives[life.binary()] = actor_id
        if not detached:
            self._core.watch_free(life)
        return life

    def _confirm(self, actor_id: bytes, death: bytes = b"") -> None:
        with self._lock:
            life = self._unconfirmed.pop(actor_id, None)
            self._reserved.discard(actor_id)
        if life is not None:
            self._core.complete_object(life, death)

    def create(self, spec: gcs_pb2.ActorSpec, arguments: list[ObjectRef[Any]]) -> None:
        """Create an anonymous, tracked actor; what goes wrong is raised by its calls."""
        with self._lock:
            self._arguments[spec.actor_id] = arguments
            self._to_create.append(spec)
            if self._creating:
                return
            self._creating = True
            self._errands.run(self._create_batches)

    def create_named(
        self, spec: gcs_pb2.ActorSpec, arguments: list[ObjectRef[Any]], *, get_if_exists: bool
    ) -> gcs_pb2.CreateActorsReply.Result:
        """Create a named, tracked actor and wait until the GCS has accepted or refused the name.

        One that awaits its arguments has its name from then on; `create` has to follow.

        Raises:
            ControlError: the GCS could not be asked.
        """
        with self._lock:
            self._arguments[spec.actor_id] = arguments
        try:
            result = self._request_creation([spec], get_if_exists=get_if_exists).results[0]
        except ControlError:
            self._not_created(spec.actor_id)
            self._order_kill(spec.actor_id)  # it may have been created although nobody said so
            raise
        if result.error or result.existed:
            self._not_created(spec.actor_id)
        elif spec.awaits_arguments:
            with self._lock:
                self._reserved.add(spec.actor_id)
            self.heard(result.actor)
        else:
            self._created(spec.actor_id, result)
        return result

    def _not_created(self, actor_id: bytes) -> None:
        with self._lock:
            self._lives = {life: actor for life, actor in self._lives.items() if actor != actor_id}
            self._unconfirmed.pop(actor_id, None)
            self._forget(actor_id)

    def _create_batches(self) -> None:
        while True:
            with self._lock:
                batch = self._to_create[:MAX_CREATIONS_PER_REQUEST]
                del self._to_create[: len(batch)]
                if not batch:
                    self._creating = False
                    return
            try:
                reply = self._request_creation(batch)
            except AktisError as error:
                for spec in batch:
                    self._fail(spec.actor_id, str(error))
                continue
            for spec, result in zip(batch, reply.results, strict=True):
                self._created(spec.actor_id, result)

    def _created(self, actor_id: bytes, result: gcs_pb2.CreateActorsReply.Result) -> None:
        if result.error:
            self._fail(actor_id, result.error)
        else:
            self.heard(result.actor)
            self._confirm(actor_id)

    def _request_creation(
        self, batch: list[gcs_pb2.ActorSpec], *, get_if_exists: bool = False
    ) -> gcs_pb2.CreateActorsReply:
        request = gcs_pb2.CreateActorsRequest(specs=batch, get_if_exists=get_if_exists)
        reply = gcs_pb2.CreateActorsReply
        return self._control.gcs_insistently("CreateActors", request, reply, CREATE_TIMEOUT_S)

    def fail_creation(self, actor_id: bytes, error: BaseException) -> None:
        """The creation of an actor could not be sent: it is dead, and its calls say why."""
        self._fail(actor_id, "its creation could not be made", encode_error(error))

    def _fail(self, actor_id: bytes, reason: str, error: bytes = b"") -> None:
        cause = common_pb2.DeathCause(
            kind=common_pb2.DeathCause.CREATION_FAILED,
            message=f"it could not be created: {reason}",
            error=error,
        )
        reserved = actor_id in self._reserved
        self._dead(actor_id, cause)
        self._confirm(actor_id, cause.SerializeToString())
        if reserved:  # others may know it by its name
            self._order_kill(actor_id)

    def _order_kill(self, actor_id: bytes) -> None:
        request = gcs_pb2.KillActorRequest(actor_id=actor_id, no_restart=True)
        self._errands.run(functools.partial(self._kill, request))

    # ---- following ----

    def track(
        self, actor_id: bytes, life: ObjectRef[Any] | None = None, *, created_here: bool = False
    ) -> None:
        """Follow the state of an actor for which a handle has appeared here.

        Args:
            life: What the handle refers to. None: the cluster has known the actor when the handle was made.
            created_here: Just now: nobody else knows anything of it.
        """
        with self._lock:
            self._handles[actor_id] += 1
            if not self._table.track(actor_id):
                return
            if not self._subscribed:
                self._subscribed = True
                self._control.notify(subscribe=raylet_pb2.Subscribe(channel=CHANNEL))
        if not created_here:
            self._errands.run(lambda: self._ask(actor_id, life))

    def _release(self, actor_id: bytes) -> None:
        """One handle less; nothing more needs to be known of an actor without any."""
        with self._lock:
            self._handles[actor_id] -= 1
            if self._handles[actor_id] <= 0:
                del self._handles[actor_id]
                if actor_id not in self._arguments:
                    self._forget(actor_id)

    def _forget(self, actor_id: bytes) -> None:
        self._handles.pop(actor_id, None)
        self._table.forget(actor_id)
        self._last.pop(actor_id, None)
        self._arguments.pop(actor_id, None)

    def heard(self, actor: gcs_pb2.Actor) -> None:
        """The GCS says how an actor is."""
        actor_id = actor.spec.actor_id
        with self._lock:
            if self._table.is_followed(actor_id):  # publications are about all actors of the cluster
                self._last[actor_id] = actor
            address = actor.address
            effects = self._table.heard(
                actor_id, actor.incarnation, Stage(actor.state), address.worker_id, address.address
            )
            self._apply(effects)

    def is_dead(self, actor_id: bytes) -> bool:
        """Whether it is known that an actor is dead for good; it may be dead all the same."""
        with self._lock:
            return self._table.stage(actor_id) is Stage.DEAD

    def resynchronize(self) -> None:
        """Publications were missed: ask about everything."""
        with self._lock:
            tracked = self._table.tracked()
        if tracked:
            self._errands.run(lambda: self._ask_all(tracked))

    def _ask_all(self, actor_ids: list[bytes]) -> None:
        for actor_id in actor_ids:
            # Before the question: what becomes known while it is on its way, it cannot know.
            was_known = self._table.stage(actor_id) is not Stage.UNKNOWN
            if not self._look_up(actor_id) and was_known:
                self._forgotten(actor_id, _FORGOTTEN)

    def _ask(self, actor_id: bytes, life: ObjectRef[Any] | None) -> None:
        """Find out how an actor is for which a handle has appeared."""
        if self._look_up(actor_id):
            return
        if life is None:
            self._forgotten(actor_id, _FORGOTTEN)
            return
        # Not created yet, or forgotten: who has created it knows.
        with contextlib.suppress(SessionEndedError):
            ask = functools.partial(self._errands.run, functools.partial(self._ask_creator, actor_id, life))
            if self._watchers.add(life, ask):
                ask()

    def _ask_creator(self, actor_id: bytes, life: ObjectRef[Any]) -> None:
        """The value of an actor's life is there, or never will be."""
        death, unknown = b"", _FORGOTTEN
        try:
            values = self._core.get([life], -1)  # at once: it is here
            death = values[0] if values else b""
        except AktisError:  # its creator has died
            unknown = _NEVER_CREATED
        if death:
            self._dead(actor_id, common_pb2.DeathCause.FromString(death))
        elif not self._look_up(actor_id):
            self._forgotten(actor_id, unknown)

    def _look_up(self, actor_id: bytes) -> bool:
        """Ask the GCS how an actor is; False when it does not know of any such actor."""
        try:
            actor = self._control.actor(actor_id)
        except AktisError as error:  # nobody can tell where it is
            self._core.actor_fail(actor_id, encode_error(error), error_text(error))
            return True
        if actor is not None:
            self.heard(actor)
        return actor is not None

    def _forgotten(self, actor_id: bytes, why: str) -> None:
        self._dead(actor_id, common_pb2.DeathCause(message=why))

    def _dead(self, actor_id: bytes, cause: common_pb2.DeathCause) -> None:
        """What the GCS cannot say."""
        spec = gcs_pb2.ActorSpec(actor_id=actor_id)
        self.heard(gcs_pb2.Actor(spec=spec, state=gcs_pb2.Actor.DEAD, death_cause=cause))

    def fail_all(self, error: bytes) -> None:
        """This process can reach no actor any more."""
        with self._lock:
            tracked = self._table.tracked()
        for actor_id in tracked:
            self._core.actor_fail(actor_id, error)

    # ---- the core's events ----

    def call_lost(self, task_id: bytes, actor_id: bytes, worker_id: bytes, retries_left: int) -> None:
        """A call was under way when its actor's connection broke."""
        with self._lock:
            self._apply(self._table.call_lost(task_id, actor_id, worker_id, retries_left))

    def connection_lost(self, actor_id: bytes, worker_id: bytes) -> None:
        """The connection to an actor broke."""
        with self._lock:
            self._apply(self._table.connection_lost(actor_id, worker_id))

    def _apply(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Connect(actor_id, incarnation, worker_id, address):
                    self._core.actor_connect(actor_id, incarnation, worker_id, address)
                case Pause(actor_id):
                    self._core.actor_pause(actor_id)
                case Die(actor_id):
                    self._arguments.pop(actor_id, None)
                    actor = self._last.get(actor_id)
                    if actor is not None and actor.death_cause.error:
                        # Loading its constructor's exception runs code of the user's.
                        self._inquiries.run(functools.partial(self._die, actor_id))
                    else:
                        self._die(actor_id)
                case FailCall(task_id, actor_id, dead):
                    error = self._death(actor_id) if dead else self._unavailable(actor_id)
                    self._core.fail_task(task_id, encode_error(error), error_text(error))
                case Resubmit(task_id):
                    self._core.resubmit(task_id)
                case Inquire(actor_id, worker_id):
                    self._inquiries.run(functools.partial(self._inquire, actor_id, worker_id))

    def _die(self, actor_id: bytes) -> None:
        error = self._death(actor_id)
        self._core.actor_fail(actor_id, encode_error(error), error_text(error))
        with self._lock:
            if actor_id not in self._handles:
                self._forget(actor_id)

    def _inquire(self, actor_id: bytes, worker_id: bytes) -> None:
        try:
            cause = self._control.death_cause(worker_id)
        except LocalRayletDiedError as error:
            self._core.actor_fail(actor_id, encode_error(error), error_text(error))
            return
        if cause is None:
            with self._lock:
                self._apply(self._table.process_lives(actor_id, worker_id))

    def _title(self, actor_id: bytes) -> str:
        actor = self._last.get(actor_id)
        name = actor.spec.class_name if actor is not None else ""
        return f"Actor {name} ({actor_id.hex()})" if name else f"Actor {actor_id.hex()}"

    def _death(self, actor_id: bytes) -> AktisError:
        """The exception of calls to a dead actor."""
        actor = self._last.get(actor_id)
        cause = actor.death_cause if actor is not None else None
        if cause is not None and cause.kind == common_pb2.DeathCause.RUNTIME_ENV_FAILED:
            return RuntimeEnvSetupError(f"{self._title(actor_id)}: {setup_failure(cause.message)}")
        text = f"{self._title(actor_id)} is dead: {describe_death(cause)}"
        origin = decode_error(cause.error) if cause is not None and cause.error else None
        if origin is not None:
            text += f"\n{origin}"
        kind = cause.kind if cause is not None else common_pb2.DeathCause.KIND_UNSPECIFIED
        if kind == common_pb2.DeathCause.UNSCHEDULABLE:
            return ActorUnschedulableError(text)
        if kind == common_pb2.DeathCause.PLACEMENT_GROUP_REMOVED:
            return ActorPlacementGroupRemoved(text, actor_id.hex())
        return ActorDiedError(text, actor_id.hex())

    def _unavailable(self, actor_id: bytes) -> AktisError:
        return ActorUnavailableError(
            f"{self._title(actor_id)} is restarting; this call was under way and may or may not have run. "
            "Set max_task_retries to have such calls repeated.",
            actor_id.hex(),
        )

    # ---- the life of handles ----

    def is_life(self, object_id: bytes) -> bool:
        """Whether an object stands for the handles of an actor that this process has created."""
        with self._lock:
            return object_id in self._lives

    def handle_dropped(self, actor_id: bytes, life: ObjectRef[Any] | None) -> None:
        """The last handle of this process has gone. Its calls hold on to the actor until they are done.

        A call that comes after all of them tells when they are; where calls overtake one another, time does.
        """
        if self._is_quiet(actor_id):
            self._release(actor_id)  # and with `life` goes our share in the actor
            return
        # One that waited for room would wait for replies on the thread that sees to it that they come.
        marker = self._core.submit_marker(actor_id, _READY)
        self._markers[marker.binary()] = (marker, actor_id, life)
        if self._core.watch(marker):
            self.marker_ready(marker.binary())

    def marker_ready(self, object_id: bytes) -> bool:
        """The object of a marker is ready; False when it is not one."""
        found = self._markers.pop(object_id, None)
        if found is None:
            return False
        _, actor_id, life = found
        self._lingering.append((actor_id, life))
        self.tick()
        return True

    def tick(self) -> bool:
        """Look again at calls that outlast their marker; True while there are some."""
        lingering, self._lingering = self._lingering, []
        for actor_id, life in lingering:
            if self._is_quiet(actor_id):
                self._release(actor_id)
            else:
                self._lingering.append((actor_id, life))
        return bool(self._lingering)

    def _is_quiet(self, actor_id: bytes) -> bool:
        return self._core.actor_pending_calls(actor_id) == 0 or self._table.stage(actor_id) is Stage.DEAD

    def life_ended(self, object_id: bytes) -> bool:
        """The last handle anywhere has gone: end the actor after what was called.

        False: not such an object.
        """
        with self._lock:
            actor_id = self._lives.pop(object_id, None)
            if actor_id is None:
                return False
        self._errands.run(lambda: self._end(actor_id))
        return True

    def kill(self, actor_id: bytes, *, no_restart: bool) -> None:
        """End an actor or only its process; one that is still to be created is dead for good.

        Raises:
            ControlError: the GCS could not be asked.
        """
        request = gcs_pb2.KillActorRequest(actor_id=actor_id, no_restart=no_restart)
        self._control.gcs_insistently("KillActor", request, gcs_pb2.KillActorReply)
        with self._lock:
            if no_restart and actor_id in self._unconfirmed:  # nobody else would tell its calls
                cause = common_pb2.DeathCause(kind=common_pb2.DeathCause.KILLED, message="killed by kill()")
                self._dead(actor_id, cause)

    def _end(self, actor_id: bytes) -> None:
        if self._table.stage(actor_id) is Stage.DEAD:
            return
        self._kill(gcs_pb2.KillActorRequest(actor_id=actor_id, no_restart=True, graceful=True))

    def _kill(self, request: gcs_pb2.KillActorRequest) -> None:
        with contextlib.suppress(LocalRayletDiedError):  # then everything ends anyway
            self._control.gcs_insistently("KillActor", request, gcs_pb2.KillActorReply)
