"""Types of the extension module: what the C++ core of a driver or worker offers to Python.

All methods are thread-safe. Those that may wait release the GIL, poll the sockets themselves when no other
thread does (leader/follower) and return early to let Python handle signals. Ids are raw bytes.
"""

import asyncio
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, Final, Generic, Literal, TypeVar

from aktis._runtime.ids import JobID, TaskID

__version__: Final[str]
PROTOCOL_MAJOR: Final[int]
PROTOCOL_MINOR: Final[int]

_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)

class ObjectRef(Generic[_T_co]):
    """A reference to an immutable object that a task returned or that put() stored."""

    def binary(self) -> bytes:
        """The 20 bytes of the object's id."""
    def hex(self) -> str: ...
    def owner_worker_id(self) -> bytes: ...
    @staticmethod
    def size() -> int:
        """How many bytes the id has."""
    @staticmethod
    def nil() -> ObjectRef[Any]:
        """The reference to nothing: all zero."""
    @staticmethod
    def from_random() -> ObjectRef[Any]:
        """A new id, of no object."""
    def _task_bytes(self) -> bytes:
        """The 16 bytes of the id of the task that makes the object."""
    def is_nil(self) -> bool: ...
    def __hash__(self) -> int: ...
    def __eq__(self, other: object) -> bool: ...
    # Set by aktis._runtime.refs when it is imported:
    def __await__(self) -> Generator[Any, None, _T_co]: ...
    def future(self) -> Future[_T_co]: ...
    def as_future(self) -> asyncio.Future[_T_co]: ...
    def task_id(self) -> TaskID: ...
    def job_id(self) -> JobID: ...

class TaskTemplate:
    """What all calls of one remote function (or actor method) with the same options share.

    `class_key` numbers the scheduling class for the policy thread (0 for actor calls). `flags`:
    TASK_RETRY_ON_ERROR (application errors are reported as EVENT_TASK_ERROR, with `retry_key`, for Python to
    decide), TASK_STREAMING (its items are sent one by one, at most `stream_limit` ahead of the consumer, 0:
    any number; its one return is the completion), TASK_DYNAMIC (a generator whose one return lists all
    items). `max_calls`: its workers end by themselves after so many runs, and are given no more; 0: they do
    not. `timeout_ms`: that a run may take before EVENT_TASK_OVERDUE; 0: any time. `priority`: what is queued
    goes first where it is higher. `speculative`: beyond which quantile of the run times of its class it
    runs a second time beside the first; 0: never. `placement` is opaque, at most 1 KiB: what Task.placement
    is where the task runs.
    """

    def __init__(
        self,
        *,
        class_key: int,
        function_id: bytes,
        name: str,
        method: str = "",
        num_returns: int = 1,
        max_retries: int = 3,
        flags: int = 0,
        concurrency_group: str = "",
        creation: bool = False,
        stream_limit: int = 0,
        retry_key: int = 0,
        max_calls: int = 0,
        timeout_ms: int = 0,
        priority: int = 0,
        placement: bytes = b"",
        speculative: float = 0,
    ) -> None: ...
    @property
    def name(self) -> str: ...

TASK_RETRY_ON_ERROR: Final[int]
TASK_STREAMING: Final[int]
TASK_DYNAMIC: Final[int]

class Task:
    """One task to execute, as next_task() hands it out. Must be ended by Core.finish() or Core.fail()."""

    task_id: bytes
    parent_task_id: bytes
    kind: int  # TASK_KIND_*
    function_id: bytes
    actor_id: bytes
    job_id: bytes
    owner_worker_id: bytes
    name: str
    method: str
    concurrency_group: str
    placement: bytes
    num_returns: int
    is_generator: bool  # TASK_STREAMING or TASK_DYNAMIC
    dynamic: bool  # TASK_DYNAMIC
    attempt: int
    trace: bytes  # 16 bytes trace id, 8 bytes span id, 1 byte flags
    start_unix_ns: int
    cancelled: bool  # cancel was asked for since
    def load_args(self, wait: bool = True) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Deserialize the arguments, waiting for those in shared memory for as long as the limits say. Raises
        what that raises and, when the time is up or without `wait`, the hook's fetch_timed_out."""
    def argument_refs(self) -> list[ObjectRef[Any]]:
        """The arguments in shared memory: load_args() need not wait while they are held and can be read."""

