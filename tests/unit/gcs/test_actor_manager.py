"""Single scenes of actors' lives; `test_actor_machine` plays random ones."""

import pytest
from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.actors import manager
from aktisd.gcs.effects import Effects
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table

from tests.support.gcs_parts import (
    SimulatedCluster,
    actor_id,
    actor_spec,
    node_id,
    process,
    report,
    resources,
    sent,
    worker_id,
)

Actor = gcs_pb2.Actor
Cause = common_pb2.DeathCause
Report = gcs_pb2.ActorReport


@pytest.fixture
def cluster() -> SimulatedCluster:
    cluster = SimulatedCluster()
    cluster.register(1)
    cluster.job()
    return cluster


def started(cluster: SimulatedCluster, number: int = 1, **fields: object) -> None:
    """Create an actor and let it become ALIVE in the process with number + 100."""
    cluster.create(actor_spec(number, **fields))
    alive(cluster, number, 1)


def alive(cluster: SimulatedCluster, number: int, incarnation: int, node: int = 1) -> Effects:
    address = process(number + 100, node)
    return cluster.up(node, actor_report=report(number, incarnation, Report.ALIVE, address=address))


def died(
    cluster: SimulatedCluster,
    number: int,
    incarnation: int,
    kind: "common_pb2.DeathCause.Kind.ValueType" = Cause.EXITED,
) -> Effects:
    return cluster.up(1, actor_report=report(number, incarnation, Report.DIED, cause=Cause(kind=kind)))


def kill(cluster: SimulatedCluster, number: int, **fields: object) -> Effects:
    out = Effects()
    request = gcs_pb2.KillActorRequest(actor_id=actor_id(number), **fields)  # type: ignore[arg-type]
    assert cluster.state.actors.kill(request, out)
    return cluster.settle(out)


def starts(out: Effects) -> list[tuple[bytes, int, int]]:
    """Return node, actor number and incarnation of each StartActor."""
    messages = [(to, message) for to, message in sent(out, "start_actor")]
    return [(to, start.spec.actor_id[-1], start.incarnation) for to, start in messages]  # type: ignore[attr-defined]


def stops(out: Effects) -> list[tuple[int, int, bool]]:
    """Return actor number, incarnation and gracefulness of each StopActor."""
    return [(s.actor_id[-1], s.incarnation, s.graceful) for _, s in sent(out, "stop_actor")]  # type: ignore[attr-defined]


def test_creation_is_one_batch_with_everything(cluster: SimulatedCluster) -> None:
    results, out = cluster.create(*(actor_spec(number) for number in range(1, 101)))
    assert len(results) == 100
    assert len(starts(out)) == 100
    assert sum(table == Table.ACTORS for table, _ in out.writes) == 100
    assert cluster.state.actors.table.counts[Actor.STARTING] == 100


def test_incarnation_is_stored_with_the_start(cluster: SimulatedCluster) -> None:
    _, out = cluster.create(actor_spec(1))
    row = out.rows()[Table.ACTORS, actor_id(1)]
    assert row is not None
    assert Actor.FromString(row).incarnation == 1


def test_restart_within_the_budget_then_dead(cluster: SimulatedCluster) -> None:
    started(cluster, max_restarts=1)
    assert starts(died(cluster, 1, 1)) == [(node_id(1), 1, 2)]
    alive(cluster, 1, 2)
    assert cluster.actor(1).restarts == 1
    died(cluster, 1, 2)
    actor = cluster.actor(1)
    assert actor.state == Actor.DEAD
    assert actor.death_cause.kind == Cause.EXITED
    assert actor.death_cause.node_id == node_id(1)


@pytest.mark.parametrize("kind", [Cause.INTENDED, Cause.CREATION_FAILED])
def test_final_causes_ignore_the_budget(
    cluster: SimulatedCluster, kind: "common_pb2.DeathCause.Kind.ValueType"
) -> None:
    started(cluster, max_restarts=-1)
    died(cluster, 1, 1, kind)
    assert cluster.actor(1).state == Actor.DEAD


def test_stale_reports(cluster: SimulatedCluster) -> None:
    started(cluster, max_restarts=5)
    died(cluster, 1, 1)
    assert stops(alive(cluster, 1, 1)) == [(1, 1, False)]
    assert not starts(died(cluster, 1, 1))
    assert cluster.actor(1).state == Actor.STARTING
    alive(cluster, 1, 2)
    assert not stops(alive(cluster, 1, 2))  # the same report twice
    assert stops(alive(cluster, 99, 1)) == [(99, 1, False)]  # never heard of
    assert not stops(died(cluster, 99, 1))


