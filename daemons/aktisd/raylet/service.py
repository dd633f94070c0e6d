"""The raylet as a daemon: sockets, background tasks, the gRPC service for tools."""

import asyncio
import os
from typing import Any, Final

import grpc.aio
from aktis import _core
from aktis._common import rpc
from aktis._common.daemon import DaemonContext, Service
from aktis._common.errors import StartError
from aktis._common.logging import bind_node
from aktis._common.wire import HandshakePolicy, Identity, WireServer
from aktis._proto import common_pb2, raylet_pb2, raylet_pb2_grpc

from aktisd.raylet.detection import detect
from aktisd.raylet.metrics import RayletCollector
from aktisd.raylet.raylet import Raylet
from aktisd.raylet.settings import NodeSettings, node_settings

REGISTER_WAIT_S: Final = 5.0
"""How long the start waits for the GCS before the daemon says that it runs without it for now."""
STORE_WAIT_S: Final = 5.0
"""The same for the store, whose size is a resource of the node. Both daemons start at the same time."""
STOP_GRACE_S: Final = 1.0
ROLES: Final = (_core.ROLE_DRIVER, _core.ROLE_WORKER, _core.ROLE_TEMPLATE)


def create_service(context: DaemonContext) -> Service:
    """For the skeleton and the supervisor."""
    return RayletService(context)


class RayletService(Service):
    """One raylet on its event loop."""

    def __init__(self, context: DaemonContext) -> None:
        self._context = context
        self._raylet: Raylet | None = None
        self._wire: WireServer | None = None
        self._grpc: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Bind, start the template, register with the GCS."""
        context = self._context
        settings = node_settings(context, detect(), os.environ)
        bind_node(settings.node_id)
        try:
            os.makedirs(settings.template.log_dir, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartError(f"{error.filename}: {error.strerror}: workers cannot log") from None
        raylet = self._raylet = Raylet(context, settings)
        context.registry.register(RayletCollector(raylet))
        await self._listen(raylet, settings)
        grpc_address = await self._serve_grpc(raylet, settings)
        raylet.start()
        context.tasks.create_task(raylet.frees.run(), name="owner frees")
        context.tasks.create_task(raylet.store.run(), name="store capacity")
        context.set_status("connecting to the store")
        try:
            async with asyncio.timeout(STORE_WAIT_S):
                await raylet.store.known.wait()
        except TimeoutError:
            context.log.warning("store_unreachable", address=settings.plasma_address, waited_s=STORE_WAIT_S)
        context.tasks.create_task(raylet.gcs.run(), name="gcs stream")
        context.set_status("connecting to the GCS")
        try:
            async with asyncio.timeout(REGISTER_WAIT_S):
                await raylet.gcs.registered_once.wait()
        except TimeoutError:
            context.log.warning("gcs_unreachable", address=settings.gcs_address, waited_s=REGISTER_WAIT_S)
        return grpc_address

    async def stop(self) -> None:
        """End every worker, close every socket."""
        if self._raylet is not None:
            await self._raylet.stop(STOP_GRACE_S)
        if self._wire is not None:
            await self._wire.close()
        if self._grpc is not None:
            await self._grpc.stop(grace=0.2)

    async def _listen(self, raylet: Raylet, settings: NodeSettings) -> None:
        identity = Identity(_core.ROLE_RAYLET, os.urandom(16), settings.node_id)
        policy = HandshakePolicy(identity, self._context.token, ROLES, required_uid=os.getuid())
        self._wire = WireServer(policy, raylet.control)
        try:
            await self._wire.listen(settings.control_address)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StartError(
                f"raylet.listen_address: cannot listen on {settings.control_address}: {reason}: "
                "stop what uses it or choose another address"
            ) from None

    async def _serve_grpc(self, raylet: Raylet, settings: NodeSettings) -> str:
        self._grpc = rpc.create_server(self._context.token, on_denied=self._denied)
        raylet_pb2_grpc.add_RayletServicer_to_server(_Servicer(raylet), self._grpc)
        (address,) = rpc.bind(self._grpc, [settings.grpc_address], "raylet.grpc_address")
        await self._grpc.start()
        return address

    def _denied(self, method: str, reason: str) -> None:
        self._context.log.warning("rpc_denied", method=method, reason=reason)


class _Servicer(raylet_pb2_grpc.RayletServicer):
    def __init__(self, raylet: Raylet) -> None:
        self._raylet = raylet

    async def GetState(  # noqa: N802  # the contract's name
        self, request: raylet_pb2.GetRayletStateRequest, context: Any
    ) -> raylet_pb2.RayletState:
        node = self._raylet.node()
        state = raylet_pb2.RayletState(
            total=node.total, available=node.available, pending=self._raylet.pending()
        )
        for worker in self._raylet.logic.pool:
            address = common_pb2.ProcessAddress()
            address.CopyFrom(worker.address)
            address.pid = worker.pid
            state.workers.add(
                address=address,
                state=worker.state.name.lower(),
                job_id=worker.job_id,
                actor_id=worker.actor_id,
                lease_id=worker.lease_id,
                blocked=worker.blocked,
            )
        return state
