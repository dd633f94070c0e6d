"""The unary methods of service Gcs: one table, whether a call comes by itself or relayed by a raylet."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aktis._proto import gcs_pb2, snapshot_pb2
from google.protobuf.message import DecodeError, Message

from aktisd.gcs.cluster import Cluster
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status, invalid
from aktisd.gcs.kv import Lookup


@dataclass(frozen=True, slots=True)
class Method:
    """How a method is served; ``call`` gets a ``request``."""

    request: type[Message]
    call: Callable[[Cluster, Any, Effects], Message | Lookup]


def _register_job(cluster: Cluster, request: gcs_pb2.RegisterJobRequest, out: Effects) -> Message:
    return gcs_pb2.RegisterJobReply(job=cluster.jobs.register(request, out))


def _finish_job(cluster: Cluster, request: gcs_pb2.FinishJobRequest, out: Effects) -> Message:
    cluster.jobs.get(request.job_id)
    cluster.finish_job(request.job_id, "its driver finished it", out)
    return gcs_pb2.FinishJobReply()


METHODS: dict[str, Method] = {
    "GetClusterInfo": Method(gcs_pb2.GetClusterInfoRequest, lambda cluster, request, out: cluster.info()),
    "ListNodes": Method(
        gcs_pb2.ListNodesRequest,
        lambda cluster, request, out: gcs_pb2.ListNodesReply(nodes=cluster.nodes.list()),
    ),
    "KvPut": Method(gcs_pb2.KvPutRequest, lambda cluster, request, out: cluster.kv_put(request, out)),
    "KvGet": Method(gcs_pb2.KvGetRequest, lambda cluster, request, out: cluster.kv.get(request)),
    "KvDelete": Method(
        gcs_pb2.KvDeleteRequest, lambda cluster, request, out: cluster.kv.delete(request, out)
    ),
    "KvList": Method(gcs_pb2.KvListRequest, lambda cluster, request, out: cluster.kv.list(request)),
    "RegisterJob": Method(gcs_pb2.RegisterJobRequest, _register_job),
    "FinishJob": Method(gcs_pb2.FinishJobRequest, _finish_job),
    "ListJobs": Method(
        gcs_pb2.ListJobsRequest,
        lambda cluster, request, out: gcs_pb2.ListJobsReply(jobs=cluster.jobs.list()),
    ),
    "CreateActors": Method(
        gcs_pb2.CreateActorsRequest,
        lambda cluster, request, out: cluster.actor_requests.create(request, out),
    ),
    "GetActor": Method(
        gcs_pb2.GetActorRequest, lambda cluster, request, out: cluster.actor_requests.get(request)
    ),
    "ListActors": Method(
        gcs_pb2.ListActorsRequest, lambda cluster, request, out: cluster.actor_requests.list(request)
    ),
    "KillActor": Method(
        gcs_pb2.KillActorRequest, lambda cluster, request, out: cluster.actor_requests.kill(request, out)
    ),
    "CreatePlacementGroups": Method(
        gcs_pb2.CreatePlacementGroupsRequest,
        lambda cluster, request, out: cluster.create_groups(request, out),
    ),
    "RemovePlacementGroups": Method(
        gcs_pb2.RemovePlacementGroupsRequest,
        lambda cluster, request, out: cluster.remove_groups(request, out),
    ),
    "GetPlacementGroup": Method(
        gcs_pb2.GetPlacementGroupRequest,
        lambda cluster, request, out: cluster.group_requests.get(request),
    ),
    "ListPlacementGroups": Method(
        gcs_pb2.ListPlacementGroupsRequest,
        lambda cluster, request, out: cluster.group_requests.list(request),
    ),
    "ListTaskEvents": Method(
        gcs_pb2.ListTaskEventsRequest, lambda cluster, request, out: cluster.task_events.list(request)
    ),
    # Not answered by the cluster's state: the gateway passes it on to the nodes.
    "TakeSnapshot": Method(snapshot_pb2.TakeSnapshotRequest, lambda cluster, request, out: request),
}


def call(cluster: Cluster, name: str, payload: bytes, out: Effects) -> Message | Lookup:
    """Serve one request.

    Raises:
        RequestError: there is no such method, or the request is malformed or cannot be served.
    """
    method = METHODS.get(name)
    if method is None:
        raise RequestError(Status.UNIMPLEMENTED, f"there is no method {name[:64]!r} to relay")
    try:
        request = method.request.FromString(payload)
    except DecodeError:
        raise invalid(f"the request of {name} is not a valid {method.request.DESCRIPTOR.name}") from None
    return method.call(cluster, request, out)