class Unfinished:
    """Results of a task, or an item of its stream, that are not all stored: Core.finish(), send_item()."""

    def store(self) -> None:
        """Store the rest, waiting for room. Any thread, once. Raises as Core.finish()."""
    def send(self) -> bool:
        """Send what is stored; in the thread that began the task. Returns what would have been returned."""

# The task that the calling context is part of: set by Core.begin(), and not reset when the task ends.
running_task: Final[ContextVar[Task | None]]

def set_trace_source(source: Callable[[str], bytes] | None) -> None:
    """Have submissions carry the trace context that ``source`` returns for their names: 25 bytes, or none."""

TASK_KIND_NORMAL: Final[int]
TASK_KIND_ACTOR_CREATION: Final[int]
TASK_KIND_ACTOR_METHOD: Final[int]

# ---- events for the policy thread: tuples (kind, ...) ----
EVENT_CONTROL: Final[int]  # (kind, payload: bytes): a serialized RayletMessage that no call() waits for
EVENT_NEED_LEASES: Final[int]  # (kind, class_key, wanted, backlog, priority: int): wanted 0 withdraws
EVENT_LEASE_RETURNED: Final[int]  # (kind, lease_id): it was idle and went back; wakes nobody
EVENT_LEASE_BROKEN: Final[int]  # (kind, lease_id, worker_id, reason): its connection broke
EVENT_TASK_LOST: Final[int]  # (kind, task_id, worker_id, actor_id, reason, retries_left): system failure
EVENT_TASK_ERROR: Final[int]  # (kind, task_id, error, retries_left, retry_key): TASK_RETRY_ON_ERROR
EVENT_OBJECT_READY: Final[int]  # (kind, object_id, value is here: bool): asked for by watch()
EVENT_OBJECT_FREED: Final[int]  # (kind, object_id): asked for by watch_free()
EVENT_OBJECT_LOST: Final[int]  # (kind, object_id, reason): value gone; reconstruct() or fail_object()
EVENT_ACTOR_LOST: Final[int]  # (kind, actor_id, worker_id, reason): connection to the actor broke
EVENT_CANCEL: Final[int]  # (kind, task_id, recursive: bool): a task running here is to be cancelled
EVENT_RAYLET_LOST: Final[int]  # (kind, reason)
EVENT_PLASMA_LOST: Final[int]  # (kind, reason)
EVENT_CANCEL_ASKED: Final[int]  # (kind, object_id, force, recursive: bool): by one that borrows it
EVENT_TASK_OVERDUE: Final[int]  # (kind, task_id, name, timeout_ms, again: bool): it runs for too long
EVENT_RUN_CALLED_OFF: Final[int]  # (kind, task_id, worker_id, lease_id, lingers: bool): the other one counts

# ---- streaming generators ----
class StreamReader:
    """The consumer's end of a stream; lets go of what has not been taken when it is dropped."""

    def next(self, timeout_s: float) -> ObjectRef[Any] | Literal[False] | None:
        """The next item; None at the end, False when it has not come in time. Negative: no limit."""
    def peek(self) -> ObjectRef[Any] | None:
        """The next item, which need not have come and is not taken; None at the end."""
    def ended(self) -> bool:
        """Every item has been taken, and no other will come."""

def open_stream(completion: ObjectRef[Any]) -> StreamReader:
    """The stream of a task that this process has submitted with TASK_STREAMING; once."""

def send_item(task: Task, value: object, wait: bool = True) -> Unfinished | bool:
    """Send the next item of a running task; False: the consumer lags, wait with stream_room(). Raises as
    Core.finish(), and returns what remains to be done in the same case."""

def stream_room(task: Task) -> None:
    """Wait until the consumer has taken enough items, or is gone."""

