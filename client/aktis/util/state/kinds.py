"""The kinds of things that the cluster can be asked for: one table, for the functions and for the command."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from aktis._proto import gcs_pb2, snapshot_pb2
from aktis.util.state.records import ActorState, JobState, NodeState, PlacementGroupState, Record
from aktis.util.state.source import Source
from aktis.util.state.work import ObjectState, RuntimeEnvState, TaskState, WorkerState, merge_tasks

MAX_LIMIT: Final = 10_000
# What the round takes at most, besides the way there and back; see daemons/aktisd/gcs/snapshots.py.
_ROUND_SHARE: Final = 0.5

R_co = TypeVar("R_co", bound=Record, covariant=True)


@dataclass(frozen=True)
class Question:
    """What is asked, of whom, and how much of it."""

    ask: Source
    timeout_s: float
    limit: int = MAX_LIMIT
    """How many records each source may send."""
    equal: Mapping[str, str] = field(default_factory=dict)
    """What fields must equal, for a source that can choose."""


@dataclass
class Found(Generic[R_co]):
    """What came."""

    records: Iterable[R_co]
    left_off: int = 0
    """What sources had beyond the limit."""
    silent: list[str] = field(default_factory=list)
    """Who has not answered in time."""


@dataclass(frozen=True)
class Kind(Generic[R_co]):
    """A row of the table."""

    plural: str
    singular: str
    record: type[R_co]
    id_field: str
    what: str
    """For docstrings: "actors of the cluster, dead ones ..."."""
    fetch: Callable[[Question], Found[R_co]]
    columns: tuple[str, ...]
    """What a table of the command shows."""


# ---- what the GCS knows ----


def _actors(question: Question) -> Found[ActorState]:
    request = gcs_pb2.ListActorsRequest(include_dead=True)
    reply = question.ask("ListActors", request, gcs_pb2.ListActorsReply, question.timeout_s)
    return Found(map(ActorState.of, reply.actors))


def _nodes(question: Question) -> Found[NodeState]:
    reply = question.ask("ListNodes", gcs_pb2.ListNodesRequest(), gcs_pb2.ListNodesReply, question.timeout_s)
    return Found(map(NodeState.of, reply.nodes))


def _jobs(question: Question) -> Found[JobState]:
    reply = question.ask("ListJobs", gcs_pb2.ListJobsRequest(), gcs_pb2.ListJobsReply, question.timeout_s)
    return Found(map(JobState.of, reply.jobs))


def _groups(question: Question) -> Found[PlacementGroupState]:
    request, reply = gcs_pb2.ListPlacementGroupsRequest(), gcs_pb2.ListPlacementGroupsReply
    groups = question.ask("ListPlacementGroups", request, reply, question.timeout_s).groups
    return Found(map(PlacementGroupState.of, groups))


# ---- what nodes and processes know ----


def take(
    question: Question, what: snapshot_pb2.TakeSnapshot, node_id: str = ""
) -> tuple[list[snapshot_pb2.NodeSnapshot], list[str]]:
    """Have the cluster, or one node, take a snapshot.

    Returns:
        What each node says, and who has not answered in time.
    """
    what.limit, what.timeout_ms = question.limit, int(question.timeout_s * 1000 * _ROUND_SHARE)
    request = snapshot_pb2.TakeSnapshotRequest(what=what, node_id=bytes.fromhex(node_id))
    reply = question.ask("TakeSnapshot", request, snapshot_pb2.TakeSnapshotReply, question.timeout_s)
    return list(reply.nodes), [*reply.silent, *(one for node in reply.nodes for one in node.silent)]


def _left_off(nodes: Iterable[snapshot_pb2.NodeSnapshot]) -> int:
    return sum(node.left_off + sum(process.left_off for process in node.processes) for node in nodes)


def _tasks(question: Question) -> Found[TaskState]:
    # First who runs, then what has ended: what ends in between is in both, and nothing in neither.
    nodes, silent = take(question, snapshot_pb2.TakeSnapshot(tasks=True))
    request = gcs_pb2.ListTaskEventsRequest(
        limit=question.limit,
        task_id=bytes.fromhex(_hex(question.equal.get("task_id", ""))),
        job_id=bytes.fromhex(_hex(question.equal.get("job_id", ""))),
    )
    reply = question.ask("ListTaskEvents", request, gcs_pb2.ListTaskEventsReply, question.timeout_s)
    chosen = bool(request.task_id)
    more = 0 if chosen else max(0, reply.stored - len(reply.batch.events))
    return Found(merge_tasks(nodes, reply.batch.events), _left_off(nodes) + more, silent)


def _objects(question: Question) -> Found[ObjectState]:
    nodes, silent = take(question, snapshot_pb2.TakeSnapshot(objects=True))
    records = [
        ObjectState.of(held, process, node)
        for node in nodes
        for process in node.processes
        for held in process.objects
    ]
    return Found(records, _left_off(nodes), silent)


def _workers(question: Question) -> Found[WorkerState]:
    nodes, silent = take(question, snapshot_pb2.TakeSnapshot(workers=True))
    records = [WorkerState.of(worker, node) for node in nodes for worker in node.workers]
    return Found(records, _left_off(nodes), silent)


def _environments(question: Question) -> Found[RuntimeEnvState]:
    nodes, silent = take(question, snapshot_pb2.TakeSnapshot(environments=True))
    records = [RuntimeEnvState.of(one, node) for node in nodes for one in node.environments]
    return Found(records, _left_off(nodes), silent)


def _hex(text: str) -> str:
    """Return a text if it is hexadecimal; else nothing, and the filter finds nothing by itself."""
    try:
        return bytes.fromhex(text).hex()
    except ValueError:
        return ""


ACTORS: Final = Kind(
    "actors",
    "actor",
    ActorState,
    "actor_id",
    "actors of the cluster, dead ones as far as they are remembered",
    _actors,
    ("actor_id", "class_name", "state", "name", "job_id", "node_id", "pid"),
)
NODES: Final = Kind(
    "nodes",
    "node",
    NodeState,
    "node_id",
    "the nodes of the cluster",
    _nodes,
    ("node_id", "node_ip", "is_head_node", "state", "node_name", "resources_total"),
)
JOBS: Final = Kind(
    "jobs",
    "job",
    JobState,
    "job_id",
    "the programs of the cluster",
    _jobs,
    ("job_id", "status", "entrypoint", "driver_pid", "namespace"),
)
PLACEMENT_GROUPS: Final = Kind(
    "placement_groups",
    "placement_group",
    PlacementGroupState,
    "placement_group_id",
    "the placement groups of the cluster",
    _groups,
    ("placement_group_id", "name", "state", "strategy"),
)
TASKS: Final = Kind(
    "tasks",
    "task",
    TaskState,
    "task_id",
    "attempts of tasks and of actors' calls: those that have not ended, then the last that have",
    _tasks,
    ("task_id", "name", "state", "type", "job_id", "worker_pid", "error_type"),
)
OBJECTS: Final = Kind(
    "objects",
    "object",
    ObjectState,
    "object_id",
    "objects, one record for each process that holds one",
    _objects,
    ("object_id", "object_size", "task_status", "reference_type", "type", "pid"),
)
WORKERS: Final = Kind(
    "workers",
    "worker",
    WorkerState,
    "worker_id",
    "drivers and workers, living ones and the last dead",
    _workers,
    ("worker_id", "is_alive", "worker_type", "exit_type", "node_id", "pid"),
)
RUNTIME_ENVS: Final = Kind(
    "runtime_envs",
    "runtime_env",
    RuntimeEnvState,
    "runtime_env_hash",
    "runtime environments that nodes have or make",
    _environments,
    ("runtime_env_hash", "success", "node_id", "creation_time_ms", "runtime_env"),
)

KINDS: Final[tuple[Kind[Record], ...]] = (
    ACTORS,
    NODES,
    JOBS,
    PLACEMENT_GROUPS,
    TASKS,
    OBJECTS,
    WORKERS,
    RUNTIME_ENVS,
)
