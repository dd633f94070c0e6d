"""aktis-raylet as a real process with a real GCS, driven over its control socket."""

import os
import signal
from collections.abc import Iterator

import pytest
from aktis import _core
from aktis._proto import common_pb2, gcs_pb2, raylet_pb2
from google.protobuf.message import Message

from tests.support.control_peer import ControlPeer, raylet_address
from tests.support.daemons import Daemons
from tests.support.sandbox import Sandbox, wait_for_exit

Kind = common_pb2.DeathCause
WORKER = "raylet.workers.entry_point=tests.support.scripted_worker:run"


@pytest.fixture
def daemons(sandbox: Sandbox) -> Iterator[Daemons]:
    """A GCS, a store and a raylet with two CPUs; everything must be gone when they have stopped."""
    with Daemons(sandbox) as daemons:
        daemons.start("gcs")
        daemons.start("plasma", "plasma.capacity_bytes=16 MiB")
        daemons.start("raylet", WORKER, "raylet.num_cpus=2", "raylet.resources.special=1")
        yield daemons


@pytest.fixture
def driver(daemons: Daemons) -> Iterator[ControlPeer]:
    """A registered driver."""
    with ControlPeer(raylet_address(daemons.paths.root), daemons.token) as peer:
        peer.job_id = peer.register_driver(log_to_driver=True).job.job_id
        yield peer


def cpus(amount: float) -> common_pb2.Resources:
    return common_pb2.Resources(amounts={"CPU": round(amount * 10_000)})


def ask(
    driver: ControlPeer, wanted: int, resources: common_pb2.Resources | None = None, key: int = 1
) -> None:
    driver.send(
        request_leases=raylet_pb2.RequestLeases(
            class_key=key,
            wanted=wanted,
            resources=resources if resources is not None else cpus(1),
            function_name="f",
            job_id=driver.job_id,
        )
    )


def lease(driver: ControlPeer, count: int = 1) -> list[raylet_pb2.Lease]:
    """Get leases."""
    ask(driver, count)
    leases: list[raylet_pb2.Lease] = []
    while len(leases) < count:
        leases.extend(driver.receive("leases_granted").leases)
    return leases


def test_driver_gets_its_job_and_the_facts_of_the_node(daemons: Daemons) -> None:
    with ControlPeer(raylet_address(daemons.paths.root), daemons.token) as peer:
        registered = peer.register_driver(namespace="ns", entrypoint="test.py")
    assert registered.job.namespace == "ns"
    assert registered.node.sockets_dir == str(daemons.paths.sockets_dir)
    assert len(registered.node.node_id) == 16
    assert len(registered.node.cluster_id) == 16


def test_leases_are_granted_and_reused(driver: ControlPeer) -> None:
    first, second = lease(driver, 2)
    assert first.worker.pid != second.worker.pid
    ask(driver, 1)
    item = raylet_pb2.ReturnLeases.Item(lease_id=first.lease_id)
    driver.send(return_leases=raylet_pb2.ReturnLeases(leases=[item]))
    (third,) = driver.receive("leases_granted").leases
    assert third.worker.pid == first.worker.pid
    assert third.lease_id > second.lease_id


def test_infeasible_request_is_explained(driver: ControlPeer) -> None:
    ask(driver, 1, common_pb2.Resources(amounts={"CPU": 10_000, "special": 30_000}))
    pending = driver.receive("leases_pending")
    assert pending.infeasible
    assert "needs special 3, has 1" in pending.explanation


def test_killed_worker_is_told_with_its_cause(driver: ControlPeer) -> None:
    (granted,) = lease(driver)
    while not any(line.is_stderr for line in driver.receive("log_batch").lines):
        pass  # its last words are written when its first lease begins
    os.kill(granted.worker.pid, signal.SIGKILL)
    lost = driver.receive("lease_lost")
    assert lost.lease_id == granted.lease_id
    assert (lost.cause.kind, lost.cause.signal) == (Kind.SIGNALED, signal.SIGKILL)
    assert "SIGKILL" in lost.cause.message
    assert "to stderr" in lost.cause.stderr_tail
    driver.send(ask_death=raylet_pb2.AskDeath(worker_id=granted.worker.worker_id))
    answer = driver.receive("death_answer")
    assert answer.found
    assert answer.cause.signal == signal.SIGKILL


def test_kill_worker_names_the_owners_reason(driver: ControlPeer) -> None:
    (granted,) = lease(driver)
    driver.send(
        kill_worker=raylet_pb2.KillWorker(
            worker_id=granted.worker.worker_id, lease_id=granted.lease_id, reason="cancelled by force"
        )
    )
    lost = driver.receive("lease_lost")
    assert (lost.cause.kind, lost.cause.message) == (Kind.KILLED, "cancelled by force")


