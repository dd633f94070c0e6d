"""aktis-plasma: the C++ store, its log lines, its metrics and its control service."""

import asyncio

import grpc.aio
from aktis._common import rpc
from aktis._common.daemon import DaemonContext, Service
from aktis._common.errors import StartError
from aktis._core import NativeLog, PlasmaStore

from aktisd.plasma.memory import available_bytes
from aktisd.plasma.metrics import PlasmaCollector
from aktisd.plasma.servicer import PlasmaServicer
from aktisd.plasma.settings import store_arguments

STOP_GRACE_S = 0.5


class PlasmaService(Service):
    """See `aktis._common.daemon.Service`."""

    def __init__(self, context: DaemonContext) -> None:
        self._context = context
        self._native_log: NativeLog | None = None
        self._store: PlasmaStore | None = None
        self._server: grpc.aio.Server | None = None

    async def start(self) -> str:
        """Make the arena, serve clients, then tools."""
        context = self._context
        arguments = store_arguments(context.config, context.token, available_bytes)
        self._forward_native_log()
        try:
            self._store = PlasmaStore(**arguments)
            self._store.start()
        except RuntimeError as error:
            raise StartError(f"plasma: {error}") from None
        context.registry.register(PlasmaCollector(self._store.statistics))
        self._server = rpc.create_server(
            context.token,
            on_denied=lambda method, reason: context.log.warning("denied", method=method, why=reason),
        )
        PlasmaServicer(self._store).add_to(self._server)
        addresses = rpc.bind(self._server, [context.config.plasma_grpc_address], "plasma.grpc_address")
        await self._server.start()
        context.log.info(
            "store_ready", address=self._store.address, capacity_bytes=arguments["capacity_bytes"]
        )
        return addresses[0]

    async def stop(self) -> None:
        """Stop serving; clients keep what they have mapped, the memory goes with the last of them."""
        if self._server is not None:
            await self._server.stop(STOP_GRACE_S)
        if self._store is not None:
            await asyncio.to_thread(self._store.stop)
        if self._native_log is not None:
            asyncio.get_running_loop().remove_reader(self._native_log.fileno())
            self._write_native_lines(self._native_log)
            self._native_log.close()

    def _forward_native_log(self) -> None:
        native_log = self._native_log = NativeLog()
        loop = asyncio.get_running_loop()
        loop.add_reader(native_log.fileno(), self._write_native_lines, native_log)

    def _write_native_lines(self, native_log: NativeLog) -> None:
        for level, component, message in native_log.drain():
            getattr(self._context.log, level)("native", source=component, message=message)


def create_service(context: DaemonContext) -> PlasmaService:
    """Return the service for the skeleton."""
    return PlasmaService(context)
