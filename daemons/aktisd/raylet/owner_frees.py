"""Tells the object store which owners are dead, in batches. Belongs to the loop."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

import grpc
from aktis._common.logging import get_logger
from aktis._common.rpc import connect
from aktis._proto import plasma_pb2, plasma_pb2_grpc

MAX_IDS: Final = 100_000
IDS_PER_CALL: Final = 1_000
CALL_TIMEOUT_S: Final = 5.0
GATHER_S: Final = 0.01
FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0


class OwnerFrees:
    """Ids wait here while the store is away: it keeps objects across its restarts."""

    def __init__(self, address: str, token: str, on_reachable: Callable[[], None]) -> None:
        self._address = address
        self._token = token
        self._on_reachable = on_reachable
        self._log = get_logger()
        self._ids: dict[bytes, None] = {}
        self._wake = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.dropped = 0

    def add(self, worker_id: bytes) -> None:
        """A process is dead."""
        if len(self._ids) >= MAX_IDS:
            self._ids.pop(next(iter(self._ids)))
            self.dropped += 1
        self._ids[worker_id] = None
        self._empty.clear()
        self._wake.set()

    async def drain(self) -> None:
        """Return when the store knows of everything; bound it with a timeout."""
        await self._empty.wait()

    async def run(self) -> None:
        """Wait for the store to be there, however long it takes to start, then send until cancelled."""
        channel = connect(self._address, self._token)
        stub = cast("plasma_pb2_grpc.PlasmaAsyncStub", plasma_pb2_grpc.PlasmaStub(channel))
        pause_s = FIRST_PAUSE_S
        try:
            await channel.channel_ready()
            self._on_reachable()
            while True:
                await self._wake.wait()
                self._wake.clear()
                await asyncio.sleep(GATHER_S)
                while self._ids:
                    batch = list(self._ids)[:IDS_PER_CALL]
                    try:
                        await stub.FreeOwners(
                            plasma_pb2.FreeOwnersRequest(worker_ids=batch), timeout=CALL_TIMEOUT_S
                        )
                    except grpc.aio.AioRpcError as error:
                        self._log.warning("store_unreachable", error=error.details(), owners=len(self._ids))
                        await asyncio.sleep(pause_s)
                        pause_s = min(LAST_PAUSE_S, pause_s * 2)
                        continue
                    pause_s = FIRST_PAUSE_S
                    for worker_id in batch:
                        self._ids.pop(worker_id, None)
                self._empty.set()
        finally:
            await channel.close()