class Core:
    """The runtime core of this process: one reactor, its objects, references, tasks in flight."""

    def __init__(
        self,
        *,
        role: int,
        worker_id: bytes,
        token: str,
        raylet_address: str,
        linger_us: int = 1000,
        blocked_after_ms: int = 5,
    ) -> None: ...
    def set_limits(
        self,
        *,
        inline_bytes: int,
        inline_arguments_bytes: int,
        in_flight_bytes: int,
        lineage_bytes: int,
        control_queue_bytes: int,
        actor_window_calls: int,
        actor_window_bytes: int,
        pipeline_depth: int,
        lease_grace_ms: int,
        stream_bytes: int,
        spin_us: int,
        fetch_timeout_ms: int,
    ) -> None:
        """Set what the configuration says, [core]; once, before the first object and task."""

    # -- life --
    def connect_raylet(self, timeout_s: float) -> None:
        """Connect and shake hands; raises ConnectionError with the raylet's reason."""
    def listen(self, sockets_dir: str) -> str:
        """Listen for other processes at unix:{sockets_dir}/{worker_id hex}.sock; returns the address."""
    def connect_plasma(self, address: str, timeout_s: float) -> None: ...
    def set_identity(self, *, node_id: bytes, job_id: bytes) -> None: ...
    def close(self) -> None:
        """Close every connection and socket file; all waits end with an error. Idempotent."""

    # -- control channel --
    def call(self, request: bytes, request_id: int, timeout_s: float) -> bytes | None:
        """Send a serialized ClientMessage whose request_id is `request_id` (from next_request_id()) and wait
        for the serialized RayletMessage that answers it. None when the time is up. ConnectionError when the
        raylet is gone."""
    def next_request_id(self) -> int: ...
    def notify(self, message: bytes) -> None:
        """Send a serialized ClientMessage that needs no answer."""

    # -- the policy thread --
    def next_events(self, timeout_s: float) -> list[tuple[Any, ...]]:
        """Serve the sockets while no other thread does; returns as soon as there are events for Python."""
    def post_event(self, event: tuple[Any, ...]) -> None:
        """Put an event of Python's own into the queue (any thread)."""

    # -- hooks, set once before use --
    def set_hooks(
        self,
        *,
        serialize: Callable[[Any], tuple[bytes, Sequence[Any]]],
        load_error: Callable[[bytes], BaseException],
        store_full: Callable[[str], BaseException],
        fetch_timed_out: Callable[[str, str, str], BaseException],
        session_ended: Callable[[str], BaseException],
        cannot_load: Callable[[BaseException, bytes, str], BaseException],
        about_to_block: Callable[[str], None],
        large_argument: Callable[[str, str, object, int], None] | None = None,
    ) -> None:
        """serialize(value) -> (in-band pickle, out-of-band buffers) for what plain pickle cannot be trusted
        with (values of builtin types never get here); load_error(in-band) -> the exception that get() raises;
        store_full(message) -> the exception of a put that found no room; fetch_timed_out(object, owner, node:
        hexadecimal ids) -> the exception of a task whose argument did not come; large_argument(function,
        position or name, value, bytes): an argument is stored as an object of its own."""

    # -- objects --
    def put(self, value: Any) -> ObjectRef[Any]:
        """Raises the hook's store_full after the store's create timeout, ConnectionError without a store."""
    def get(self, refs: Sequence[ObjectRef[Any]], timeout_s: float) -> list[Any] | None:
        """Values in order; raises the first error. None when the time is up. Negative: no limit."""
    def wait(
        self, refs: Sequence[object], num_returns: int, timeout_s: float, fetch_local: bool
    ) -> tuple[list[Any], list[Any]] | None:
        """(the first num_returns that are ready, or fewer when the time is up; the others), in order.

        None when the references are not distinct ObjectRefs.
        """
    def task_of(self, ref: ObjectRef[Any]) -> bytes:
        """The 16 bytes of the id of the task that makes the object of a reference of this session."""
    def is_ready(self, ref: ObjectRef[Any]) -> bool: ...
    def awaits_owner(self, ref: ObjectRef[Any]) -> bool:
        """Whether it does not exist yet, as far as is known, and another process, its owner, will say so."""
    def watch(self, ref: ObjectRef[Any], value: bool = False) -> bool:
        """True when it is ready now; else EVENT_OBJECT_READY comes once. `value`: only what get() returns
        without waiting is ready, and a value in shared memory is fetched."""
    def watch_free(self, ref: ObjectRef[Any]) -> None:
        """EVENT_OBJECT_FREED comes when the last reference anywhere to this owned object goes."""
    def free(self, ref: ObjectRef[Any], error: bytes) -> None:
        """Drop the value, whoever holds references; later gets raise `error`, a pickled exception. What does
        not exist yet is dropped when it does, another process's by that."""
    def fail_object(self, object_id: bytes, error: bytes) -> None: ...
    def reconstruct(self, object_id: bytes) -> str | None:
        """Run the task that made a lost object again, after those that made its freed arguments.

        None: that is under way, or no longer needed. Else why it cannot be done; empty for an object of
        another owner.
        """
    def pending_object(self) -> ObjectRef[Any]:
        """A new owned object that complete_object() or fail_object() completes (actor handles, promises)."""
    def complete_object(self, ref: ObjectRef[Any], value: Any) -> None: ...

    # -- submitting --
    def submit(self, template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> Any:
        """Queue a task; an ObjectRef, a list of them, or None, by the template's num_returns."""
    def submit_actor(
        self, actor_id: bytes, template: TaskTemplate, args: tuple[Any, ...], kwargs: dict[str, Any] | None
    ) -> Any: ...
    def submit_marker(self, actor_id: bytes, template: TaskTemplate) -> ObjectRef[Any]:
        """A call without arguments that takes no part in backpressure: it never waits."""
    def encode_creation(
        self,
        template: TaskTemplate,
        actor_id: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any] | None,
        parent: Task | None,
    ) -> tuple[bytes, list[ObjectRef[Any]]] | None:
        """The opaque creation task of an actor (its dependencies resolved), and the references that must be
        held as long as it may restart. None when an argument is not ready. `parent` is a parameter because
        another thread than that of the task may do this."""
    def add_lease(self, class_key: int, lease_id: int, worker_id: bytes, address: str) -> None: ...
    def drop_lease(self, lease_id: int) -> bool:
        """Close an idle lease before it is returned; False when a task got it meanwhile."""
    def break_lease(self, lease_id: int, reason: str) -> None:
        """The raylet took it back: its tasks are lost (EVENT_TASK_LOST) or queued again."""
    def reclaim_leases(self, excess: int) -> list[int]:
        """Others wait for resources: the leases that are idle. From now on until the next lease comes, one
        that goes idle is returned (EVENT_LEASE_RETURNED) at once, not after its grace time. `excess` leases
        are beyond the job's fair share: so many become idle after the task that they run, whatever is
        queued."""
    def set_infeasible(self, class_key: int, infeasible: bool) -> None:
        """Whether leases of a class can never come: then no less urgent class gives any up for it."""
    def end_class(self, class_key: int) -> None:
        """Nothing of a class starts any more: EVENT_NEED_LEASES comes for what is submitted, to be failed. It
        is forgotten when nothing of it is left."""
    def fail_class(self, class_key: int, error: bytes, text: str = "") -> int:
        """Fail every queued task of a class (e.g. unschedulable); the number of tasks."""
    def resubmit(self, task_id: bytes, delay_ms: int = 0) -> bool: ...
    def fail_task(self, task_id: bytes, error: bytes, text: str = "") -> bool: ...
    def cancel(self, task_id: bytes, recursive: bool, error: bytes) -> int:
        """CANCEL_UNKNOWN (finished), CANCEL_DONE (it was queued and never runs), CANCEL_SENT (runs; its
        worker was told). `error`: the pickled TaskCancelledError that the results become. After CANCEL_SENT
        workers_of(task_id) names whom to kill when force is wanted."""
    def workers_of(self, task_id: bytes) -> list[tuple[bytes, int]]:
        """(worker id, lease id) that have the task now: two when it runs twice, and an earlier run that was
        called off may not have ended; of calls of actors the lease is 0."""
    def is_call(self, task_id: bytes) -> bool:
        """Whether a task, anybody's, is a call of an actor: its id says so."""
    def ask_to_cancel(self, object_id: bytes, force: bool, recursive: bool) -> bool:
        """Ask the owner of another process's object to cancel its task; False when it is ours or unknown."""
    def children_of(self, task_id: bytes) -> list[bytes]: ...

    # -- actors, caller's side --
    def actor_connect(self, actor_id: bytes, incarnation: int, worker_id: bytes, address: str) -> None:
        """The actor is alive there: send what is queued."""
    def actor_pause(self, actor_id: bytes) -> None:
        """The actor is not there now (pending, restarting): queue calls."""
    def actor_fail(self, actor_id: bytes, error: bytes, text: str = "") -> int:
        """The actor is dead for good: fail what is queued or in flight, and every later call."""
    def actor_set(self, actor_id: bytes, out_of_order: bool) -> None: ...
    def actor_pending_calls(self, actor_id: bytes) -> int: ...

    # -- executing --
    def next_task(self, group: str, timeout_s: float) -> Task | None:
        """The next task of a concurrency group ("" is the default one); None when the time is up or the core
        is closed."""
    def begin(self, task: Task) -> None:
        """The calling context (a thread's, a coroutine's) starts to execute the task: what is submitted or
        waited for in it, or in a copy of it, is the task's."""
    def take_tasks(self, limit: int) -> list[Task]:
        """What can be taken without waiting, of every group; for event loops."""
    def task_fd(self) -> int:
        """A descriptor that becomes readable when take_tasks() or poll() has something to do."""
    def poll(self) -> None:
        """One round over the sockets without waiting; for an event loop that watches task_fd()."""
    def finish(self, task: Task, values: tuple[Any, ...], wait: bool = True) -> Unfinished | bool:
        """Store and send the results, as many values as the task has returns: True. Raises as put(), and then
        none is left in the store. Without `wait`, when the store must be asked: what remains to do."""
    def fail(
        self,
        task: Task,
        error: bytes,
        cancelled: bool = False,
        text: str = "",
        references: Sequence[ObjectRef[Any]] = (),
    ) -> None:
        """End the task with a pickled exception, in which `references` were found (collect_references);
        `text` (type and message) goes to the task events."""
    def load_creation(self, payload: bytes) -> Task:
        """The task in an actor's creation payload; ended by finish()/fail(), which send nothing."""
    def set_groups(self, groups: Sequence[str]) -> None:
        """Names of an actor's concurrency groups; tasks of an unknown group go to the default one."""
    def set_accepting(self, accepting: bool) -> None:
        """Whether pushed tasks are taken; frames that came before wait."""
    def set_actor(self, actor_id: bytes) -> None:
        """This process is that actor from now on; calls for another one are given back."""
    def drain_executor(self) -> int:
        """Stop taking tasks and give back what has not started; the number given back."""
    def take_leave(self, timeout_s: float) -> bool:
        """Before this process ends on purpose: drain_executor(), then wait until what has run is answered and
        the answers are written. Owners hear that nothing else has begun. False when time was up first."""
    def remind(self, task_id: bytes, delay_ms: int) -> bool:
        """EVENT_TASK_OVERDUE once more (`again`) after a while, if this attempt is under way then."""
    def remind_of_called_off(self, task_id: bytes, delay_ms: int) -> None:
        """EVENT_RUN_CALLED_OFF once more (`lingers`) after a while, if that run has not ended by then."""

    # -- seeing --
    def record_span(self, name: str, start_unix_ns: int, end_unix_ns: int, extra_data: str) -> None: ...
    def flush_events(self) -> None: ...
    def statistics(self) -> dict[str, int]: ...
    def references(self, limit: int) -> list[dict[str, Any]]: ...
    def snapshot(self, tasks: bool, objects: bool, limit: int) -> bytes:
        """What this process knows of tasks that have not ended and of objects, as a ProcessSnapshot; at most
        `limit` of each."""