def test_report_from_another_node_is_stale(cluster: SimulatedCluster) -> None:
    started(cluster)
    cluster.register(2)
    out = cluster.up(2, actor_report=report(1, 1, Report.ALIVE))
    assert [(to, stop.incarnation) for to, stop in sent(out, "stop_actor")] == [(node_id(2), 1)]  # type: ignore[attr-defined]
    cluster.up(2, actor_report=report(1, 1, Report.DIED))
    assert cluster.actor(1).state == Actor.ALIVE


def test_no_room_waits_for_the_next_report_of_the_node(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1))
    assert not starts(cluster.up(1, actor_report=report(1, 1, Report.NO_ROOM)))
    assert cluster.actor(1).state == Actor.PENDING
    assert "refused a start" in cluster.actor(1).pending_reason
    four = resources({"CPU": 4})
    out = cluster.up(1, resources=gcs_pb2.ResourceUpdate(total=four, available=four))
    assert starts(out) == [(node_id(1), 1, 2)]


def test_waiting_actor_starts_when_another_ends(cluster: SimulatedCluster) -> None:
    three = resources({"CPU": 3})
    cluster.create(actor_spec(1, resources=three), actor_spec(2, resources=three), actor_spec(3))
    assert [cluster.actor(n).state for n in (1, 2, 3)] == [Actor.STARTING, Actor.PENDING, Actor.STARTING]
    assert "waits for 2 CPU" in cluster.actor(2).pending_reason
    alive(cluster, 1, 1)
    one = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 1}))
    assert not starts(cluster.up(1, resources=one))
    died(cluster, 1, 1)
    four = gcs_pb2.ResourceUpdate(total=resources({"CPU": 4}), available=resources({"CPU": 4}))
    assert starts(cluster.up(1, resources=four)) == [(node_id(1), 2, 1)]


def test_infeasible_actor_is_told_to_its_driver_once(cluster: SimulatedCluster) -> None:
    huge = resources({"CPU": 100})
    _, out = cluster.create(actor_spec(1, resources=huge), actor_spec(2, resources=huge))
    (error,) = [p.error for p in out.publications if p.HasField("error")]
    assert error.kind == "infeasible_actor"
    assert "96 CPU too little" in error.message
    four = resources({"CPU": 4})
    again = cluster.up(1, resources=gcs_pb2.ResourceUpdate(total=four, available=four))
    assert not any(p.HasField("error") for p in again.publications)
    assert starts(cluster.register(2, cpus=200)) == [(node_id(2), 1, 1)] or starts(
        cluster.register(2, cpus=200)
    )


def test_kill_for_good(cluster: SimulatedCluster) -> None:
    started(cluster, name="n", max_restarts=5)
    out = kill(cluster, 1, no_restart=True)
    assert stops(out) == [(1, 1, False)]
    assert cluster.actor(1).death_cause.kind == Cause.KILLED
    assert cluster.state.actors.table.named("", "n") is None
    assert not starts(died(cluster, 1, 1))
    kill(cluster, 1, no_restart=True)  # again is harmless


def test_kill_before_the_creation_comes(cluster: SimulatedCluster) -> None:
    request = gcs_pb2.KillActorRequest(actor_id=actor_id(1), no_restart=True)
    assert not cluster.state.actors.kill(request, Effects())
    _, out = cluster.create(actor_spec(1, name="n", max_restarts=5))
    assert not starts(out)
    assert cluster.actor(1).state == Actor.DEAD
    assert cluster.actor(1).death_cause.kind == Cause.KILLED
    assert cluster.state.actors.table.named("", "n") is None


def test_kill_with_restart(cluster: SimulatedCluster) -> None:
    started(cluster, max_restarts=1)
    assert stops(kill(cluster, 1)) == [(1, 1, False)]
    assert cluster.actor(1).state == Actor.ALIVE
    assert starts(died(cluster, 1, 1, Cause.KILLED)) == [(node_id(1), 1, 2)]


def test_kill_of_another_incarnation_does_nothing(cluster: SimulatedCluster) -> None:
    started(cluster)
    assert not stops(kill(cluster, 1, no_restart=True, incarnation=7))
    assert cluster.actor(1).state == Actor.ALIVE


def test_graceful_end(cluster: SimulatedCluster) -> None:
    started(cluster, max_restarts=-1)
    assert stops(kill(cluster, 1, graceful=True)) == [(1, 1, True)]
    assert not stops(kill(cluster, 1, graceful=True))
    cluster.restart()
    out = cluster.register(1, running_actors=[report(1, 1, Report.ALIVE, address=process(101))])
    assert stops(out) == [(1, 1, True)], "it may have been lost with the GCS"
    assert cluster.actor(1).ending
    died(cluster, 1, 1, Cause.SIGNALED)
    assert cluster.actor(1).state == Actor.DEAD


