"""The functions; each asks the GCS once, through this process's session."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from aktis._proto import gcs_pb2
from aktis._runtime import current
from aktis.util.state.records import ActorState, JobState, NodeState, PlacementGroupState, Record

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 10_000
DEFAULT_TIMEOUT_S: Final = 30

Filter = tuple[str, str, str | bool | int | float]
R = TypeVar("R", bound=Record)
Reply = TypeVar("Reply", bound=Message)

_ALIASES: Final = {"ray_namespace": "namespace"}


def list_actors(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[ActorState]:
    """Return actors of the cluster, dead ones as far as they are remembered.

    Args:
        address: Must be None or "auto": the cluster of this process's session.
        filters: What must all hold: (name of a field, "=" or "!=", value); text is compared without case.
        limit: How many are returned at most, 1 to 10 000.
        timeout: How long the GCS may take, in seconds.
        detail, raise_on_missing_output: Accepted for compatibility; records are always complete.

    Raises:
        TypeError, ValueError: an argument is not valid.
        AktisError: the GCS did not answer in time.
    """
    del detail, raise_on_missing_output
    return _select(address, ActorState, lambda: map(ActorState.of, _actors(timeout)), filters, limit)


def list_nodes(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[NodeState]:
    """Return the nodes of the cluster; arguments and errors as for `list_actors`."""
    del detail, raise_on_missing_output
    return _select(address, NodeState, lambda: map(NodeState.of, _nodes(timeout)), filters, limit)


def list_jobs(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[JobState]:
    """Return the programs of the cluster; arguments and errors as for `list_actors`."""
    del detail, raise_on_missing_output
    return _select(address, JobState, lambda: map(JobState.of, _jobs(timeout)), filters, limit)


def list_placement_groups(
    address: str | None = None,
    filters: Sequence[Filter] | None = None,
    limit: int = DEFAULT_LIMIT,
    timeout: float = DEFAULT_TIMEOUT_S,
    detail: bool = False,
    raise_on_missing_output: bool = True,
) -> list[PlacementGroupState]:
    """Return the placement groups of the cluster; arguments and errors as for `list_actors`."""
    del detail, raise_on_missing_output
    kind = PlacementGroupState
    return _select(address, kind, lambda: map(kind.of, _groups(timeout)), filters, limit)


def get_actor(id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> ActorState | None:  # noqa: A002
    """Return an actor by its id in hexadecimal; None when the cluster does not know it."""
    return _only(list_actors(address, [("actor_id", "=", id)], timeout=timeout))


def get_node(id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> NodeState | None:  # noqa: A002
    """Return a node by its id in hexadecimal; None when the cluster does not know it."""
    return _only(list_nodes(address, [("node_id", "=", id)], timeout=timeout))


def get_job(id: str, address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> JobState | None:  # noqa: A002
    """Return a program by its id in hexadecimal; None when the cluster does not know it."""
    return _only(list_jobs(address, [("job_id", "=", id)], timeout=timeout))


def get_placement_group(
    id: str,  # noqa: A002  the name is part of the API to be compatible with
    address: str | None = None,
    timeout: float = DEFAULT_TIMEOUT_S,
) -> PlacementGroupState | None:
    """Return a placement group by its id in hexadecimal; None when the cluster does not know it."""
    return _only(list_placement_groups(address, [("placement_group_id", "=", id)], timeout=timeout))


def summarize_actors(
    address: str | None = None, timeout: float = DEFAULT_TIMEOUT_S, raise_on_missing_output: bool = True
) -> dict[str, Any]:
    """Count the actors of each class by their states.

    Returns:
        ``{"cluster": {"summary": {class: {"class_name": ..., "state_counts": {state: number}}},
        "total_actors": number, "summary_by": "class"}}``
    """
    del raise_on_missing_output
    _check_address(address)
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for actor in map(ActorState.of, _actors(timeout)):
        counts[actor.class_name][actor.state] += 1
    summary = {
        name: {"class_name": name, "state_counts": dict(states)} for name, states in sorted(counts.items())
    }
    total = sum(states.total() for states in counts.values())
    return {"cluster": {"summary": summary, "total_actors": total, "summary_by": "class"}}


# ---- asking ----


def _ask(method: str, request: Message, reply: type[Reply], timeout_s: float) -> Reply:
    return current.require().control.gcs(method, request, reply, timeout_s)


def _actors(timeout_s: float) -> Iterable[gcs_pb2.Actor]:
    request = gcs_pb2.ListActorsRequest(include_dead=True)
    return _ask("ListActors", request, gcs_pb2.ListActorsReply, timeout_s).actors


def _nodes(timeout_s: float) -> Iterable[gcs_pb2.Node]:
    return _ask("ListNodes", gcs_pb2.ListNodesRequest(), gcs_pb2.ListNodesReply, timeout_s).nodes


def _jobs(timeout_s: float) -> Iterable[gcs_pb2.Job]:
    return _ask("ListJobs", gcs_pb2.ListJobsRequest(), gcs_pb2.ListJobsReply, timeout_s).jobs


def _groups(timeout_s: float) -> Iterable[gcs_pb2.PlacementGroup]:
    request, reply = gcs_pb2.ListPlacementGroupsRequest(), gcs_pb2.ListPlacementGroupsReply
    return _ask("ListPlacementGroups", request, reply, timeout_s).groups


# ---- choosing ----


def _check_address(address: str | None) -> None:
    if address not in (None, "auto"):
        raise ValueError(
            f"address must be None or 'auto', got {address!r}: call aktis.init(address=...) to look at "
            "another cluster"
        )


def _select(
    address: str | None,
    kind: type[R],
    fetch: Callable[[], Iterable[R]],
    filters: Sequence[Filter] | None,
    limit: int,
) -> list[R]:
    _check_address(address)
    _check_integer("limit", limit)
    if not 1 <= limit <= MAX_LIMIT:
        raise ValueError(f"limit must be 1 to {MAX_LIMIT}, got {limit}")
    tests = [_test(kind, one) for one in filters or ()]
    found = [record for record in fetch() if all(test(record) for test in tests)]
    return found[:limit]


def _check_integer(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")


def _test(kind: type[Record], condition: Filter) -> Callable[[Record], bool]:
    if len(condition) != 3:
        raise ValueError(f'a filter is (name, "=" or "!=", value), got {condition!r}')
    name, operator, value = condition
    name = _ALIASES.get(name, name)
    if name not in kind.names():
        raise ValueError(
            f"there is nothing called {name!r} to filter by; there are {', '.join(kind.names())}"
        )
    if operator not in ("=", "!="):
        raise ValueError(f'the operator of a filter is "=" or "!=", got {operator!r}')
    wanted = str(value).lower()
    return lambda record: (str(record[name]).lower() == wanted) == (operator == "=")


def _only(found: list[R]) -> R | None:
    return found[0] if found else None
