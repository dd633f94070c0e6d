"""What is asked about actors: checks, names, lists."""

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.limits import Limits

from tests.support.gcs_parts import SimulatedCluster, actor_id, actor_spec, node_id, process, sent, worker_id


@pytest.fixture
def cluster() -> SimulatedCluster:
    cluster = SimulatedCluster(Limits(actors=5, actors_per_request=4, actor_opaque_bytes=100))
    cluster.register(1)
    cluster.job()
    return cluster


def errors(cluster: SimulatedCluster, *specs: gcs_pb2.ActorSpec) -> list[str]:
    return [result.error for result in cluster.create(*specs)[0]]  # type: ignore[attr-defined]


def listed(cluster: SimulatedCluster, **fields: object) -> list[int]:
    request = gcs_pb2.ListActorsRequest(**fields)  # type: ignore[arg-type]
    return [actor.spec.actor_id[-1] for actor in cluster.state.actor_requests.list(request).actors]


def test_name_is_unique_in_its_namespace_even_within_a_request(cluster: SimulatedCluster) -> None:
    same = [actor_spec(number, name="n", namespace="a") for number in (1, 2)]
    other = actor_spec(3, name="n", namespace="b")
    first, second, third = errors(cluster, *same, other)
    assert not first
    assert not third
    assert "'n' is taken in namespace 'a' by actor Counter" in second


def test_name_is_free_again_after_death(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1, name="n"))
    out = Effects()
    request = gcs_pb2.KillActorRequest(actor_id=actor_id(1), no_restart=True)
    assert cluster.state.actor_requests.kill(request, out).found
    cluster.settle(out)
    assert errors(cluster, actor_spec(2, name="n")) == [""]


def test_get_if_exists(cluster: SimulatedCluster) -> None:
    (made,) = cluster.create(actor_spec(1, name="n"), get_if_exists=True)[0]
    (found,) = cluster.create(actor_spec(2, name="n"), get_if_exists=True)[0]
    assert [made.existed, found.existed] == [False, True]  # type: ignore[attr-defined]
    assert found.actor.spec.actor_id == actor_id(1)  # type: ignore[attr-defined]
    assert found.actor.spec.handle == b"handle"  # type: ignore[attr-defined]


def test_same_request_again_creates_nothing(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1, name="n"))
    results, out = cluster.create(actor_spec(1, name="n"))
    assert not results[0].error  # type: ignore[attr-defined]
    assert not out.writes


def test_a_name_without_arguments_is_taken_and_placed_when_they_come(cluster: SimulatedCluster) -> None:
    (made,), out = cluster.create(actor_spec(1, name="n", awaits_arguments=True, creation_task=b""))
    assert made.actor.state == gcs_pb2.Actor.PENDING  # type: ignore[attr-defined]
    assert not sent(out, "start_actor")
    assert "taken" in errors(cluster, actor_spec(2, name="n"))[0]
    again, _ = cluster.create(actor_spec(1, name="n", awaits_arguments=True, creation_task=b""))
    assert "not ready" in again[0].actor.pending_reason  # type: ignore[attr-defined]
    cluster.restart()
    cluster.register(1)
    (supplied,), out = cluster.create(actor_spec(1, name="n"))
    ((_, start),) = sent(out, "start_actor")
    assert start.spec.creation_task == b"create"  # type: ignore[attr-defined]
    assert not supplied.error  # type: ignore[attr-defined]
    repeated, out = cluster.create(actor_spec(1, name="n"))
    assert not sent(out, "start_actor")
    assert not repeated[0].error  # type: ignore[attr-defined]
    cluster.state.actors.validate()


def test_one_that_died_waiting_for_arguments_stays_dead(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1, name="n", awaits_arguments=True, creation_task=b""))
    out = Effects()
    cluster.state.actor_requests.kill(gcs_pb2.KillActorRequest(actor_id=actor_id(1), no_restart=True), out)
    cluster.settle(out)
    (late,), out = cluster.create(actor_spec(1, name="n"))
    assert late.actor.state == gcs_pb2.Actor.DEAD  # type: ignore[attr-defined]
    assert not sent(out, "start_actor")
    assert errors(cluster, actor_spec(2, name="n")) == [""]
    cluster.state.actors.validate()