def test_graceful_end_of_one_that_starts_comes_after_its_start(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1))
    assert not stops(kill(cluster, 1, graceful=True))
    assert stops(alive(cluster, 1, 1)) == [(1, 1, True)]


def test_owner_death_is_followed_down_the_chain(cluster: SimulatedCluster) -> None:
    started(cluster, 1)
    started(cluster, 2, owner=process(101))
    started(cluster, 3, owner=process(102))
    started(cluster, 4, owner=process(102), detached=True)
    out = cluster.up(1, process_died=gcs_pb2.ProcessDied(worker_id=worker_id(101)))
    assert stops(out) == [(2, 1, False), (3, 1, False)]
    assert [cluster.actor(n).state for n in (1, 2, 3, 4)] == [
        Actor.ALIVE,
        Actor.DEAD,
        Actor.DEAD,
        Actor.ALIVE,
    ]
    assert cluster.actor(3).death_cause.kind == Cause.OWNER_DIED


def test_what_a_restarting_actor_owned_ends(cluster: SimulatedCluster) -> None:
    started(cluster, 1, max_restarts=1)
    started(cluster, 2, owner=process(101))
    died(cluster, 1, 1)
    assert cluster.actor(1).state == Actor.STARTING
    assert cluster.actor(2).state == Actor.DEAD


def test_job_end_spares_detached_actors_and_what_they_own(cluster: SimulatedCluster) -> None:
    started(cluster, 1)
    started(cluster, 2, detached=True, name="d")
    started(cluster, 3, owner=process(102))
    started(cluster, 4, owner=process(103))
    out = cluster.up(1, job_ended=gcs_pb2.JobEnded(job_id=b"\0\0\0\1"))
    assert stops(out) == [(1, 1, False)]
    assert [cluster.actor(n).state for n in (2, 3, 4)] == [Actor.ALIVE] * 3
    (result,) = cluster.create(actor_spec(5, owner=process(102)))[0]
    assert not result.error  # type: ignore[attr-defined]
    kill(cluster, 2, no_restart=True)
    assert [cluster.actor(n).state for n in (2, 3, 4)] == [Actor.DEAD] * 3


def test_node_death_restarts_what_ran_there_elsewhere(cluster: SimulatedCluster) -> None:
    cluster.register(2, cpus=8)
    cluster.create(actor_spec(1, max_restarts=1, resources=resources({"CPU": 6})))
    alive(cluster, 1, 1, node=2)
    cluster.register(3, cpus=8)
    out = cluster.up(2, leaving=gcs_pb2.NodeLeaving(reason="maintenance"))
    assert starts(out) == [(node_id(3), 1, 2)]
    assert cluster.actor(1).death_cause.kind == Cause.NODE_DIED


def test_node_death_ends_what_it_owned_and_its_jobs(cluster: SimulatedCluster) -> None:
    cluster.register(2)
    job = cluster.job(driver=2, node=2)
    started(cluster, 1, max_restarts=5, owner=process(2, 2), job_id=job.job_id)
    started(cluster, 2, owner=process(3, 2))
    out = cluster.pass_time(0)
    for _ in range(40):
        cluster.up(1, heartbeat=gcs_pb2.NodeHeartbeat())
        cluster.state.nodes.sign_of_life(node_id(1), Effects())
        step = cluster.pass_time(500)
        out.messages += step.messages
        out.refusals += step.refusals
    assert [to for to, _ in out.refusals] == [node_id(2)]
    assert sorted(stops(out)) == [(1, 1, False), (2, 1, False)]
    assert [cluster.actor(n).state for n in (1, 2)] == [Actor.DEAD] * 2
    assert not cluster.state.jobs.is_running(job.job_id)


def test_quick_deaths_are_slowed_down(cluster: SimulatedCluster) -> None:
    started(cluster, max_restarts=-1)
    assert starts(died(cluster, 1, 1))
    assert not starts(died(cluster, 1, 2))
    due_ms = cluster.state.actors.next_due_ms()
    assert due_ms is not None
    cluster.clock.advance(due_ms - cluster.clock.now_ms - 1)
    assert not starts(cluster.settle(Effects()))
    cluster.clock.advance(1)
    assert starts(cluster.settle(Effects())) == [(node_id(1), 1, 3)]
    alive(cluster, 1, 3)
    cluster.clock.advance(cluster.limits.quick_death_ms)
    assert starts(died(cluster, 1, 3)), "one that lived restarts at once"


