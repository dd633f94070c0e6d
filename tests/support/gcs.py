"""A real aktis-gcs process, and a raylet that does what a test tells it, over real gRPC."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aktis._common import rpc
from aktis._common.records import DaemonRecord
from aktis._common.version import PROTOCOL_MAJOR, PROTOCOL_MINOR
from aktis._proto import common_pb2, gcs_pb2, gcs_pb2_grpc

DEADLINE_S = 20.0

Predicate = Callable[[gcs_pb2.NodeDown], bool]


class GcsProcess:
    """One GCS in one session directory; it may be stopped, killed and started again."""

    def __init__(
        self, session: Path, settings: Sequence[str] = (), env: dict[str, str] | None = None
    ) -> None:
        self.session = session
        self.token = secrets.token_hex(16)
        self._arguments = [word for setting in settings for word in ("--set", setting)]
        self._env = dict(os.environ) if env is None else env
        self._process: asyncio.subprocess.Process | None = None
        session.mkdir(mode=0o700, exist_ok=True)
        (session / "token").write_text(self.token)
        (session / "token").chmod(0o600)

    @property
    def address(self) -> str:
        """Where it serves."""
        return f"unix:{self.session}/gcs.sock"

    @property
    def pid(self) -> int:
        """Of the running process."""
        assert self._process is not None
        return self._process.pid

    async def launch(self) -> asyncio.subprocess.Process:
        """Start the process without waiting for it to serve."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "aktisd.gcs",
            "--session-dir",
            str(self.session),
            *self._arguments,
            stderr=asyncio.subprocess.PIPE,
            env=self._env,
        )
        return self._process

    async def start(self) -> None:
        """Start the process and wait until it serves, or raise what it said."""
        process = await self.launch()
        assert process.stderr is not None
        async with asyncio.timeout(DEADLINE_S):
            lines = []
            while line := await process.stderr.readline():
                lines.append(line.decode())
                if "daemon_running" in lines[-1]:
                    return
        raise AssertionError("the GCS did not start:\n" + "".join(lines))

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status, negative for a signal."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self.wait()

    def kill(self) -> None:
        """Send SIGKILL and do not wait."""
        assert self._process is not None
        self._process.kill()

    async def wait(self) -> int:
        """Wait for its end and return the exit status."""
        assert self._process is not None
        async with asyncio.timeout(DEADLINE_S):
            await self._process.communicate()
        assert self._process.returncode is not None
        return self._process.returncode

    def record(self) -> DaemonRecord:
        """Return what it wrote down about itself."""
        record = DaemonRecord.read(self.session / "run" / "gcs.json")
        assert record is not None
        return record

    @asynccontextmanager
    async def stub(self) -> AsyncIterator[Any]:
        """Connect to it."""
        async with rpc.connect(self.address, self.token) as channel:
            yield gcs_pb2_grpc.GcsStub(channel)


