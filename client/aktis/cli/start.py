"""``aktis start``: a cluster that outlives the command."""

import json
import os
import signal
from pathlib import Path
from typing import Any, Final

import click

from aktis._common.labels import check_labels
from aktis._common.paths import ensure_base_dir
from aktis._common.records import DaemonRecord
from aktis._common.sessions import current_cluster
from aktis._embedded import ClusterStartError, EmbeddedCluster, LaunchOptions, launch
from aktis.cli.output import fail, json_option, print_json, print_table

DEFAULT_PORT: Final = 7370
_DAEMONS: Final = ("gcs", "raylet", "plasma")


@click.command("start")
@click.option("--head", is_flag=True, help="Start the head node: GCS, raylet and store.")
@click.option(
    "--config", type=click.Path(path_type=Path), help="TOML file [/etc/aktis/aktis.toml if it exists]"
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=DEFAULT_PORT, show_default=True, help="GCS; 0: any."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address that the GCS listens on.")
@click.option("--num-cpus", type=float, help="CPUs to offer [those this process may use]")
@click.option("--num-gpus", type=float, help="GPUs to offer [those that are found]")
@click.option("--memory", help='Memory to offer, e.g. "8 GiB" [70 % of what the node has]')
@click.option(
    "--object-store-memory", help='Size of the store, e.g. "2 GiB" [30 % of the memory available now]'
)
@click.option("--resources", help='Custom resources as JSON, e.g. {"special": 2}')
@click.option("--labels", help="Labels of the node, e.g. zone=a,tier=gold, or a JSON object.")
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override any other setting.")
@click.option("--block", is_flag=True, help="Stay until the cluster ends; Ctrl-C stops it.")
@json_option
def command(head: bool, block: bool, as_json: bool, **options: Any) -> None:
    """Start a cluster on this host.

    It runs until `aktis stop`. A driver joins it with init(), init(address="auto") or init("host:port").
    """
    if not head:
        raise click.UsageError("--head is required: this release runs clusters of one node")
    running = current_cluster()
    if running is not None:
        fail(f"a cluster already runs in {running.session_dir}: stop it first with `aktis stop`")
    try:
        ensure_base_dir()
        config_file = options.pop("config")
        cluster = launch(LaunchOptions(settings(**options), config_file=config_file, detached=True))
    except (ClusterStartError, OSError) as error:
        fail(str(error), 2)
    if block:
        _stop_on_signals(cluster)
        _announce(cluster, as_json)
        _wait(cluster)
    else:
        _announce(cluster, as_json)
        cluster.detach()


def settings(
    *,
    host: str,
    port: int,
    num_cpus: float | None,
    num_gpus: float | None,
    memory: str | None,
    object_store_memory: str | None,
    resources: str | None,
    labels: str | None,
    assignments: tuple[str, ...],
) -> dict[str, object]:
    """Return settings by dotted key for what was given on the command line.

    Raises:
        click.UsageError: an option does not have its form.
    """
    chosen: dict[str, object] = {
        "gcs.listen_addresses": [f"{host}:{port}"],
        "raylet.num_cpus": num_cpus,
        "raylet.num_gpus": num_gpus,
        "raylet.memory_bytes": memory,
        "plasma.capacity_bytes": object_store_memory,
        "raylet.resources": _parse_resources(resources) if resources is not None else None,
        "raylet.labels": _parse_labels(labels) if labels is not None else None,
    }
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator:
            raise click.UsageError(f"--set {text}: expected KEY=VALUE, for example --set logging.level=debug")
        chosen[key] = value
    return {key: value for key, value in chosen.items() if value is not None}


def _parse_resources(text: str) -> dict[str, float]:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise click.UsageError(f'--resources {text}: expected a JSON object, for example {{"special": 2}}')
    return parsed


def _parse_labels(text: str) -> dict[str, str]:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = {}
        for item in filter(None, text.split(",")):
            key, separator, value = item.partition("=")
            if not separator:
                raise click.UsageError(f"--labels {text}: expected KEY=VALUE,... or a JSON object") from None
            parsed[key.strip()] = value.strip()
    if not isinstance(parsed, dict) or not all(isinstance(value, str) for value in parsed.values()):
        raise click.UsageError(f"--labels {text}: expected KEY=VALUE,... or a JSON object of texts")
    try:
        check_labels(parsed)
    except ValueError as error:
        raise click.UsageError(f"--labels: {error}") from None
    return parsed


def _announce(cluster: EmbeddedCluster, as_json: bool) -> None:
    records = [DaemonRecord.read(cluster.paths.daemon_record(name)) for name in _DAEMONS]
    daemons = [record for record in records if record is not None]
    if as_json:
        print_json(
            {
                "session_dir": str(cluster.paths.root),
                "raylet_address": cluster.raylet_address,
                "supervisor_pid": cluster.supervisor_pid,
                "daemons": [vars(record) for record in daemons],
            }
        )
        return
    click.echo(f"Cluster started in {cluster.paths.root}\n")
    rows = [(r.name, str(r.pid), r.grpc_address, r.metrics_address) for r in daemons]
    print_table(("daemon", "pid", "gRPC", "metrics"), rows)
    click.echo('\nJoin it:  aktis.init(address="auto")\nSee it:   aktis status\nStop it:  aktis stop')


def _stop_on_signals(cluster: EmbeddedCluster) -> None:
    def stop(_number: int, _frame: object) -> None:
        os.kill(cluster.supervisor_pid, signal.SIGTERM)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _wait(cluster: EmbeddedCluster) -> None:
    status = cluster.wait()
    if status != 0:
        fail(
            f"the cluster ended with status {status}; see {cluster.paths.log_dir}",
            status if status > 0 else 1,
        )
