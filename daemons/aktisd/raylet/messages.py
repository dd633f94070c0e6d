"""Typed events into the raylet's pure logic and instructions out of it. Plain data; see ``node.py``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from aktis._common.environments import Environment
from aktis._proto import common_pb2, gcs_pb2

from aktisd.raylet.resources import Amounts

# ---- events ----


@dataclass(frozen=True, slots=True)
class DriverJoined:
    """A driver is registered with its job."""

    client: bytes
    job_id: bytes


@dataclass(frozen=True, slots=True)
class ClientGone:
    """A driver's or worker's connection is closed for good."""

    client: bytes


@dataclass(frozen=True, slots=True)
class JobOver:
    """The job's driver is gone or the GCS ended the job."""

    job_id: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class LeasesRequested:
    """``wanted`` more leases of a class; replaces the client's earlier wish for it, 0 withdraws."""

    client: bytes
    class_key: int
    wanted: int
    amounts: Amounts
    job_id: bytes
    name: str
    backlog: int = 0
    environment: str = ""
    """Hash of the runtime environment; empty for none."""
    priority: int = 0
    group: bytes = b""
    """The placement group out of whose reservation they come; empty: what the node has besides."""
    bundle_index: int = -1
    """Of the group; -1: any."""


@dataclass(frozen=True, slots=True)
class LeasesReturned:
    """Leases given back; ``failing`` ones have a worker that must not be used again."""

    client: bytes
    lease_ids: tuple[int, ...]
    failing: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class KillAsked:
    """The holder of a lease wants its worker killed."""

    client: bytes
    worker_id: bytes
    lease_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class BlockedChanged:
    """A worker starts or stops waiting in ``get`` or ``wait``."""

    worker_id: bytes
    blocked: bool


@dataclass(frozen=True, slots=True)
class Forked:
    """The template made the process, or could not (``error``)."""

    token: int
    pid: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class WorkerJoined:
    """A worker has registered on the control socket and listens."""

    token: int
    address: common_pb2.ProcessAddress


@dataclass(frozen=True, slots=True)
class WorkerStays:
    """An idle worker was asked to end and does not, because objects that it owns are in use."""

    worker_id: bytes


@dataclass(frozen=True, slots=True)
class WorkerEnding:
    """A worker announces that it is about to exit on purpose."""

    worker_id: bytes
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class WorkerDied:
    """The process is gone; ``cause`` is what was seen, without what was intended."""

    token: int
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class TemplateLost:
    """A template died: forks that it had not confirmed will never come."""

    reason: str
    template: str = ""
    """The environment that it serves; empty for the common one."""


@dataclass(frozen=True, slots=True)
class EnvironmentWanted:
    """Somebody is about to need a runtime environment."""

    name: str
    job_id: bytes


@dataclass(frozen=True, slots=True)
class EnvironmentDescribed:
    """What an environment consists of."""

    name: str
    environment: Environment


@dataclass(frozen=True, slots=True)
class EnvironmentPrepared:
    """A set-up has succeeded; sizes in bytes of the entries of the cache that it uses."""

    name: str
    sizes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EnvironmentFailed:
    """An environment cannot be had; the reason is for people and includes the tool's output."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class ActorWanted:
    """The GCS placed an actor here."""

    spec: gcs_pb2.ActorSpec
    incarnation: int
    bundle_index: int = -1
    """Of its placement group."""


@dataclass(frozen=True, slots=True)
class ActorUnwanted:
    """The GCS wants an actor's process to end."""

    actor_id: bytes
    incarnation: int
    graceful: bool
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class ActorReady:
    """The process has run (or failed in) the actor's constructor."""

    worker_id: bytes
    actor_id: bytes
    incarnation: int
    failed: bool
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class BundlesWanted:
    """The GCS wants the same bundles reserved here for each of these placement groups, all or none."""

    groups: Sequence[bytes]
    attempt: int
    bundles: Mapping[int, Amounts]


@dataclass(frozen=True, slots=True)
class BundlesCommitted:
    """The placement groups exist: their bundles may be used."""

    groups: Sequence[bytes]
    attempt: int


@dataclass(frozen=True, slots=True)
class BundlesUnwanted:
    """The groups' bundles of an attempt (0: of all) go back; who uses them ends."""

    groups: Sequence[bytes]
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RoomWanted:
    """Others than tasks of this node wait for resources that idle leases hold."""