CANCEL_UNKNOWN: Final[int]
CANCEL_DONE: Final[int]
CANCEL_SENT: Final[int]

def collect_references(function: Callable[[], _T_co]) -> tuple[_T_co, list[ObjectRef[Any]]]:
    """Run `function`; the references that were pickled during it are collected instead of leaked."""

def rebuild_reference(object_id: bytes, owner_worker_id: bytes, owner_node_id: bytes) -> ObjectRef[Any]:
    """What a pickled ObjectRef loads as."""

# ---- wire: frames and the handshake for sockets of Python's own; aktis._common.wire is the shell ----

FRAME_HELLO: Final[int]
FRAME_HELLO_ACK: Final[int]
FRAME_HELLO_REJECT: Final[int]
FRAME_PING: Final[int]
FRAME_PONG: Final[int]
FRAME_CONTROL: Final[int]  # worker to raylet and back, protobuf payload; lower types are the wire's own
ROLE_DRIVER: Final[int]
ROLE_WORKER: Final[int]
ROLE_TEMPLATE: Final[int]
ROLE_RAYLET: Final[int]
ROLE_PLASMA: Final[int]
ROLE_TOOL: Final[int]
REJECT_MALFORMED: Final[int]
REJECT_VERSION: Final[int]
REJECT_TOKEN: Final[int]
REJECT_WRONG_PEER: Final[int]
REJECT_ROLE: Final[int]
REJECT_BUSY: Final[int]
FRAME_HEADER_BYTES: Final[int]
MAX_HANDSHAKE_PAYLOAD_BYTES: Final[int]
MAX_PAYLOAD_BYTES: Final[int]
MAX_TOKEN_BYTES: Final[int]

