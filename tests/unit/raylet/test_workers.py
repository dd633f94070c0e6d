"""The worker pool and actors: prestart, reuse within a job, reaping, failed starts, ends."""

import pytest
from aktis._proto import gcs_pb2
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind, cause, observed
from aktisd.raylet.workers import TRANSITIONS, PoolLimits, WorkerState

from tests.support.fake_node import FAILED, FakeNode, actor_spec, units, worker_id

A, B = b"client-a", b"client-b"
Report = gcs_pb2.ActorReport


def limits(prestart: int = 2, max_workers: int = 8, **more: float) -> PoolLimits:
    return PoolLimits(prestart=prestart, max_workers=max_workers, **more)  # type: ignore[arg-type]


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(WorkerState)
    assert TRANSITIONS[WorkerState.DEAD] == frozenset()


def test_prestarts_and_tops_up() -> None:
    node = FakeNode(limits=limits())
    node.send(m.Tick())
    assert len(node.forked) == 2
    node.die(1)
    assert len(node.forked) == 3


def test_a_worker_that_has_run_tasks_serves_its_job_only_and_ends_with_it() -> None:
    node = FakeNode(units(CPU=1), limits=limits(prestart=0))
    node.send(m.DriverJoined(A, b"job1"))
    node.request(A, 1, job=b"job1")
    (first,) = node.granted()
    node.give_back(A, first.lease_id)
    node.request(B, 1, job=b"job2")
    (other,) = node.granted()
    assert other.token != first.token
    node.send(m.ClientGone(A))
    (end,) = node.take(m.EndWorker)
    assert (end.token, end.cause and end.cause.kind) == (first.token, Kind.JOB_FINISHED)


def test_the_warmest_worker_is_taken() -> None:
    node = FakeNode(units(CPU=2))
    node.request(A, 2)
    first, second = node.granted()
    node.give_back(A, second.lease_id)
    node.give_back(A, first.lease_id)
    node.request(A, 1)
    assert node.granted()[0].token == first.token


def test_idle_workers_beyond_the_prestart_are_ended_after_the_timeout() -> None:
    node = FakeNode(units(CPU=4), limits=limits(prestart=1, idle_timeout_s=10.0))
    node.request(A, 4)
    leases = node.granted()
    node.give_back(A, *[lease.lease_id for lease in leases])
    node.advance(9.0)
    assert node.take(m.EndWorker) == []
    deadline = node.logic.deadline()
    assert deadline is not None
    assert deadline <= node.now + 1.0
    node.advance(1.1)
    assert len(node.take(m.EndWorker)) == 3


def test_a_worker_that_owns_objects_may_stay_and_is_asked_again() -> None:
    node = FakeNode(units(CPU=1), limits=limits(prestart=0, idle_timeout_s=10.0))
    node.deaths_on_end = False
    node.request(A, 1)
    (lease,) = node.granted()
    node.give_back(A, lease.lease_id)
    for _ in range(3):
        node.advance(10.1)
        assert [end.token for end in node.take(m.EndWorker)] == [lease.token]
        node.send(m.WorkerStays(worker_id(lease.token)))
        assert [spared.token for spared in node.take(m.SpareWorker)] == [lease.token]
    node.request(A, 1)
    assert node.granted()[0].token == lease.token


def test_a_worker_whose_job_has_ended_may_not_stay() -> None:
    node = FakeNode(units(CPU=1), limits=limits(prestart=0, idle_timeout_s=10.0))
    node.deaths_on_end = False
    node.send(m.DriverJoined(A, b"job1"))
    node.request(A, 1, job=b"job1")
    (lease,) = node.granted()
    node.give_back(A, lease.lease_id)
    node.advance(10.1)
    node.send(m.ClientGone(A))
    node.take(m.EndWorker)
    node.send(m.WorkerStays(worker_id(lease.token)))
    assert node.take(m.SpareWorker) == []
    worker = node.logic.pool.by_token(lease.token)
    assert worker is None or worker.state is WorkerState.EXITING


