"""What one raylet is, worked out once from the configuration and the machine."""

import ipaddress
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aktis._common.daemon import DaemonContext
from aktis._common.ids import random_node_id, short
from aktis._common.labels import ACCELERATOR_TYPE_LABEL, NODE_ID_LABEL

from aktisd.raylet.detection import ACCELERATOR_TYPE, Machine, naming, node_totals
from aktisd.raylet.environments.host import SetupCommand
from aktisd.raylet.environments.machine import EnvironmentLimits
from aktisd.raylet.resources import CPU, UNIT, Amounts
from aktisd.raylet.template_host import TemplateCommand, template_environ
from aktisd.raylet.workers import PoolLimits


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """Fixed for the life of the process."""

    node_id: bytes
    name: str
    """For messages to people."""
    hostname: str
    ip: str
    start_time_unix_ms: int
    total: Amounts
    """All but the object store's memory, which the store tells."""
    labels: Mapping[str, str]
    limits: PoolLimits
    control_address: str
    grpc_address: str
    gcs_address: str
    plasma_address: str
    plasma_grpc_address: str
    template: TemplateCommand
    setup: SetupCommand
    environment_limits: EnvironmentLimits


def node_settings(context: DaemonContext, machine: Machine, environ: Mapping[str, str]) -> NodeSettings:
    """Work the settings out."""
    config, layout = context.config, context.layout
    node_id = random_node_id()
    hostname = socket.gethostname()
    total = node_totals(
        machine,
        num_cpus=config.raylet.num_cpus,
        num_gpus=config.raylet.num_gpus,
        memory_bytes=config.raylet.memory_bytes,
        custom=config.raylet.resources,
    )
    total |= naming(node_ip(config.raylet.grpc_address), config.cluster.is_head)
    control_address = config.raylet.listen_address or f"unix:{layout.raylet_socket}"
    plasma_address = config.plasma.listen_address or f"unix:{layout.plasma_socket}"
    log_dir = layout.log_dir / "workers"
    gcs_address = config.cluster.gcs_address or f"unix:{layout.gcs_socket}"
    environments = config.raylet.environments
    arguments = {
        "--raylet": control_address,
        "--token-file": str(config.token_file),
        "--node-id": node_id.hex(),
        "--session-dir": str(layout.root),
        "--sockets-dir": str(layout.sockets_dir),
        "--plasma": plasma_address,
        "--entry-point": config.raylet.workers.entry_point,
    }
    return NodeSettings(
        node_id=node_id,
        name=f"{hostname} ({short(node_id)})",
        hostname=hostname,
        ip=node_ip(config.raylet.grpc_address),
        start_time_unix_ms=time.time_ns() // 1_000_000,
        total=total,
        labels=dict(config.raylet.labels) | _found_labels(node_id, total),
        limits=_limits(context, total),
        control_address=control_address,
        grpc_address=config.raylet.grpc_address or f"unix:{layout.raylet_grpc_socket}",
        gcs_address=gcs_address,
        plasma_address=plasma_address,
        plasma_grpc_address=config.plasma.grpc_address or f"unix:{layout.plasma_grpc_socket}",
        template=TemplateCommand(
            arguments=tuple(text for pair in arguments.items() for text in pair),
            environ=template_environ(environ),
            log_dir=str(log_dir),
            stderr_path=str(Path(layout.log_dir) / "template.log"),
        ),
        setup=SetupCommand(
            cache=environments.cache_dir or layout.state_dir / "environments",
            log_dir=log_dir,
            gcs_address=gcs_address,
            token_file=str(config.token_file),
            environ=template_environ(environ),
        ),
        environment_limits=EnvironmentLimits(environments.cache_bytes, environments.idle_timeout_s),
    )


def _found_labels(node_id: bytes, total: Amounts) -> dict[str, str]:
    types = [name.partition(":")[2] for name in total if name.startswith(ACCELERATOR_TYPE)]
    labels = {NODE_ID_LABEL: node_id.hex()}
    if types:
        labels[ACCELERATOR_TYPE_LABEL] = types[0]
    return labels


def _limits(context: DaemonContext, total: Amounts) -> PoolLimits:
    workers = context.config.raylet.workers
    prestart = total[CPU] // UNIT if workers.prestart is None else workers.prestart
    return PoolLimits(
        prestart=min(prestart, workers.limit),
        max_workers=workers.limit,
        idle_timeout_s=workers.idle_timeout_s,
        startup_timeout_s=workers.start_timeout_s,
        max_start_failures=workers.start_attempts,
    )


def node_ip(grpc_address: str) -> str:
    """The address by which this node is known: where it listens, loopback for a node of one machine."""
    host = grpc_address.rpartition(":")[0].strip("[]")
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return "127.0.0.1"