class FrameDecoder:
    """Bytes in, frames out; sizes are checked before anything is allocated."""

    def __init__(self, max_payload_bytes: int = ...) -> None: ...
    def feed(
        self, data: bytes | bytearray | memoryview, limit: int = -1
    ) -> list[tuple[int, int, int, bytes]]:
        """Add received bytes; return complete frames as (type, flags, correlation, payload), at most `limit`
        (negative: all; the others come from later calls). Raises ValueError for malformed input, but hands
        out the good frames before it first; see `error`."""
    def set_max_payload_bytes(self, max_payload_bytes: int) -> None: ...
    @property
    def error(self) -> str:
        """What was wrong with the input, or empty; final."""
    @property
    def buffered_bytes(self) -> int: ...

class Hello:
    """A decoded HELLO or HELLO_ACK. Its token can be checked but not read."""

    @property
    def major(self) -> int: ...
    @property
    def minor(self) -> int: ...
    @property
    def role(self) -> int: ...
    @property
    def sender(self) -> bytes: ...
    @property
    def node(self) -> bytes: ...
    @property
    def pid(self) -> int: ...

def encode_frame(frame_type: int, flags: int, correlation: int, payload: bytes) -> bytes: ...
def encode_hello(
    *,
    role: int,
    sender: bytes,
    node: bytes = b"",
    expected_peer: bytes = b"",
    token: str = "",
    pid: int = 0,
    major: int = ...,
    minor: int = ...,
) -> bytes: ...
def decode_hello(payload: bytes) -> Hello:
    """Raises ValueError when it is malformed. Of another major version only the version is filled in."""