class ScriptedRaylet:
    """One node's stream. What came down and was not expected yet is in `received`."""

    def __init__(self, stub: Any, node_id: bytes | None = None) -> None:
        self._stub = stub
        self.node_id = node_id or secrets.token_bytes(16)
        self.resources = {"CPU": 40_000}
        self.received: list[gcs_pb2.NodeDown] = []
        self._call: Any = None
        self._requests = 0

    def address(self) -> common_pb2.ProcessAddress:
        """Return the address of a new process of this node."""
        return common_pb2.ProcessAddress(worker_id=secrets.token_bytes(16), node_id=self.node_id, pid=4242)

    def registration(self) -> gcs_pb2.NodeRegister:
        """Return what this raylet registers with."""
        resources = common_pb2.Resources(amounts=self.resources)
        node = gcs_pb2.Node(node_id=self.node_id, hostname="scripted", total=resources, available=resources)
        return gcs_pb2.NodeRegister(node=node, protocol_major=PROTOCOL_MAJOR, protocol_minor=PROTOCOL_MINOR)

    async def connect(self, registration: gcs_pb2.NodeRegister | None = None) -> gcs_pb2.NodeDown:
        """Open the stream, register and return the answer."""
        self._call = self._stub.NodeStream()
        self.received = []
        await self.send(gcs_pb2.NodeUp(register=registration or self.registration()))
        return await self.expect(
            lambda message: message.HasField("registered") or message.HasField("refused")
        )

    def disconnect(self) -> None:
        """Break the stream."""
        self._call.cancel()

    async def send(self, *messages: gcs_pb2.NodeUp) -> None:
        """Send messages, several as one batch."""
        message = messages[0]
        if len(messages) > 1:
            message = gcs_pb2.NodeUp(batch=gcs_pb2.NodeUpBatch(items=messages))
        async with asyncio.timeout(DEADLINE_S):
            await self._call.write(message)

    async def expect(self, wanted: Predicate) -> gcs_pb2.NodeDown:
        """Take the first message that is ``wanted``; others stay for later."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                for index, message in enumerate(self.received):
                    if wanted(message):
                        return self.received.pop(index)
                await self._read()

    async def expect_start(self) -> gcs_pb2.StartActor:
        """Return the next StartActor."""
        return (await self.expect(lambda message: message.HasField("start_actor"))).start_actor

    async def expect_stop(self) -> gcs_pb2.StopActor:
        """Return the next StopActor."""
        return (await self.expect(lambda message: message.HasField("stop_actor"))).stop_actor

    async def relay(self, method: str, request: Any, reply_type: Any) -> Any:
        """Call a unary method through the stream, as a worker would."""
        reply = await self.relay_raw(method, request.SerializeToString())
        assert reply.status == 0, reply.error
        return reply_type.FromString(reply.payload)

    async def relay_raw(self, method: str, payload: bytes) -> gcs_pb2.RelayReply:
        """Call a unary method and return the answer as it came."""
        self._requests += 1
        number = self._requests
        request = gcs_pb2.RelayRequest(request_id=number, method=method, payload=payload)
        await self.send(gcs_pb2.NodeUp(relay=request))
        return (await self.expect(lambda m: m.HasField("relay") and m.relay.request_id == number)).relay

    async def alive(self, start: gcs_pb2.StartActor) -> gcs_pb2.ActorReport:
        """Report that an actor's process runs; return the report."""
        report = gcs_pb2.ActorReport(
            actor_id=start.spec.actor_id,
            incarnation=start.incarnation,
            event=gcs_pb2.ActorReport.ALIVE,
            address=self.address(),
        )
        await self.send(gcs_pb2.NodeUp(actor_report=report))
        return report

    async def died(
        self,
        start: gcs_pb2.StartActor,
        kind: "common_pb2.DeathCause.Kind.ValueType" = common_pb2.DeathCause.EXITED,
    ) -> None:
        """Report that an actor's process died."""
        report = gcs_pb2.ActorReport(
            actor_id=start.spec.actor_id,
            incarnation=start.incarnation,
            event=gcs_pb2.ActorReport.DIED,
            cause=common_pb2.DeathCause(kind=kind, message="as the test told"),
        )
        await self.send(gcs_pb2.NodeUp(actor_report=report))

    async def _read(self) -> None:
        message = await self._call.read()
        assert isinstance(message, gcs_pb2.NodeDown), f"the stream ended: {await self._call.code()}"
        self.received += message.batch.items if message.HasField("batch") else [message]


def spec_of(job: gcs_pb2.Job, name: str = "", **fields: Any) -> gcs_pb2.ActorSpec:
    """Return the spec of an actor that a job's driver owns."""
    return gcs_pb2.ActorSpec(
        actor_id=secrets.token_bytes(16),
        job_id=job.job_id,
        name=name,
        namespace=job.namespace,
        class_name="Counter",
        creation_task=b"opaque",
        owner=fields.pop("owner", job.driver),
        handle=b"methods",
        **fields,
    )