def test_oldest_dead_are_forgotten() -> None:
    cluster = SimulatedCluster(Limits(dead_actors=2))
    cluster.register(1)
    cluster.job()
    for number in (1, 2, 3):
        started(cluster, number)
        kill(cluster, number, no_restart=True)
    started(cluster, 4)
    out = kill(cluster, 4, no_restart=True)
    assert out.rows()[Table.ACTORS, actor_id(2)] is None
    assert [record.actor_id for record in cluster.state.actors.table] == [actor_id(3), actor_id(4)]
    cluster.state.actors.validate()


def test_restart_of_the_gcs_goes_unnoticed(cluster: SimulatedCluster) -> None:
    started(cluster, 1, name="a", max_restarts=1)
    started(cluster, 2)
    cluster.restart()
    assert [cluster.actor(n).state for n in (1, 2)] == [Actor.ALIVE] * 2
    running = [report(n, 1, Report.ALIVE, address=process(n + 100)) for n in (1, 2)]
    everyone = gcs_pb2.ProcessList(worker_ids=[worker_id(n) for n in (1, 101, 102)])
    out = cluster.register(1, running_actors=running, live_jobs=[b"\0\0\0\1"], live_processes=everyone)
    assert not stops(out)
    assert not starts(out)
    assert not any(publication.HasField("actor") for publication in out.publications)
    assert starts(died(cluster, 1, 1)) == [(node_id(1), 1, 2)], "with its creation task"
    cluster.state.actors.validate()


def test_reconciliation_with_what_changed_in_the_meantime(cluster: SimulatedCluster) -> None:
    started(cluster, 1, max_restarts=1)  # gone without a report
    started(cluster, 2)  # died, with a report
    cluster.create(actor_spec(3))  # still starting
    cluster.create(actor_spec(4))  # its StartActor was lost
    cluster.create(actor_spec(5))  # became alive
    started(cluster, 6)
    kill(cluster, 6, no_restart=True)  # its StopActor was lost
    started(cluster, 7, owner=process(50))  # its owner is gone
    started(cluster, 8, max_restarts=3)
    kill(cluster, 8)  # its StopActor was lost, and it may restart
    reports = [
        report(2, 1, Report.DIED, cause=Cause(kind=Cause.SIGNALED, signal=11)),
        report(3, 1, Report.EVENT_UNSPECIFIED),
        *(report(n, 1, Report.ALIVE, address=process(100 + n)) for n in (5, 6, 7, 8)),
    ]
    out = cluster.register(
        1, running_actors=reports, live_processes=gcs_pb2.ProcessList(worker_ids=[worker_id(1)])
    )
    assert sorted(starts(out)) == [(node_id(1), 1, 2), (node_id(1), 4, 2)]
    assert sorted(stops(out)) == [(6, 1, False), (7, 1, False), (8, 1, False)]
    assert cluster.actor(2).death_cause.signal == 11
    assert cluster.actor(3).state == Actor.STARTING
    assert (cluster.actor(4).incarnation, cluster.actor(4).restarts) == (2, 0)
    assert cluster.actor(5).state == Actor.ALIVE
    assert cluster.actor(7).death_cause.kind == Cause.OWNER_DIED
    cluster.state.actors.validate()


def test_actors_that_waited_go_on_after_a_restart(cluster: SimulatedCluster) -> None:
    cluster.create(actor_spec(1, resources=resources({"CPU": 9})))
    cluster.restart()
    out = cluster.register(2, cpus=16)
    assert starts(out) == [(node_id(2), 1, 1)]


def test_story(cluster: SimulatedCluster) -> None:
    started(cluster)
    kill(cluster, 1, no_restart=True)
    story = cluster.state.actors.story(actor_id(1))
    assert [entry.new for entry in story] == ["PENDING", "STARTING", "ALIVE", "DEAD"]
    assert "kill()" in story[-1].why


def test_the_creator_of_very_many_waiting_actors_is_told_once(
    cluster: SimulatedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "MANY_WAITING", 3)
    three = resources({"CPU": 3})
    _, out = cluster.create(*(actor_spec(n, resources=three) for n in range(1, 4)))  # one is placed
    assert not any(p.HasField("error") for p in out.publications)
    errors = []
    for n in (4, 5):
        _, out = cluster.create(actor_spec(n, resources=three))
        errors += [p.error for p in out.publications if p.HasField("error")]
    (error,) = errors
    assert error.kind == "many_actors_wait"
    assert error.message.startswith("3 actors wait for resources")