def test_a_full_pool_gives_up_idle_workers_of_other_jobs() -> None:
    node = FakeNode(units(CPU=2), limits=limits(prestart=0, max_workers=2))
    node.request(A, 2, job=b"job1")
    node.give_back(A, *[lease.lease_id for lease in node.granted()])
    node.request(B, 1, job=b"job2")
    assert len(node.granted(B)) == 1


def test_start_that_takes_too_long_is_killed_and_tried_again() -> None:
    node = FakeNode(forks=False, limits=limits(prestart=1, startup_timeout_s=5.0))
    node.send(m.Tick())
    node.send(m.Forked(1, 1001))
    node.advance(5.0)
    (end,) = node.take(m.EndWorker)
    assert end.force
    assert "did not register within 5 s" in (end.cause.message if end.cause else "")
    assert node.forked == [1, 2]


def test_failing_starts_pause_and_those_who_wait_are_told_why() -> None:
    node = FakeNode(forks=False, limits=limits(prestart=0, max_start_failures=3, failure_pause_s=5.0))
    node.request(A, 1)
    for token in (1, 2, 3):
        node.send(m.Forked(token, 0, "cannot fork: no memory"))
    assert node.forked == [1, 2, 3]
    (told,) = node.take(m.TellPending)
    assert told.explanation == "a worker could not be started: cannot fork: no memory"
    node.send(m.ActorWanted(actor_spec(), 1))
    (report,) = [r.report for r in node.take(m.ReportActor)]
    assert (report.event, report.cause.kind) == (Report.DIED, Kind.LAUNCH_FAILED)
    node.advance(5.0)
    assert node.forked == [1, 2, 3, 4]


def test_the_last_words_of_a_failed_start_are_in_its_cause() -> None:
    node = FakeNode(forks=False, limits=limits(prestart=0, max_start_failures=1))
    node.request(A, 1)
    seen = observed(1001, 1, 0, known=True)
    seen.stderr_tail = "Traceback:\nImportError: no module x\n"
    node.send(m.WorkerDied(1, seen))
    (told,) = node.take(m.TellPending)
    assert told.explanation.endswith("exited with code 1: ImportError: no module x")


def test_lost_template_fails_unconfirmed_forks_only() -> None:
    node = FakeNode(forks=False, limits=limits(prestart=2))
    node.send(m.Tick())
    node.start(1)
    node.send(m.TemplateLost("killed"))
    assert [(w.token, w.state) for w in node.logic.pool] == [
        (1, WorkerState.IDLE),
        (3, WorkerState.STARTING),
    ]


def test_registration_needs_the_token_and_its_pid() -> None:
    node = FakeNode(forks=False, limits=limits(prestart=1))
    node.send(m.Tick())
    with pytest.raises(ValueError, match="start token"):
        node.send(m.WorkerJoined(77, node.address(77)))
    node.send(m.Forked(1, 4242))
    with pytest.raises(ValueError, match="pid 4242"):
        node.send(m.WorkerJoined(1, node.address(1)))


def test_announced_exit_gives_the_cause() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.WorkerEnding(worker_id(lease.token), cause(Kind.INTENDED, "max_calls reached")))
    node.die(lease.token, signal=0)
    assert node.take(m.TellLost)[0].cause.message == "max_calls reached"


def test_a_crash_after_the_announcement_is_still_a_crash() -> None:
    node = FakeNode()
    node.request(A, 1)
    (lease,) = node.granted()
    node.send(m.WorkerEnding(worker_id(lease.token), cause(Kind.INTENDED, "max_calls reached")))
    node.die(lease.token, signal=11)
    assert node.take(m.TellLost)[0].cause.kind == Kind.SIGNALED


# ---- actors ----


def reports(node: FakeNode) -> list[gcs_pb2.ActorReport]:
    return [r.report for r in node.take(m.ReportActor)]


def alive(node: FakeNode, spec: gcs_pb2.ActorSpec, incarnation: int = 1) -> int:
    node.send(m.ActorWanted(spec, incarnation))
    (run,) = node.take(m.RunActor)
    node.send(m.ActorReady(worker_id(run.token), spec.actor_id, incarnation, False, FAILED))
    (report,) = reports(node)
    assert report.event == Report.ALIVE
    return run.token


