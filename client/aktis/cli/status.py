"""``aktis status``: every node with its daemons, resources, jobs and actors, as the GCS sees them."""

import asyncio
from collections import Counter
from typing import Any, Final, cast

import click

from aktis._find import FoundCluster, find_cluster
from aktis.cli.output import fail, json_option, print_json, print_table

_TIMEOUT_S: Final = 10.0


@click.command("status")
@click.option("--address", help='"auto", "unix:/path/raylet.sock" or "host:port" [the current cluster]')
@json_option
def command(address: str | None, as_json: bool) -> None:
    """Show nodes, daemons, resources and actors."""
    try:
        cluster = find_cluster(address or "auto")
        assert cluster is not None, '"auto" finds one or raises'
        status = asyncio.run(collect(cluster))
    except (ConnectionError, ValueError) as error:
        fail(str(error))
    if as_json:
        print_json(status)
    else:
        _show(status)


async def collect(cluster: FoundCluster) -> dict[str, Any]:
    """Ask the GCS and return what the command prints with --json.

    Raises:
        ConnectionError: the GCS does not answer or refuses.
    """
    import grpc

    from aktis._common import rpc
    from aktis._proto import gcs_pb2, gcs_pb2_grpc

    async with rpc.connect(cluster.gcs_address, cluster.token) as channel:
        gcs = cast("gcs_pb2_grpc.GcsAsyncStub", gcs_pb2_grpc.GcsStub(channel))
        try:
            info, nodes, jobs, actors = await asyncio.gather(
                gcs.GetClusterInfo(gcs_pb2.GetClusterInfoRequest(), timeout=_TIMEOUT_S),
                gcs.ListNodes(gcs_pb2.ListNodesRequest(), timeout=_TIMEOUT_S),
                gcs.ListJobs(gcs_pb2.ListJobsRequest(), timeout=_TIMEOUT_S),
                gcs.ListActors(gcs_pb2.ListActorsRequest(include_dead=True), timeout=_TIMEOUT_S),
            )
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            raise ConnectionError(f"the GCS at {cluster.gcs_address}: {code}: {error.details()}") from None
    return summarize(info, nodes.nodes, jobs.jobs, actors.actors, cluster)


def summarize(info: Any, nodes: Any, jobs: Any, actors: Any, cluster: FoundCluster) -> dict[str, Any]:
    """Turn the GCS's answers into plain values."""
    from aktis._common.resources import ResourceSet
    from aktis._proto import gcs_pb2

    described = []
    for node in nodes:
        daemons = {daemon.name: daemon for daemon in node.daemons}
        if node.is_head:
            daemons["gcs"] = info.gcs  # what it says of itself is newer than what the raylet has heard
        described.append(
            {
                "node_id": node.node_id.hex(),
                "hostname": node.hostname,
                "ip": node.ip,
                "state": gcs_pb2.Node.State.Name(node.state),
                "is_head": node.is_head,
                "resources": {
                    "total": ResourceSet.from_proto(node.total).to_floats(),
                    "available": ResourceSet.from_proto(node.available).to_floats(),
                },
                "daemons": [_daemon(daemons[name]) for name in sorted(daemons)],
                "death_message": node.death_message,
            }
        )
    return {
        "cluster_id": info.cluster_id.hex(),
        "version": info.version,
        "gcs_address": cluster.gcs_address,
        "session_dir": str(cluster.session_dir),
        "start_time_unix_ms": info.start_time_unix_ms,
        "nodes": described,
        "jobs": dict(Counter(gcs_pb2.Job.State.Name(job.state) for job in jobs)),
        "environments": [
            {"hash": one.hash, "jobs": [job.hex() for job in one.job_ids], "packages": list(one.packages)}
            for one in info.environments
        ],
        "packages": {"count": info.packages, "bytes": info.package_bytes},
        "actors": dict(Counter(gcs_pb2.Actor.State.Name(actor.state) for actor in actors)),
    }


def _daemon(daemon: Any) -> dict[str, Any]:
    return {
        "name": daemon.name,
        "pid": daemon.pid,
        "epoch": daemon.epoch,
        "grpc_address": daemon.grpc_address,
        "metrics_address": daemon.metrics_address,
        "state": daemon.state,
    }


def _show(status: dict[str, Any]) -> None:
    click.echo(f"Cluster {status['cluster_id'][:8]}, Aktis {status['version']}, in {status['session_dir']}\n")
    for node in status["nodes"]:
        head = ", head" if node["is_head"] else ""
        click.echo(f"Node {node['node_id'][:8]} on {node['hostname']} ({node['ip']}{head}): {node['state']}")
        if node["death_message"]:
            click.echo(f"  {node['death_message']}")
        names = ("name", "pid", "epoch", "state", "grpc_address", "metrics_address")
        rows = [[str(daemon[name]) for name in names] for daemon in node["daemons"]]
        print_table(("daemon", "pid", "epoch", "state", "gRPC", "metrics"), rows)
        click.echo()
        total, available = node["resources"]["total"], node["resources"]["available"]
        rows = [
            [name, _amount(name, amount - available.get(name, 0.0)), _amount(name, amount)]
            for name, amount in sorted(total.items())
        ]
        print_table(("resource", "in use", "total"), rows)
        click.echo()
    click.echo(f"Jobs:   {_counts(status['jobs'])}\nActors: {_counts(status['actors'])}")
    _show_environments(status)


def _show_environments(status: dict[str, Any]) -> None:
    packages = status["packages"]
    if not status["environments"] and not packages["count"]:
        return
    used = {digest for one in status["environments"] for digest in one["packages"]}
    mib = packages["bytes"] / 2**20
    click.echo(f"Uploaded packages: {packages['count']} with {mib:.1f} MiB, {len(used)} of them in use\n")
    rows = [
        [one["hash"], ", ".join(one["jobs"]) or "detached actors", str(len(one["packages"]))]
        for one in status["environments"]
    ]
    if rows:
        print_table(("runtime environment", "jobs", "packages"), rows)


def _amount(name: str, amount: float) -> str:
    if name.endswith("memory"):
        return f"{amount / 2**30:.2f} GiB"
    return f"{amount:g}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state.lower()}" for state, count in sorted(counts.items())) or "none"