def test_owner_must_live_and_its_job_run(cluster: SimulatedCluster) -> None:
    assert "is not running" in errors(cluster, actor_spec(1, job_id=b"\0\0\0\7"))[0]
    cluster.up(1, process_died=gcs_pb2.ProcessDied(worker_id=worker_id(9)))
    assert "is dead" in errors(cluster, actor_spec(1, owner=process(9)))[0]
    cluster.register(2)
    cluster.up(2, leaving=gcs_pb2.NodeLeaving())
    assert "is dead" in errors(cluster, actor_spec(1, owner=process(8, 2)))[0]
    cluster.up(1, process_died=gcs_pb2.ProcessDied(worker_id=worker_id(1)))
    assert not cluster.state.jobs.is_running(b"\0\0\0\1")
    assert "is dead" in errors(cluster, actor_spec(1))[0]


def test_limit_of_actors(cluster: SimulatedCluster) -> None:
    cluster.create(*(actor_spec(number) for number in range(1, 5)))
    first, second = errors(cluster, actor_spec(5), actor_spec(6))
    assert not first
    assert "limit" in second


@pytest.mark.parametrize(
    "wrong",
    [
        actor_spec(1, actor_id=b"short"),
        actor_spec(1, job_id=b""),
        actor_spec(1, owner=common_pb2.ProcessAddress()),
        actor_spec(1, name="x" * 1_000),
        actor_spec(1, namespace="a\0b"),
        actor_spec(1, class_name="x" * 1_000),
        actor_spec(1, max_restarts=-2),
        actor_spec(1, resources=common_pb2.Resources(amounts={"CPU": -1})),
        actor_spec(1, placement_resources=common_pb2.Resources(amounts={"": 1})),
        actor_spec(1, label_selector={"a": "x" * 100_000}),
        actor_spec(1, creation_task=bytes(101)),
    ],
)
def test_one_malformed_spec_refuses_the_whole_request(
    cluster: SimulatedCluster, wrong: gcs_pb2.ActorSpec
) -> None:
    with pytest.raises(RequestError) as caught:
        cluster.create(actor_spec(9), wrong)
    assert caught.value.status in (Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED)
    assert listed(cluster) == []


def test_number_of_specs(cluster: SimulatedCluster) -> None:
    for specs in ([], [actor_spec(number) for number in range(1, 6)]):
        with pytest.raises(RequestError, match="1 to 4 specs"):
            cluster.create(*specs)
    for named in ([actor_spec(1)], [actor_spec(1, name="a"), actor_spec(2, name="b")]):
        with pytest.raises(RequestError, match="exactly one"):
            cluster.create(*named, get_if_exists=True)


def test_lists(cluster: SimulatedCluster) -> None:
    cluster.job(driver=2)
    cluster.create(actor_spec(1), actor_spec(2, namespace="b"), actor_spec(3, job_id=b"\0\0\0\2"))
    request = gcs_pb2.KillActorRequest(actor_id=actor_id(1), no_restart=True)
    cluster.state.actor_requests.kill(request, Effects())
    assert listed(cluster) == [2, 3]
    assert listed(cluster, include_dead=True) == [1, 2, 3]
    assert listed(cluster, namespace="b") == [2]
    assert listed(cluster, job_id=b"\0\0\0\2") == [3]
    assert listed(cluster, include_dead=True, limit=2) == [1, 2]


def test_get_and_kill_of_nobody(cluster: SimulatedCluster) -> None:
    assert not cluster.state.actor_requests.get(gcs_pb2.GetActorRequest(name="n")).found
    assert not cluster.state.actor_requests.get(gcs_pb2.GetActorRequest(actor_id=actor_id(1))).found
    request = gcs_pb2.KillActorRequest(actor_id=actor_id(1))
    assert not cluster.state.actor_requests.kill(request, Effects()).found
    with pytest.raises(RequestError):
        cluster.state.actor_requests.kill(gcs_pb2.KillActorRequest(actor_id=b"x"), Effects())
    assert node_id(1)