@dataclass(frozen=True, slots=True)
class TotalChanged:
    """The node has another amount of a countable resource."""

    name: str
    amount: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; deadlines may be due."""


Event = (
    DriverJoined
    | ClientGone
    | JobOver
    | LeasesRequested
    | LeasesReturned
    | KillAsked
    | BlockedChanged
    | Forked
    | WorkerJoined
    | WorkerEnding
    | WorkerStays
    | WorkerDied
    | TemplateLost
    | ActorWanted
    | ActorUnwanted
    | ActorReady
    | BundlesWanted
    | BundlesCommitted
    | BundlesUnwanted
    | RoomWanted
    | TotalChanged
    | EnvironmentWanted
    | EnvironmentDescribed
    | EnvironmentPrepared
    | EnvironmentFailed
    | Tick
)

BUNDLE_EVENTS: Final[dict[str, Callable[[gcs_pb2.BundleOrder], Event]]] = {
    "prepare": lambda order: BundlesWanted(
        tuple(order.placement_group_ids),
        order.attempt,
        {item.index: dict(item.resources.amounts) for item in order.prepare.bundles},
    ),
    "commit": lambda order: BundlesCommitted(tuple(order.placement_group_ids), order.attempt),
    "give_back": lambda order: BundlesUnwanted(
        tuple(order.placement_group_ids), order.attempt, order.give_back.reason
    ),
}
"""What the GCS orders about the bundles of placement groups."""

# ---- instructions ----


@dataclass(frozen=True, slots=True)
class ForkWorkers:
    """Ask a template for one process per token."""

    tokens: tuple[int, ...]
    template: str = ""


@dataclass(frozen=True, slots=True)
class EndWorker:
    """End a process: politely first unless ``force``; ``graceful`` lets it finish what is queued."""

    token: int
    cause: common_pb2.DeathCause | None
    force: bool
    graceful: bool = False


@dataclass(frozen=True, slots=True)
class SpareWorker:
    """Take back a polite EndWorker: the process lives on."""

    token: int


@dataclass(frozen=True, slots=True)
class GrantedLease:
    """One lease as its owner is told."""

    lease_id: int
    token: int
    worker: common_pb2.ProcessAddress
    devices: Mapping[str, tuple[int, ...]]
    amounts: Amounts
    job_id: bytes
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """Tell the owner of its new leases, and each worker of its assignment."""

    client: bytes
    class_key: int
    leases: tuple[GrantedLease, ...]
    others_wait: bool = False
    """Like an AskReclaim with it: leases are to come back as soon as they are idle."""


@dataclass(frozen=True, slots=True)
class TellPending:
    """Tell a client what waiting alone will not solve."""

    client: bytes
    class_key: int
    infeasible: bool
    explanation: str
    stuck: bool = False
    """Every worker that there may be is in use."""


@dataclass(frozen=True, slots=True)
class TellFailed:
    """Tell a client that what it asks for cannot be had: its runtime environment could not be set up."""

    client: bytes
    class_key: int
    reason: str


@dataclass(frozen=True, slots=True)
class TellLost:
    """Tell a client that a leased worker died."""

    client: bytes
    lease_id: int
    worker_id: bytes
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class AskReclaim:
    """Ask a client for idle leases, and for ``excess`` ones in any case."""

    client: bytes
    excess: int


@dataclass(frozen=True, slots=True)
class RunActor:
    """Tell a worker to become an actor."""

    token: int
    spec: gcs_pb2.ActorSpec
    incarnation: int
    devices: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ReportActor:
    """Tell the GCS about an actor."""

    report: gcs_pb2.ActorReport


@dataclass(frozen=True, slots=True)
class ReportBundles:
    """Tell the GCS whether bundles are reserved."""

    answers: gcs_pb2.BundleAnswers


@dataclass(frozen=True, slots=True)
class ReportResources:
    """Tell the GCS at once what is free: it waits for it."""


@dataclass(frozen=True, slots=True)
class ProcessEnded:
    """A registered process is gone for good: free what it owned, remember why it died."""

    worker_id: bytes
    token: int
    cause: common_pb2.DeathCause


@dataclass(frozen=True, slots=True)
class FetchEnvironment:
    """Ask the cluster what an environment consists of."""

    name: str


@dataclass(frozen=True, slots=True)
class PrepareEnvironment:
    """Start the set-up of an environment."""

    name: str
    environment: Environment


@dataclass(frozen=True, slots=True)
class EndSetup:
    """End a set-up that is under way; it is reported as failed with this reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class EndTemplate:
    """No more workers will be forked from this template."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoveCached:
    """Remove entries of the cache; nobody uses them."""

    keys: tuple[str, ...]


Instruction = (
    ForkWorkers
    | EndWorker
    | SpareWorker
    | Grant
    | TellPending
    | TellLost
    | AskReclaim
    | RunActor
    | ReportActor
    | ReportBundles
    | ReportResources
    | ProcessEnded
    | TellFailed
    | FetchEnvironment
    | PrepareEnvironment
    | EndSetup
    | EndTemplate
    | RemoveCached
)
