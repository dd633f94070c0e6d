"""aktis-gcs as a process: what it keeps across deaths, and what it says to those who get it wrong."""

import asyncio
import re
import secrets
import shutil
import signal
import socket
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from aktis._common import rpc
from aktis._proto import common_pb2, gcs_pb2, gcs_pb2_grpc

from tests.support.gcs import DEADLINE_S, GcsProcess, ScriptedRaylet, spec_of


@pytest.fixture
def session() -> Iterator[Path]:
    # Not tmp_path: socket paths are limited to 107 bytes.
    base = Path(tempfile.mkdtemp(prefix="ak-gcs-", dir="/tmp"))
    yield base / "s"
    shutil.rmtree(base)


@asynccontextmanager
async def running(session: Path, *settings: str) -> AsyncIterator[GcsProcess]:
    gcs = GcsProcess(session, settings)
    await gcs.start()
    try:
        yield gcs
    finally:
        await gcs.end(signal.SIGKILL)


async def job_of(raylet: ScriptedRaylet, **fields: Any) -> gcs_pb2.Job:
    request = gcs_pb2.RegisterJobRequest(driver=raylet.address(), entrypoint="test.py", **fields)
    reply: gcs_pb2.RegisterJobReply = await raylet.relay("RegisterJob", request, gcs_pb2.RegisterJobReply)
    return reply.job


async def create(raylet: ScriptedRaylet, *specs: gcs_pb2.ActorSpec, **fields: Any) -> Any:
    request = gcs_pb2.CreateActorsRequest(specs=specs, **fields)
    return (await raylet.relay("CreateActors", request, gcs_pb2.CreateActorsReply)).results


async def actor_state(stub: Any, actor_id: bytes) -> gcs_pb2.Actor:
    request = gcs_pb2.GetActorRequest(actor_id=actor_id)
    reply: gcs_pb2.GetActorReply = await stub.GetActor(request, timeout=DEADLINE_S)
    assert reply.found
    return reply.actor


async def settled(raylet: ScriptedRaylet) -> None:
    """Wait until the GCS has handled everything that was sent before."""
    await raylet.relay("GetClusterInfo", gcs_pb2.GetClusterInfoRequest(), gcs_pb2.ClusterInfo)


