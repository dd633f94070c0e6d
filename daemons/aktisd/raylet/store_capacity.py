"""How large the node's object store is, as the store says. Belongs to the loop.

Only the store knows: its size is set, or a share of the memory that was available when it started, and
another process would come to another number.
"""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import grpc
from aktis._common.logging import get_logger
from aktis._common.rpc import connect
from aktis._proto import plasma_pb2, plasma_pb2_grpc

CALL_TIMEOUT_S: Final = 5.0
PAUSE_S: Final = 0.5


class StoreCapacity:
    """Asks when the store becomes reachable, and again whenever it does: one that comes back may differ."""

    def __init__(self, address: str, token: str, on_capacity: Callable[[int], None]) -> None:
        self._address = address
        self._token = token
        self._on_capacity = on_capacity
        self._log = get_logger()
        self.known = asyncio.Event()
        """The store has answered once."""

    async def run(self) -> None:
        """Follow the store until cancelled."""
        channel = connect(self._address, self._token)
        stub = cast("plasma_pb2_grpc.PlasmaAsyncStub", plasma_pb2_grpc.PlasmaStub(channel))
        try:
            while True:
                await channel.channel_ready()
                try:
                    statistics = await stub.GetStatistics(
                        plasma_pb2.PlasmaStatisticsRequest(), timeout=CALL_TIMEOUT_S
                    )
                except grpc.aio.AioRpcError as error:
                    self._log.warning("store_capacity_unknown", error=error.details())
                    await asyncio.sleep(PAUSE_S)
                    continue
                self._on_capacity(statistics.capacity_bytes)
                self.known.set()
                await channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        finally:
            await channel.close()
