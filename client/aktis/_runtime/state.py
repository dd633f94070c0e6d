"""What the cluster has and does: nodes, resources, the timeline of tasks."""

import json
from collections import Counter
from typing import Any, Final

from aktis._common.proto_values import enum_name
from aktis._common.resources import ResourceSet
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2
from aktis._runtime import current
from aktis._runtime.session import Session

_EVENTS: Final = common_pb2.TaskEvent
_NO_DAEMON: Final = gcs_pb2.Daemon()


def list_nodes(session: Session) -> list[gcs_pb2.Node]:
    """Return every node that the cluster remembers, dead ones as well."""
    reply = session.control.gcs("ListNodes", gcs_pb2.ListNodesRequest(), gcs_pb2.ListNodesReply)
    return list(reply.nodes)


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster.

    Returns:
        One dict per node: ``NodeID``, ``Alive``, ``NodeManagerAddress``, ``NodeManagerHostname``,
        ``Resources``, ``Labels``, ``IsHead``, ``RayletSocketName``, ``ObjectStoreSocketName``,
        ``MetricsExportPort``, ``NodeManagerPort``, ``ObjectManagerPort`` (0 where something has no port),
        ``DeathReason`` (the state as a number), ``DeathReasonMessage``.
    """
    return [_describe(node) for node in list_nodes(current.require())]


def _describe(node: gcs_pb2.Node) -> dict[str, Any]:
    alive = node.state != gcs_pb2.Node.DEAD
    daemons = {daemon.name: daemon for daemon in node.daemons}
    return {
        "NodeID": node.node_id.hex(),
        "Alive": alive,
        "alive": alive,
        "NodeManagerAddress": node.ip,
        "NodeManagerHostname": node.hostname,
        "NodeName": node.ip,
        "RayletSocketName": node.raylet_socket.removeprefix("unix:"),
        "ObjectStoreSocketName": daemons.get("plasma", _NO_DAEMON).grpc_address.removeprefix("unix:"),
        "NodeManagerPort": _port(daemons.get("raylet", _NO_DAEMON).grpc_address),
        "ObjectManagerPort": _port(daemons.get("plasma", _NO_DAEMON).grpc_address),
        "MetricsExportPort": _port(daemons.get("raylet", _NO_DAEMON).metrics_address),
        "Resources": ResourceSet.from_proto(node.total).to_floats() if alive else {},
        "Labels": dict(node.labels),
        "IsHead": node.is_head,
        "DeathReason": 0 if alive else node.state,
        "DeathReasonMessage": node.death_message,
    }


def _port(address: str) -> int:
    """Return the port of ``host:port``; 0 of a Unix socket."""
    _, _, port = address.rpartition(":")
    return int(port) if port.isdigit() else 0


def cluster_resources() -> dict[str, float]:
    """Return the resources of all living nodes together, by name; memory in bytes."""
    return _sum(node.total for node in list_nodes(current.require()) if node.state != gcs_pb2.Node.DEAD)


def available_resources() -> dict[str, float]:
    """Return what of `cluster_resources` nobody uses now; the picture may be a tenth of a second old."""
    return _sum(node.available for node in list_nodes(current.require()) if node.state != gcs_pb2.Node.DEAD)


def _sum(amounts: Any) -> dict[str, float]:
    total: Counter[str] = Counter()
    for one in amounts:
        total.update(one.amounts)
    return ResourceSet(total).to_floats()


def timeline(filename: str | None = None) -> list[dict[str, Any]] | None:
    """Return what ran where and when, in the trace format of Chrome (chrome://tracing, ui.perfetto.dev).

    Every task that has ended on this node is there, unless there were so many that the oldest were dropped;
    events of other nodes arrive within about a second.

    Args:
        filename: Write it there as JSON instead of returning it.
    """
    session = current.require()
    session.core.flush_events()
    # The workers of this node send what they have kept, so that a task that is over is in the trace.
    session.control.call(raylet_pb2.ClientMessage(collect_events=raylet_pb2.CollectEvents()))
    request = gcs_pb2.ListTaskEventsRequest(job_id=session.job_id)
    reply = session.control.gcs("ListTaskEvents", request, gcs_pb2.ListTaskEventsReply)
    events = chrome_trace(reply.batch)
    if filename is None:
        return events
    with open(filename, "w", encoding="utf-8") as file:
        json.dump(events, file)
    return None


def chrome_trace(batch: common_pb2.TaskEventBatch) -> list[dict[str, Any]]:
    """Turn task events into complete ("X") events, a row per process.

    What a span of user code has with it is in ``args``; a ``name`` or ``cname`` there the viewer shows.
    """
    trace: list[dict[str, Any]] = []
    for event in batch.events:
        if not event.end_unix_ns or not event.start_unix_ns:
            continue
        extra = json.loads(event.extra_data) if event.extra_data else {}
        trace.append(
            {
                "name": extra.get("name", event.name),
                "cat": "profile" if event.state == _EVENTS.PROFILE else "task",
                "ph": "X",
                "ts": event.start_unix_ns / 1000,
                "dur": (event.end_unix_ns - event.start_unix_ns) / 1000,
                "pid": f"node {event.node_id.hex()[:8]}",
                "tid": f"process {event.pid}",
                "args": {
                    "task_id": event.task_id.hex(),
                    "actor_id": event.actor_id.hex(),
                    "attempt": event.attempt,
                    "state": enum_name(_EVENTS.State.DESCRIPTOR, event.state),
                    "error": event.error,
                    **extra,
                },
                **({"cname": extra["cname"]} if "cname" in extra else {}),
            }
        )
    return trace