def check_hello(
    hello: Hello,
    *,
    server_id: bytes,
    token: str,
    accepted_roles: Sequence[int],
    required_uid: int | None = None,
    peer_uid: int | None = None,
) -> tuple[int, str] | None:
    """A server's decision: None when welcome, else REJECT_* and a message that never shows a token."""

def check_hello_ack(hello: Hello, expected_peer: bytes) -> tuple[int, str] | None: ...
def encode_reject(code: int, message: str) -> bytes: ...
def decode_reject(payload: bytes) -> tuple[int, str]:
    """(REJECT_*, message); ValueError when it is malformed."""

def listen_socket(address: str) -> tuple[int, str]:
    """Bind and listen without blocking; (descriptor, address with the chosen port). A Unix socket file gets
    mode 0600 and replaces one that nobody listens on. OSError and ValueError name the address."""

def parse_endpoint(address: str) -> tuple[str, str, int]:
    """(path, host, port) of "unix:/path" or "tcp:host:port"; path is empty for TCP. ValueError names it."""

def role_name(role: int) -> str: ...

# ---- native log lines, for a daemon's own logger ----

class NativeLog:
    """Takes the lines of native threads of this process as long as it is open; bounded, never waits."""

    def __init__(self, *, max_lines: int = 1000) -> None: ...
    def fileno(self) -> int:
        """A descriptor that is readable while lines are queued."""
    def drain(self) -> list[tuple[str, str, str]]:
        """The queued lines, oldest first: level ("debug", "info", "warning", "error"), component, message."""
    def close(self) -> None:
        """Let native threads write to stderr again."""

