"""aktis-gcs as a process: what it keeps across deaths, and what it says to those who get it wrong."""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aktis._proto import common_pb2, gcs_pb2

from tests.support.gcs import DEADLINE_S, GcsProcess, ScriptedRaylet, spec_of

Scenario = Callable[[], Coroutine[Any, Any, None]]


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