def test_actor_gets_a_fresh_process_and_keeps_its_resources_until_death() -> None:
    node = FakeNode(units(CPU=2), limits=limits(prestart=0))
    node.request(A, 1)
    node.give_back(A, node.granted()[0].lease_id)
    token = alive(node, actor_spec(cpus=1))
    assert token == 2
    assert node.free_cpus() == 1
    node.die(token)
    (report,) = reports(node)
    assert (report.event, report.cause.signal) == (Report.DIED, 11)
    assert node.free_cpus() == 2


def test_actor_without_room_is_reported_back() -> None:
    node = FakeNode(units(CPU=1))
    node.request(A, 1)
    node.send(m.ActorWanted(actor_spec(cpus=1), 1))
    (report,) = reports(node)
    assert report.event == Report.NO_ROOM
    assert "CPU" in report.cause.message


def test_the_same_order_again_changes_nothing_and_a_newer_incarnation_replaces() -> None:
    node = FakeNode(limits=limits(prestart=0))
    spec = actor_spec()
    first = alive(node, spec)
    node.send(m.ActorWanted(spec, 1))
    assert node.take(m.RunActor) == []
    node.send(m.ActorWanted(spec, 2))
    assert [end.token for end in node.take(m.EndWorker)] == [first]
    (run,) = node.take(m.RunActor)
    assert run.incarnation == 2
    assert [(r.incarnation, r.event) for r in reports(node)] == [(1, Report.DIED)]


def test_failed_constructor_is_reported_with_its_error() -> None:
    node = FakeNode(limits=limits(prestart=0))
    spec = actor_spec()
    node.send(m.ActorWanted(spec, 1))
    (run,) = node.take(m.RunActor)
    node.send(m.ActorReady(worker_id(run.token), spec.actor_id, 1, True, FAILED))
    (report,) = reports(node)
    assert (report.event, report.cause.kind) == (Report.DIED, Kind.CREATION_FAILED)


def test_a_stale_incarnation_is_ignored() -> None:
    node = FakeNode(limits=limits(prestart=0))
    spec = actor_spec()
    node.send(m.ActorWanted(spec, 5))
    (run,) = node.take(m.RunActor)
    node.send(m.ActorReady(worker_id(run.token), spec.actor_id, 4, False, FAILED))
    node.send(m.ActorUnwanted(spec.actor_id, 4, False, FAILED))
    assert reports(node) == []
    assert node.take(m.EndWorker) == []


def test_detached_actors_outlive_their_job_and_so_do_their_tasks() -> None:
    node = FakeNode(units(CPU=2), limits=limits(prestart=0))
    node.send(m.DriverJoined(A, b"job1"))
    detached = alive(node, actor_spec("d", b"job1", detached=True))
    plain = alive(node, actor_spec("p", b"job1"))
    node.request(worker_id(detached), 1, job=b"job1")
    (lease,) = node.granted()
    node.send(m.ClientGone(A))
    assert [end.token for end in node.take(m.EndWorker)] == [plain]
    assert node.logic.pool.by_token(lease.token) is not None


def test_truth_for_a_new_gcs_names_running_and_starting_actors() -> None:
    node = FakeNode(limits=limits(prestart=0))
    alive(node, actor_spec("a"))
    node.send(m.ActorWanted(actor_spec("b"), 3))
    truth = {(r.actor_id[:1], r.incarnation, r.event) for r in node.logic.actors.reports()}
    assert truth == {(b"a", 1, Report.ALIVE), (b"b", 3, Report.EVENT_UNSPECIFIED)}


def test_close_ends_everything_and_starts_nothing() -> None:
    node = FakeNode(forks=False, limits=limits())
    node.send(m.Tick())
    node.start(1)
    ended = node.logic.close(cause(Kind.NODE_DIED, "stop"), node.now)
    assert [type(i) for i in ended] == [m.EndWorker, m.EndWorker]
    node.send(m.Tick())
    assert node.forked == [1, 2]
