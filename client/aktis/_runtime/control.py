"""Requests to the raylet, and through it to the GCS: protobuf messages over the core's control channel."""

from collections.abc import Callable
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from aktis._core import Core
from aktis._proto import gcs_pb2, raylet_pb2
from aktis.exceptions import AktisError, LocalRayletDiedError

DEFAULT_TIMEOUT_S: Final = 30.0
# How much longer than the daemons' own deadline we wait, so that their answer, which says why, comes first.
_GRACE_S: Final = 2.0
DEATH_TIMEOUT_S: Final = 5.0

Reply = TypeVar("Reply", bound=Message)
OnAnswer = Callable[[raylet_pb2.GcsResult], None]

STATUS_DEADLINE_EXCEEDED: Final = 4
STATUS_UNAVAILABLE: Final = 14
UNANSWERED: Final = frozenset({STATUS_DEADLINE_EXCEEDED, STATUS_UNAVAILABLE})
ATTEMPTS: Final = 10
"""How often what the GCS does not answer is asked in all: it may be restarting."""


class ControlError(AktisError):
    """A daemon refused or could not serve a request; ``status`` is a gRPC status code."""

    def __init__(self, message: str, status: int = 0) -> None:
        """Keep the status beside the message."""
        super().__init__(message, status)
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class Control:
    """Blocking calls and one-way messages. Any thread; a call releases the GIL while it waits."""

    def __init__(self, core: Core) -> None:
        """Speak over the connection that ``core`` has."""
        self._core = core
        self._on_answer: dict[int, OnAnswer] = {}

    def call(
        self, message: raylet_pb2.ClientMessage, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> raylet_pb2.RayletMessage:
        """Send a request to the raylet and return its answer.

        Raises:
            LocalRayletDiedError: the connection to the raylet is gone.
            ControlError: the raylet refused, or did not answer in time.
        """
        message.request_id = self._core.next_request_id()
        try:
            raw = self._core.call(message.SerializeToString(), message.request_id, timeout_s)
        except ConnectionError as error:
            raise LocalRayletDiedError(
                f"the raylet of this node is gone ({error}): call aktis.shutdown() and aktis.init() to go on"
            ) from error
        kind = message.WhichOneof("body")
        if raw is None:
            raise ControlError(
                f"the raylet did not answer {kind} within {timeout_s:g} s", STATUS_DEADLINE_EXCEEDED
            )
        answer = raylet_pb2.RayletMessage.FromString(raw)
        if answer.HasField("failure"):
            raise ControlError(f"the raylet refused {kind}: {answer.failure.message}", answer.failure.status)
        return answer

    def notify(self, **body: Any) -> None:
        """Send a message that needs no answer; ``notify(return_leases=...)``."""
        self._core.notify(raylet_pb2.ClientMessage(**body).SerializeToString())

    def gcs(
        self, method: str, request: Message, reply: type[Reply], timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Reply:
        """Call a unary method of the GCS through the raylet.

        Raises:
            LocalRayletDiedError: the connection to the raylet is gone.
            ControlError: with the GCS's reason, or that it did not answer in time.
        """
        call = raylet_pb2.GcsCall(
            method=method, payload=request.SerializeToString(), timeout_ms=int(timeout_s * 1000)
        )
        result = self.call(raylet_pb2.ClientMessage(gcs_call=call), timeout_s + _GRACE_S).gcs_result
        if result.status != 0:
            raise ControlError(f"the GCS could not serve {method}: {result.error}", result.status)
        return reply.FromString(result.payload)

    def gcs_insistently(
        self, method: str, request: Message, reply: type[Reply], timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Reply:
        """Call a method again when the GCS does not answer; for what is idempotent. Raises as `gcs` does."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self.gcs(method, request, reply, timeout_s)
            except ControlError as error:
                if error.status not in UNANSWERED:
                    raise
        return self.gcs(method, request, reply, timeout_s)

    def send_gcs(self, method: str, request: Message, on_answer: OnAnswer, timeout_s: float) -> None:
        """Call a unary method of the GCS without waiting; ``on_answer`` is called on the service thread.

        The raylet answers by ``timeout_s`` at the latest; never when it is gone, and everything with it.
        """
        call = raylet_pb2.GcsCall(
            method=method, payload=request.SerializeToString(), timeout_ms=int(timeout_s * 1000)
        )
        request_id = self._core.next_request_id()
        self._on_answer[request_id] = on_answer
        message = raylet_pb2.ClientMessage(request_id=request_id, gcs_call=call)
        self._core.notify(message.SerializeToString())

    def answered(self, message: raylet_pb2.RayletMessage) -> None:
        """An answer came that no `call` waits for."""
        on_answer = self._on_answer.pop(message.request_id, None)
        if on_answer is None:
            return  # its caller has given up
        if message.HasField("failure"):
            on_answer(raylet_pb2.GcsResult(status=message.failure.status, error=message.failure.message))
        else:
            on_answer(message.gcs_result)

    # ---- the few calls that several modules need ----

    def kv_get(self, namespace: str, key: bytes) -> bytes | None:
        """Return a value of the cluster's key-value store, None when there is none."""
        request = gcs_pb2.KvGetRequest(namespace=namespace, key=key)
        reply = self.gcs("KvGet", request, gcs_pb2.KvGetReply)
        return reply.value if reply.found else None

    def kv_put(
        self,
        namespace: str,
        key: bytes,
        value: bytes,
        *,
        overwrite: bool,
        job_id: bytes = b"",
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> bool:
        """Store a value; False when there is one already and it was not overwritten.

        With ``job_id`` it is kept until that job is over, with its actors, and every other that has put it.
        """
        request = gcs_pb2.KvPutRequest(
            namespace=namespace, key=key, value=value, overwrite=overwrite, job_id=job_id
        )
        return self.gcs("KvPut", request, gcs_pb2.KvPutReply, timeout_s).added

    def actor(self, actor_id: bytes) -> gcs_pb2.Actor | None:
        """Return the state of an actor, None when the cluster does not know it."""
        request = gcs_pb2.GetActorRequest(actor_id=actor_id)
        reply = self.gcs_insistently("GetActor", request, gcs_pb2.GetActorReply)
        return reply.actor if reply.found else None

    def death_cause(self, worker_id: bytes) -> Any:
        """Return why a process of this node died (a DeathCause), None when that is not known in time."""
        message = raylet_pb2.ClientMessage(ask_death=raylet_pb2.AskDeath(worker_id=worker_id))
        try:
            answer = self.call(message, DEATH_TIMEOUT_S).death_answer
        except ControlError as error:
            if error.status not in UNANSWERED:
                raise
            return None
        return answer.cause if answer.found else None