# ---- the object store: for its daemon, tools and tests ----

class PlasmaFullError(Exception):
    """No room before the deadline; the message says who holds what."""

class PlasmaExistsError(Exception):
    """An object of this id exists already."""

class PlasmaDisconnectedError(ConnectionError):
    """The store refused, is gone, or was never connected to."""

class PlasmaStore:
    """The store of one node, on a native thread of its own. Methods are thread-safe and wait without the GIL.

    The constructor makes the memory; RuntimeError says what the system refused. `arena_fd` and `table_fd` are
    those of a store that ran before; the new one takes them over and resumes with all sealed objects.
    """

    def __init__(
        self,
        *,
        address: str,
        capacity_bytes: int,
        token: str = "",
        node_id: bytes = b"",
        populate: bool = False,
        huge_pages: bool = False,
        warm_reserve_bytes: int = 67108864,
        idle_release_s: float = 10.0,
        slab_min_bytes: int = 262144,
        slab_max_bytes: int = 16777216,
        slab_idle_s: float = 1.0,
        create_timeout_ms: int = 10000,
        allowed_uids: Sequence[int] = (),
        arena_fd: int = -1,
        table_fd: int = -1,
    ) -> None: ...
    @property
    def address(self) -> str: ...
    @property
    def arena_fd(self) -> int: ...
    @property
    def table_fd(self) -> int: ...
    def start(self) -> None:
        """Listen and serve; RuntimeError names the address that cannot be bound."""
    def stop(self) -> None:
        """Close every connection and remove the socket file. Idempotent."""
    def statistics(self) -> dict[str, int]: ...
    def list_objects(self, limit: int) -> list[dict[str, Any]]: ...
    def free_owner(self, owner: bytes) -> int:
        """Delete all objects of a worker that died, and those that still arrive; returns how many."""
    def evict(self, bytes: int) -> int:  # noqa: A002
        """Evict unreferenced copies until so many bytes are free; returns the bytes."""

class PlasmaClient:
    """A client of a store with plain waiting calls. Thread-safe; waits without the GIL."""

    def __init__(self, address: str, *, token: str = "", worker_id: bytes = b"") -> None: ...
    def connect(self, timeout_s: float = 5.0) -> None: ...
    def close(self) -> None:
        """Disconnect as soon as no view is left."""
    def put(
        self,
        object_id: bytes,
        data: Any,
        *,
        owner: bytes = b"",
        timeout_s: float = 10.0,
        primary: bool = True,
    ) -> memoryview:
        """Store a copy of a buffer; the view returned pins it. ValueError: larger than the store."""
    def create(
        self,
        object_id: bytes,
        size_bytes: int,
        *,
        owner: bytes = b"",
        timeout_s: float = 10.0,
        primary: bool = True,
    ) -> memoryview:
        """Room to write to, valid until seal(), abort() or close()."""
    def seal(self, object_id: bytes) -> memoryview: ...
    def abort(self, object_id: bytes) -> None: ...
    def get(self, object_id: bytes, timeout_s: float = 10.0) -> memoryview | None:
        """A read-only view that pins the object while it lives; None when the time is up. KeyError: lost."""
    def contains(self, object_id: bytes, timeout_s: float = 10.0) -> bool:
        """Whether the object is sealed in the store now."""
    def delete(self, object_ids: Sequence[bytes]) -> None: ...
    def sync(self, timeout_s: float = 10.0) -> bool:
        """Wait until the store has taken in everything sent before; False when it did not in time."""