def test_unknown_process_has_no_cause_of_death(driver: ControlPeer) -> None:
    driver.send(ask_death=raylet_pb2.AskDeath(worker_id=os.urandom(16)))
    assert not driver.receive("death_answer", timeout_s=1.0).found


def test_blocked_worker_lends_its_cpu(driver: ControlPeer) -> None:
    first, _ = lease(driver, 2)
    ask(driver, 1)
    os.kill(first.worker.pid, signal.SIGUSR1)
    (third,) = driver.receive("leases_granted").leases
    assert third.worker.pid != first.worker.pid


def test_workers_of_a_gone_driver_end(daemons: Daemons) -> None:
    with ControlPeer(raylet_address(daemons.paths.root), daemons.token) as driver:
        driver.job_id = driver.register_driver().job.job_id
        pids = [granted.worker.pid for granted in lease(driver, 2)]
    assert all(wait_for_exit(pid, 5.0) for pid in pids)


def test_what_a_worker_started_ends_with_it(driver: ControlPeer) -> None:
    actor_id = create_actor(driver, "Spawns")
    alive = await_actor(driver, actor_id, gcs_pb2.Actor.ALIVE)
    child = None
    while child is None:
        texts = [line.text for line in driver.receive("log_batch").lines]
        child = next((int(text.split()[1]) for text in texts if text.startswith("child ")), None)
    os.kill(alive.address.pid, signal.SIGKILL)
    await_actor(driver, actor_id, gcs_pb2.Actor.DEAD)
    assert wait_for_exit(child, 5.0)


def test_logs_reach_the_driver_with_their_source(driver: ControlPeer) -> None:
    (granted,) = lease(driver)
    lines: dict[str, raylet_pb2.LogLine] = {}
    while len(lines) < 2:
        for line in driver.receive("log_batch").lines:
            lines[line.text] = line
    out = lines[f"lease {granted.lease_id} begins"]
    assert (out.pid, out.label, out.is_stderr) == (granted.worker.pid, "f", False)
    assert lines["to stderr"].is_stderr


def call(driver: ControlPeer, method: str, request: Message) -> raylet_pb2.GcsResult:
    """A call to the GCS."""
    driver.send(gcs_call=raylet_pb2.GcsCall(method=method, payload=request.SerializeToString()))
    result: raylet_pb2.GcsResult = driver.receive("gcs_result")
    return result


def test_calls_are_relayed_to_the_gcs(driver: ControlPeer) -> None:
    put = gcs_pb2.KvPutRequest(namespace="n", key=b"k", value=b"v")
    assert call(driver, "KvPut", put).status == 0
    result = call(driver, "KvGet", gcs_pb2.KvGetRequest(namespace="n", key=b"k"))
    assert gcs_pb2.KvGetReply.FromString(result.payload).value == b"v"
    assert call(driver, "NodeStream", put).status == 12  # UNIMPLEMENTED


def create_actor(driver: ControlPeer, class_name: str) -> bytes:
    """Create an actor; its id."""
    actor_id = os.urandom(16)
    spec = gcs_pb2.ActorSpec(
        actor_id=actor_id, job_id=driver.job_id, class_name=class_name, owner=driver.address()
    )
    driver.send(subscribe=raylet_pb2.Subscribe(channel="actors"))
    assert call(driver, "CreateActors", gcs_pb2.CreateActorsRequest(specs=[spec])).status == 0
    return actor_id


def await_actor(driver: ControlPeer, actor_id: bytes, state: int) -> gcs_pb2.Actor:
    """Wait until an actor is published in a state."""
    while True:
        publication = driver.receive("publication")
        if publication.actor.spec.actor_id == actor_id and publication.actor.state == state:
            actor: gcs_pb2.Actor = publication.actor
            return actor


def test_actor_starts_and_dies_with_its_cause(driver: ControlPeer) -> None:
    actor_id = create_actor(driver, "Lives")
    alive = await_actor(driver, actor_id, gcs_pb2.Actor.ALIVE)
    os.kill(alive.address.pid, signal.SIGSEGV)
    dead = await_actor(driver, actor_id, gcs_pb2.Actor.DEAD)
    assert dead.death_cause.signal == signal.SIGSEGV


def test_failed_constructor_reaches_the_gcs_with_its_error(driver: ControlPeer) -> None:
    dead = await_actor(driver, create_actor(driver, "Fails"), gcs_pb2.Actor.DEAD)
    assert dead.death_cause.kind == Kind.CREATION_FAILED
    assert dead.death_cause.error == b"pickled"


def test_actor_that_exits_leaves_code_and_last_words(driver: ControlPeer) -> None:
    dead = await_actor(driver, create_actor(driver, "Exits"), gcs_pb2.Actor.DEAD)
    assert (dead.death_cause.kind, dead.death_cause.exit_code) == (Kind.EXITED, 7)
    assert "about to exit" in dead.death_cause.stderr_tail


