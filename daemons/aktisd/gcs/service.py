"""aktis-gcs: puts storage, state and gRPC together."""

import asyncio
import random
from pathlib import Path

import grpc.aio
from aktis._common import rpc
from aktis._common.config import AktisConfig
from aktis._common.daemon import DaemonContext, Service
from aktis._common.errors import StartError
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import SystemClock
from aktisd.gcs.cluster import Cluster, Image
from aktisd.gcs.effects import Effects
from aktisd.gcs.gateway import Gateway
from aktisd.gcs.limits import Limits
from aktisd.gcs.metrics import GcsCollector
from aktisd.gcs.servicer import Servicer
from aktisd.gcs.storage.interface import Storage, StorageError
from aktisd.gcs.storage.writer import StorageWriter

STOP_GRACE_S = 0.5


class GcsService(Service):
    """See `aktis._common.daemon.Service`."""

    def __init__(self, context: DaemonContext) -> None:
        self._context = context
        self._writer = StorageWriter(make_storage(context.config))
        self._gateway: Gateway | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Load the state, serve."""
        context = self._context
        clock = SystemClock()
        try:
            image = await self._writer.start(Image.load)
        except StorageError as error:
            raise StartError(f"gcs.storage: {error}") from None
        first = Effects()
        cluster = Cluster(image, clock, limits_from(context.config), random.Random(), first)
        cluster.describe_process = self._describe
        self._gateway = Gateway(cluster, self._writer, clock, context.log)
        self._gateway.outbox.step().writes.update(first.writes)
        context.registry.register(GcsCollector(self._gateway, self._writer))
        context.tasks.create_task(self._watch_storage(self._gateway), name="storage watch")
        self._server = rpc.create_server(
            context.token,
            on_denied=lambda method, reason: context.log.warning("denied", method=method, why=reason),
        )
        Servicer(self._gateway, context.log).add_to(self._server)
        addresses = rpc.bind(self._server, context.config.gcs_listen_addresses, "gcs.listen_addresses")
        await self._server.start()
        context.log.info(
            "gcs_loaded",
            term=image.term,
            nodes=len(image.nodes),
            jobs=len(image.jobs),
            actors=len(image.actors),
            kv_keys=len(image.kv_sizes),
        )
        return addresses[0]

    async def stop(self) -> None:
        """Stop serving, store what is left, close the storage."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
        if self._gateway is not None:
            self._gateway.close()
        await self._writer.stop()

    def _describe(self) -> gcs_pb2.Daemon:
        """Return this process as `aktis status` shows it; addresses are known once the daemon runs."""
        record = self._context.record
        if record is None:
            return gcs_pb2.Daemon()
        return gcs_pb2.Daemon(
            name=record.name,
            pid=record.pid,
            epoch=record.epoch,
            grpc_address=record.grpc_address,
            metrics_address=record.metrics_address,
            state=record.state,
        )

    async def _watch_storage(self, gateway: Gateway) -> None:
        """Crash when storage fails: a new process finds back to what is stored."""
        raise await asyncio.shield(gateway.outbox.failed)


def create_service(context: DaemonContext) -> GcsService:
    """Return the service for the skeleton."""
    return GcsService(context)


def make_storage(config: AktisConfig) -> Storage:
    """Return the storage that the configuration names, not yet open."""
    settings = config.gcs.storage
    if settings.kind == "sqlite":
        from aktisd.gcs.storage.sqlite import SqliteStorage

        path: Path = settings.path or config.layout().state_dir / "gcs.sqlite"
        return SqliteStorage(path, "full" if settings.durable else "normal")
    if settings.kind == "redis":
        from aktisd.gcs.storage.redis import RedisStorage

        return RedisStorage(settings.url, prefix=config.cluster.name)
    from aktisd.gcs.storage.memory import MemoryStorage

    return MemoryStorage()


def limits_from(config: AktisConfig) -> Limits:
    """Return the limits with everything that the configuration sets."""
    gcs = config.gcs
    return Limits(
        heartbeat_period_ms=gcs.heartbeat_period_ms,
        suspect_after_ms=gcs.suspect_after_ms,
        dead_after_ms=gcs.dead_after_ms,
        job_grace_ms=gcs.job_grace_ms,
        dead_actors=gcs.dead_actors_kept,
        finished_jobs=gcs.finished_jobs_kept,
        kv_value_bytes=gcs.kv_value_limit_bytes,
        package_bytes=gcs.package_cache_bytes,
        package_grace_ms=gcs.package_grace_ms,
        channel_items=gcs.publication_ring_size,
        task_event_job_bytes=gcs.task_events_limit_bytes,
    )