class collective:  # noqa: N801 - a submodule; a single stub file can only write it as a class
    """The submodule aktis._core.collective: collective operations of processes on one node.

    Types and reductions are numbers: indices of DATA_TYPES, values of ReduceOp. Arrays are plain buffers.
    """

    MAX_MEMBERS: Final[int]
    DATA_TYPES: Final[tuple[str, ...]]
    @staticmethod
    def create_memory(world_size: int) -> int:
        """The descriptor of a new group's memory, which is the caller's to close."""
    @staticmethod
    def combine(target: Any, other: Any, dtype: int, op: int) -> None:
        """Reduce `other` into `target`. ValueError when they differ in size or have no such reduction."""

    class SharedGroup:
        """One member of a group. Takes over the descriptor, also when that fails.

        One thread at a time calls a collective operation, one send() and one receive(). RuntimeError: a
        member died or left, TimeoutError: one was late; from then on all calls of all members fail.
        ValueError: the members call different things; the group goes on.
        """

        def __init__(self, descriptor: int, rank: int, world_size: int) -> None: ...
        def barrier(self, timeout_s: float) -> None: ...
        def all_reduce(self, data: Any, dtype: int, op: int, timeout_s: float) -> None: ...
        def reduce(self, data: Any, dtype: int, op: int, root: int, timeout_s: float) -> None: ...
        def broadcast(self, data: Any, dtype: int, root: int, timeout_s: float) -> None: ...
        def all_gather(self, data: Any, outputs: Sequence[Any], dtype: int, timeout_s: float) -> None: ...
        def reduce_scatter(
            self, inputs: Sequence[Any], output: Any, dtype: int, op: int, timeout_s: float
        ) -> None: ...
        def send(self, data: Any, dtype: int, to: int, timeout_s: float) -> None: ...
        def receive(self, data: Any, dtype: int, source: int, timeout_s: float) -> None: ...

class testing:  # noqa: N801 - a submodule; a single stub file can only write it as a class
    """The submodule aktis._core.testing: parts of the core for tests without sockets. Ids are raw bytes."""

    class ReferenceTable:
        """Who holds which object, and when its owner may free it; see cpp/core/references.h.

        Misuse raises RuntimeError with the id.
        """

        def __init__(self, self_id: bytes) -> None: ...
        def add_owned(self, object_id: bytes) -> None: ...
        def add_local(self, object_id: bytes) -> None: ...
        def remove_local(self, object_id: bytes) -> None: ...
        def pin_forever(self, object_id: bytes) -> None: ...
        def add_borrowed_by_task(
            self, object_id: bytes, owner: bytes, task: bytes, caller: bytes
        ) -> None: ...
        def add_borrowed_by_object(self, object_id: bytes, owner: bytes, outer: bytes) -> None: ...
        def add_task_use(self, object_id: bytes) -> None: ...
        def remove_task_use(self, object_id: bytes) -> None: ...
        def set_contained(self, outer: bytes, inners: list[bytes]) -> None: ...
        def end_task(self, task: bytes) -> bool: ...
        def hold_return(self, caller: bytes, object_ids: list[bytes]) -> int: ...
        def adopt_return(self, executor: bytes, hold: int, refs: list[tuple[bytes, bytes, bytes]]) -> None:
            """Take over references (result, reference inside it, its owner) from a reply."""
        def on_borrow_add(self, sender: bytes, object_id: bytes, generation: int) -> None: ...
        def on_borrow_ack(self, sender: bytes, object_id: bytes, generation: int) -> None: ...
        def on_borrow_nack(self, sender: bytes, object_id: bytes, generation: int) -> None: ...
        def on_borrow_remove(self, sender: bytes, object_id: bytes, generation: int) -> None: ...
        def on_return_release(self, sender: bytes, hold: int) -> None: ...
        def on_process_lost(self, worker: bytes) -> None: ...
        def take_actions(self) -> list[tuple[str, bytes, bytes, int, bytes]]:
            """What is to be done, in order: (kind, peer, object, generation or hold, task)."""
        def state(self, object_id: bytes) -> str:
            """One of owned, freed, covered, adding, registered, owner_died, lost, unknown."""
        def idle(self) -> bool:
            """Tell whether nothing is remembered of any object, task, hold or living peer."""
        def validate(self) -> None:
            """Check the invariants of the records; RuntimeError names the first broken one."""

    @staticmethod
    def object_lost_event(reason: bytes) -> list[tuple[Any, ...]]:
        """Return what the policy thread gets when an object is lost for a reason that its owner wrote."""