def test_gcs_restart_is_not_noticed_by_leases_and_calls_wait_for_it(
    daemons: Daemons, driver: ControlPeer
) -> None:
    (granted,) = lease(driver)
    daemons.signal("gcs", signal.SIGTERM)
    assert daemons.wait("gcs") == 0
    driver.send(
        gcs_call=raylet_pb2.GcsCall(
            method="ListNodes", payload=gcs_pb2.ListNodesRequest().SerializeToString()
        )
    )
    assert not driver.has("gcs_result", within_s=0.2)
    item = raylet_pb2.ReturnLeases.Item(lease_id=granted.lease_id)
    driver.send(return_leases=raylet_pb2.ReturnLeases(leases=[item]))
    lease(driver, 2)
    daemons.start("gcs")
    nodes = gcs_pb2.ListNodesReply.FromString(driver.receive("gcs_result").payload).nodes
    assert [node.state for node in nodes] == [gcs_pb2.Node.ALIVE]


def test_new_template_takes_over_and_running_workers_stay(
    daemons: Daemons, driver: ControlPeer, sandbox: Sandbox
) -> None:
    (granted,) = lease(driver)
    templates = [p.pid for p in sandbox.processes() if "aktis._worker.template" in p.command]
    template = min(templates)
    os.kill(template, signal.SIGKILL)
    assert wait_for_exit(template, 5.0)
    ask(driver, 3, cpus(0.1), key=2)
    leases: list[raylet_pb2.Lease] = []
    while len(leases) < 3:
        leases.extend(driver.receive("leases_granted").leases)
    os.kill(granted.worker.pid, signal.SIGKILL)
    lost = driver.receive("lease_lost")
    assert (lost.lease_id, lost.cause.signal) == (granted.lease_id, signal.SIGKILL)


NOT_REGISTERED = raylet_pb2.ClientMessage(set_blocked=raylet_pb2.SetBlocked()).SerializeToString()


@pytest.mark.parametrize("payload", [b"\xff\xff\xff", b"", NOT_REGISTERED])
def test_broken_messages_close_only_their_connection(
    daemons: Daemons, driver: ControlPeer, payload: bytes
) -> None:
    hostile = ControlPeer(raylet_address(daemons.paths.root), daemons.token)
    hostile.send_frame(_core.FRAME_CONTROL, payload)
    if payload:
        hostile.wait_closed()
    hostile.close()
    lease(driver, 1)


def test_wrong_frame_type_and_garbage_close_the_connection(daemons: Daemons, driver: ControlPeer) -> None:
    hostile = ControlPeer(raylet_address(daemons.paths.root), daemons.token)
    hostile.send_frame(40, b"task")
    hostile.wait_closed()
    hostile = ControlPeer(raylet_address(daemons.paths.root), daemons.token)
    hostile.socket.sendall(b"\xff" * 64)
    hostile.wait_closed()
    lease(driver, 1)


def test_token_role_and_version_are_checked(daemons: Daemons) -> None:
    address = raylet_address(daemons.paths.root)
    with pytest.raises(PermissionError, match="token"):
        ControlPeer(address, "wrong")
    with pytest.raises(PermissionError, match="role"):
        ControlPeer(address, daemons.token, role=_core.ROLE_PLASMA)
    with pytest.raises(PermissionError, match="version"):
        ControlPeer(address, daemons.token, major=99)


def test_an_invented_start_token_or_template_is_refused(daemons: Daemons) -> None:
    address = raylet_address(daemons.paths.root)
    worker = ControlPeer(address, daemons.token, role=_core.ROLE_WORKER)
    worker.send(register_worker=raylet_pb2.RegisterWorker(address=worker.address(), start_token=5))
    worker.wait_closed()
    ControlPeer(address, daemons.token, role=_core.ROLE_TEMPLATE).wait_closed()


def test_request_for_another_job_fails_with_the_reason(driver: ControlPeer) -> None:
    driver.send(
        request_leases=raylet_pb2.RequestLeases(class_key=1, wanted=1, resources=cpus(1), job_id=b"none")
    )
    assert "is not the job of this process" in driver.receive("failure").message


def test_sigterm_ends_busy_workers_and_leaves_nothing(daemons: Daemons, driver: ControlPeer) -> None:
    pids = [granted.worker.pid for granted in lease(driver, 2)]
    os.kill(pids[0], signal.SIGSTOP)  # one that cannot react
    daemons.signal("raylet", signal.SIGTERM)
    assert daemons.wait("raylet") == 0
    assert all(wait_for_exit(pid, 0.0) for pid in pids)