def test_life_of_an_actor(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            answer = await raylet.connect()
            assert answer.registered.term == 1
            job = await job_of(raylet)
            subscription = gcs_pb2.ChannelSubscription(channel="actors")
            await raylet.send(gcs_pb2.NodeUp(subscription=subscription))
            spec = spec_of(
                job, "counter", max_restarts=1, resources=common_pb2.Resources(amounts={"CPU": 10_000})
            )
            (result,) = await create(raylet, spec)
            assert result.actor.state == gcs_pb2.Actor.PENDING
            start = await raylet.expect_start()
            assert (start.incarnation, start.spec.creation_task) == (1, b"opaque")
            report = await raylet.alive(start)
            published = await raylet.expect(
                lambda m: m.publication.actor.state == gcs_pb2.Actor.ALIVE and not m.publication.resynchronize
            )
            assert published.publication.actor.address == report.address
            assert not published.publication.actor.spec.creation_task
            by_name = gcs_pb2.GetActorRequest(name="counter", namespace=job.namespace)
            found = await stub.GetActor(by_name, timeout=DEADLINE_S)
            assert found.actor.spec.handle == b"methods"
            (taken,) = await create(raylet, spec_of(job, "counter"))
            assert "taken" in taken.error
            (same,) = await create(raylet, spec_of(job, "counter"), get_if_exists=True)
            assert (same.existed, same.actor.spec.actor_id) == (True, spec.actor_id)

            await raylet.died(start, common_pb2.DeathCause.SIGNALED)
            again = await raylet.expect_start()
            assert again.incarnation == 2
            await raylet.alive(again)
            await raylet.died(again)
            await settled(raylet)
            dead = await actor_state(stub, spec.actor_id)
            assert dead.state == gcs_pb2.Actor.DEAD
            assert dead.death_cause.message == "as the test told"
            assert not (await stub.GetActor(by_name, timeout=DEADLINE_S)).found

            await raylet.send(gcs_pb2.NodeUp(job_ended=gcs_pb2.JobEnded(job_id=job.job_id)))
            ended = await raylet.expect(lambda m: m.HasField("job_ended"))
            assert ended.job_ended.job_id == job.job_id
            assert await gcs.end() == 0
            assert not (session / "gcs.sock").exists()

    asyncio.run(scenario())


def test_restart_on_its_own_database_goes_unnoticed(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs:
            async with gcs.stub() as stub:
                raylet = ScriptedRaylet(stub)
                await raylet.connect()
                job = await job_of(raylet)
                first, waiting = (
                    spec_of(job, "first"),
                    spec_of(job, resources=common_pb2.Resources(amounts={"GPU": 1})),
                )
                await create(raylet, first, waiting)
                report = await raylet.alive(await raylet.expect_start())
                await settled(raylet)
                assert await gcs.end() == 0
            await gcs.start()
            async with gcs.stub() as stub:
                again = ScriptedRaylet(stub, raylet.node_id)
                registration = again.registration()
                registration.running_actors.append(report)
                registration.live_jobs.append(job.job_id)
                channel = gcs_pb2.ChannelSubscription(channel="actors", after_sequence=1)
                registration.subscriptions.append(channel)
                answer = await again.connect(registration)
                assert answer.registered.term == 2
                resync = await again.expect(lambda m: m.HasField("publication"))
                assert resync.publication.resynchronize
                assert (await actor_state(stub, first.actor_id)).state == gcs_pb2.Actor.ALIVE
                pending = await actor_state(stub, waiting.actor_id)
                assert pending.state == gcs_pb2.Actor.PENDING
                assert "1 GPU" in pending.pending_reason
                (taken,) = await create(again, spec_of(job, "first"))
                assert "taken" in taken.error
                again.resources["GPU"] = 10_000
                resources = common_pb2.Resources(amounts=again.resources)
                update = gcs_pb2.ResourceUpdate(total=resources, available=resources)
                await again.send(gcs_pb2.NodeUp(resources=update))
                assert (await again.expect_start()).spec.actor_id == waiting.actor_id

    asyncio.run(scenario())


@pytest.mark.parametrize("durable", ["true", "false"])
def test_kill_loses_no_acknowledged_write(session: Path, durable: str) -> None:
    async def scenario() -> None:
        async with running(session, f"gcs.storage.durable={durable}") as gcs:
            acknowledged: list[int] = []
            async with gcs.stub() as stub:

                async def put(number: int) -> None:
                    request = gcs_pb2.KvPutRequest(
                        namespace="n", key=str(number).encode(), value=bytes(2_000)
                    )
                    try:
                        await stub.KvPut(request, timeout=DEADLINE_S)
                    except grpc.aio.AioRpcError:
                        return
                    acknowledged.append(number)
                    if len(acknowledged) == 200:
                        gcs.kill()

                await asyncio.gather(*(put(number) for number in range(1_000)))
                assert await gcs.wait() == -signal.SIGKILL
            assert 200 <= len(acknowledged) < 1_000
            await gcs.start()
            async with gcs.stub() as stub:
                for number in acknowledged:
                    request = gcs_pb2.KvGetRequest(namespace="n", key=str(number).encode())
                    reply = await stub.KvGet(request, timeout=DEADLINE_S)
                    assert reply.value == bytes(2_000)

    asyncio.run(scenario())


def test_driver_that_is_gone_after_a_restart(session: Path) -> None:
    async def scenario() -> None:
        async with (
            running(session, "gcs.job_grace_ms=300", "gcs.heartbeat_period_ms=100") as gcs,
            gcs.stub() as stub,
        ):
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            job = await job_of(raylet)
            spec = spec_of(job)
            await create(raylet, spec)
            start = await raylet.expect_start()
            report = await raylet.alive(start)
            await settled(raylet)
            raylet.disconnect()
            registration = raylet.registration()
            registration.running_actors.append(report)
            await raylet.connect(registration)
            stop = await raylet.expect_stop()
            assert stop.cause.kind == common_pb2.DeathCause.JOB_FINISHED

    asyncio.run(scenario())


def test_silent_node_dies_and_must_take_a_new_id(session: Path) -> None:
    async def scenario() -> None:
        settings = ("gcs.heartbeat_period_ms=50", "gcs.suspect_after_ms=100", "gcs.dead_after_ms=200")
        async with running(session, *settings) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            refusal = await raylet.expect(lambda m: m.HasField("refused"))
            assert refusal.refused.code == gcs_pb2.NodeRefused.DECLARED_DEAD
            again = await raylet.connect()
            assert again.refused.code == gcs_pb2.NodeRefused.DECLARED_DEAD
            assert (await ScriptedRaylet(stub).connect()).HasField("registered")

    asyncio.run(scenario())


def test_heartbeats_keep_a_node_alive_and_are_acknowledged(session: Path) -> None:
    async def scenario() -> None:
        settings = ("gcs.heartbeat_period_ms=50", "gcs.suspect_after_ms=2000", "gcs.dead_after_ms=4000")
        async with running(session, *settings) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            for sequence in range(1, 20):
                heartbeat = gcs_pb2.NodeHeartbeat(sequence=sequence)
                await raylet.send(gcs_pb2.NodeUp(heartbeat=heartbeat))
                await raylet.expect(lambda m, sequence=sequence: m.heartbeat_ack.sequence == sequence)  # type: ignore[misc]
            nodes = await stub.ListNodes(gcs_pb2.ListNodesRequest(), timeout=DEADLINE_S)
            assert [node.state for node in nodes.nodes] == [gcs_pb2.Node.ALIVE]

    asyncio.run(scenario())


def test_newer_stream_of_a_node_replaces_the_older(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            old = ScriptedRaylet(stub)
            await old.connect()
            new = ScriptedRaylet(stub, old.node_id)
            assert (await new.connect()).HasField("registered")
            refusal = await old.expect(lambda m: m.HasField("refused"))
            assert refusal.refused.code == gcs_pb2.NodeRefused.REPLACED
            await settled(new)

    asyncio.run(scenario())


def test_other_protocol_is_refused(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            registration = raylet.registration()
            registration.protocol_major += 1
            answer = await raylet.connect(registration)
            assert answer.refused.code == gcs_pb2.NodeRefused.VERSION
            assert "upgrade" in answer.refused.reason

    asyncio.run(scenario())


def test_malformed_requests_are_answered_and_change_nothing(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            for method, payload, status in (
                ("Absent", b"", grpc.StatusCode.UNIMPLEMENTED),
                ("NodeStream", b"", grpc.StatusCode.UNIMPLEMENTED),
                ("KvPut", b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
                ("KvPut", b"", grpc.StatusCode.INVALID_ARGUMENT),
                ("RegisterJob", b"", grpc.StatusCode.INVALID_ARGUMENT),
                ("CreateActors", b"", grpc.StatusCode.INVALID_ARGUMENT),
                ("FinishJob", b"", grpc.StatusCode.NOT_FOUND),
            ):
                reply = await raylet.relay_raw(method, payload)
                assert reply.status == status.value[0], (method, reply)
                assert reply.error
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.KvPut(gcs_pb2.KvPutRequest(), timeout=DEADLINE_S)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            call = stub.Subscribe(gcs_pb2.SubscribeRequest(channel="absent"))
            with pytest.raises(grpc.aio.AioRpcError, match="no channel"):
                await call.read()
            await settled(raylet)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff\xff\xff\xff", "not a valid NodeUp"),
        (b"", "first message must be NodeRegister"),
        (gcs_pb2.NodeUp(register=gcs_pb2.NodeRegister(protocol_major=1)).SerializeToString(), "node_id"),
    ],
)
def test_malformed_stream_is_closed_with_a_reason(session: Path, raw: bytes, reason: str) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, rpc.connect(gcs.address, gcs.token) as channel:
            call = channel.stream_stream("/aktis.v1.Gcs/NodeStream")()
            await call.write(raw)
            answer = gcs_pb2.NodeDown.FromString(await call.read())
            assert reason in answer.refused.reason
            assert await call.code() == grpc.StatusCode.OK

    asyncio.run(scenario())


def test_wrong_token_is_refused(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs:
            for token in ("", secrets.token_hex(16)):
                async with rpc.connect(gcs.address, token) as channel:
                    stub: Any = gcs_pb2_grpc.GcsStub(channel)
                    with pytest.raises(grpc.aio.AioRpcError) as caught:
                        await stub.ListNodes(gcs_pb2.ListNodesRequest(), timeout=DEADLINE_S)
                    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
                    with pytest.raises(grpc.aio.AioRpcError):
                        await ScriptedRaylet(stub).connect()

    asyncio.run(scenario())


def test_subscription_of_a_tool_follows_one_key(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            call = stub.Subscribe(gcs_pb2.SubscribeRequest(channel="jobs"))
            assert (await call.read()).resynchronize
            job = await job_of(raylet)
            published = await call.read()
            assert published.job.job_id == job.job_id
            call.cancel()

    asyncio.run(scenario())


def test_metrics_count_what_happened(session: Path) -> None:
    async def scenario() -> None:
        async with running(session) as gcs, gcs.stub() as stub:
            raylet = ScriptedRaylet(stub)
            await raylet.connect()
            await create(raylet, spec_of(await job_of(raylet)))
            url = f"http://{gcs.record().metrics_address}/metrics"
            text = await asyncio.to_thread(
                lambda: urllib.request.urlopen(url, timeout=DEADLINE_S).read().decode()
            )
            for line in (
                'aktis_gcs_nodes{state="ALIVE"} 1.0',
                'aktis_gcs_actors{state="STARTING"} 1.0',
                'aktis_gcs_actor_changes_total{new="STARTING",old="PENDING"} 1.0',
                'aktis_gcs_calls_total{method="CreateActors",status="OK"} 1.0',
                'aktis_gcs_jobs{state="RUNNING"} 1.0',
                "aktis_gcs_term 1.0",
            ):
                assert line in text
            assert re.search(r"aktis_gcs_storage_commits_total [1-9]", text)

    asyncio.run(scenario())


def test_port_in_use(session: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        address = f"127.0.0.1:{held.getsockname()[1]}"
        status, text = asyncio.run(failed_start(session, f'gcs.listen_addresses=["{address}"]'))
    assert status == 2
    assert address in text
    assert "gcs.listen_addresses" in text


@pytest.mark.parametrize("content", [None, b"this is no database"])
def test_unusable_database(session: Path, content: bytes | None) -> None:
    path = session.parent / "db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content * 1_000)
    status, text = asyncio.run(failed_start(session, f"gcs.storage.path={path}"))
    assert status == 2
    assert text.startswith("aktis-gcs: error: gcs.storage:")
    assert str(path) in text
    assert "Traceback" not in text


def test_state_directory_that_cannot_be_made(session: Path) -> None:
    (session.parent / "file").touch()
    status, text = asyncio.run(failed_start(session, f"paths.state_dir={session.parent}/file/state"))
    assert status == 2
    assert "file/state" in text


async def failed_start(session: Path, *settings: str) -> tuple[int, str]:
    """Start a GCS that cannot start; return its exit status and what it said."""
    process = await GcsProcess(session, settings).launch()
    async with asyncio.timeout(DEADLINE_S):
        _, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, errors.decode()
