"""Runtime environments through the whole node logic: waiting, templates, failures, idleness."""

import pytest
from aktis._common.environments import Environment
from aktis._proto import gcs_pb2
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind
from aktisd.raylet.environments.cache import keys_of
from aktisd.raylet.environments.machine import FAILURE_KEPT_S, TRANSITIONS, EnvironmentLimits, State
from aktisd.raylet.workers import PoolLimits

from tests.support.fake_node import FakeNode, actor_spec, units

A, B = b"client-a", b"client-b"
X, Y = "a" * 32, "b" * 32
HEAVY = Environment(working_dir="package://d", setup_timeout_s=60.0)
LIGHT = Environment(env_vars={"A": "1"})
Report = gcs_pb2.ActorReport


def request(node: FakeNode, client: bytes, wanted: int, environment: str, key: int = 1) -> None:
    node.send(
        m.LeasesRequested(client, key, wanted, units(CPU=1), b"job1", f"f{key}", environment=environment)
    )


def ready(node: FakeNode, name: str, environment: Environment = HEAVY) -> None:
    node.send(m.EnvironmentDescribed(name, environment))
    if environment.needs_template:
        node.send(m.EnvironmentPrepared(name, dict.fromkeys(keys_of(environment), 10)))


def forks(node: FakeNode) -> list[tuple[str, int]]:
    return [(fork.template, len(fork.tokens)) for fork in node.take(m.ForkWorkers)]


def test_every_state_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(State)


def test_leases_wait_for_the_set_up_and_get_workers_of_its_template() -> None:
    node = FakeNode()
    request(node, A, 1, X)
    assert [fetch.name for fetch in node.take(m.FetchEnvironment)] == [X]
    node.send(m.EnvironmentDescribed(X, HEAVY))
    assert [order.environment for order in node.take(m.PrepareEnvironment)] == [HEAVY]
    assert node.granted() == []
    assert forks(node) == []
    node.send(m.EnvironmentPrepared(X, {}))
    assert forks(node) == [(X, 1)]
    (lease,) = node.granted(A)
    assert lease.environment == X


def test_others_are_served_meanwhile() -> None:
    node = FakeNode(units(CPU=1))
    request(node, A, 1, X)
    request(node, B, 1, "")
    assert len(node.granted(B)) == 1


def test_variables_alone_need_no_template_and_no_set_up() -> None:
    node = FakeNode()
    request(node, A, 1, X)
    ready(node, X, LIGHT)
    assert forks(node) == [("", 1)]
    assert len(node.granted(A)) == 1
    assert node.take(m.PrepareEnvironment) == []


@pytest.mark.parametrize("environment", [LIGHT, HEAVY])
def test_a_worker_stays_in_its_environment(environment: Environment) -> None:
    node = FakeNode(units(CPU=1))
    request(node, A, 1, X)
    ready(node, X, environment)
    (first,) = node.granted()
    node.give_back(A, first.lease_id)
    request(node, A, 1, "", key=2)
    (plain,) = node.granted()
    assert plain.token != first.token
    node.give_back(A, plain.lease_id)
    request(node, A, 1, Y, key=3)
    ready(node, Y, environment)
    (other,) = node.granted()
    assert other.token not in (first.token, plain.token)
    node.give_back(A, other.lease_id)
    request(node, A, 1, X, key=1)
    assert node.granted()[0].token == first.token


def test_idle_workers_of_other_environments_make_room_when_the_pool_is_full() -> None:
    node = FakeNode(units(CPU=1), limits=PoolLimits(prestart=1, max_workers=1))
    node.send(m.Tick())
    request(node, A, 1, X)
    ready(node, X)
    (lease,) = node.granted()
    node.give_back(A, lease.lease_id)
    request(node, B, 1, "")
    assert len(node.granted(B)) == 1
    assert len(node.take(m.EndWorker)) == 2


def test_actors_wait_and_get_fresh_workers_of_the_template() -> None:
    node = FakeNode()
    spec = actor_spec()
    spec.runtime_env_hash = X
    node.send(m.ActorWanted(spec, 1))
    node.send(m.ActorWanted(actor_spec("plain"), 1))
    (plain,) = node.take(m.RunActor)
    assert plain.spec.runtime_env_hash == ""
    ready(node, X)
    (run,) = node.take(m.RunActor)
    assert run.spec.runtime_env_hash == X
    assert forks(node) == [("", 1), (X, 1)]


def test_a_failed_set_up_fails_at_once_whoever_waits_and_is_not_tried_again_at_once() -> None:
    node = FakeNode()
    request(node, A, 3, X)
    spec = actor_spec()
    spec.runtime_env_hash = X
    node.send(m.ActorWanted(spec, 1))
    node.send(m.EnvironmentDescribed(X, HEAVY))
    node.send(m.EnvironmentFailed(X, "pip says no"))
    (told,) = node.take(m.TellFailed)
    assert (told.client, told.class_key, told.reason) == (A, 1, "pip says no")
    (report,) = [r.report for r in node.take(m.ReportActor)]
    assert (report.event, report.cause.kind, report.cause.message) == (
        Report.DIED,
        Kind.RUNTIME_ENV_FAILED,
        "pip says no",
    )
    assert node.free_cpus() == 2
    assert node.logic.scheduler.pending() == []
    node.take(m.PrepareEnvironment)
    node.take(m.FetchEnvironment)
    request(node, B, 1, X)
    assert [told.client for told in node.take(m.TellFailed)] == [B]
    assert node.take(m.FetchEnvironment) == []
    node.now += FAILURE_KEPT_S
    request(node, B, 1, X)
    assert node.take(m.TellFailed) == []
    ready(node, X)
    assert len(node.granted(B)) == 1


def test_a_set_up_that_takes_too_long_is_ended() -> None:
    node = FakeNode()
    request(node, A, 1, X)
    node.send(m.EnvironmentDescribed(X, HEAVY))
    assert node.logic.deadline() == node.now + 60.0
    node.advance(59.0)
    assert node.take(m.EndSetup) == []
    node.advance(1.0)
    node.advance(1.0)
    (end,) = node.take(m.EndSetup)
    assert end.reason == "it did not finish within 60 s"
    node.send(m.EnvironmentFailed(X, end.reason))
    assert len(node.take(m.TellFailed)) == 1


def test_a_set_up_that_nobody_wants_any_more_is_ended_and_begins_anew_for_newcomers() -> None:
    node = FakeNode()
    node.send(m.EnvironmentWanted(X, b"job1"))
    node.send(m.EnvironmentDescribed(X, HEAVY))
    node.send(m.JobOver(b"job1", "test"))
    assert len(node.take(m.EndSetup)) == 1
    node.take(m.FetchEnvironment)
    node.send(m.EnvironmentWanted(X, b"job2"))
    node.send(m.EnvironmentFailed(X, "ended"))
    assert len(node.take(m.FetchEnvironment)) == 1
    assert node.take(m.TellFailed) == []


def test_a_template_that_cannot_start_fails_its_environment_only() -> None:
    node = FakeNode(forks=False, limits=PoolLimits(prestart=0, max_workers=8, max_start_failures=2))
    request(node, A, 1, X)
    ready(node, X)
    request(node, B, 1, "")
    for _ in range(2):
        node.send(m.TemplateLost("it ended with exit code 1", X))
    (told,) = node.take(m.TellFailed)
    assert told.client == A
    assert "it ended with exit code 1" in told.reason
    assert [end.name for end in node.take(m.EndTemplate)] == [X]
    for token in list(node.forked):
        if node.logic.pool.by_token(token) is not None:
            node.start(token)
    assert len(node.granted(B)) == 1


def test_the_loss_of_one_template_is_not_the_loss_of_others_forks() -> None:
    node = FakeNode(forks=False)
    request(node, A, 1, X)
    ready(node, X)
    request(node, B, 1, "")
    of_x, plain = node.forked
    node.send(m.TemplateLost("gone", X))
    assert node.logic.pool.by_token(of_x) is None
    assert node.logic.pool.by_token(plain) is not None


def test_an_idle_environment_is_forgotten_with_its_template_and_workers() -> None:
    node = FakeNode(units(CPU=1), limits=PoolLimits(prestart=4, max_workers=8))
    request(node, A, 1, X)
    ready(node, X)
    (lease,) = node.granted()
    idle_s = EnvironmentLimits().idle_timeout_s
    node.advance(idle_s)
    assert node.take(m.EndTemplate) == [], "it is at work"
    node.give_back(A, lease.lease_id)
    deadline = node.logic.deadline()
    assert deadline is not None
    assert deadline <= node.now + idle_s
    node.advance(idle_s)
    assert [end.name for end in node.take(m.EndTemplate)] == [X]
    assert lease.token in [end.token for end in node.take(m.EndWorker)]
    assert node.logic.environments.template(X) is None
    request(node, A, 1, X)
    assert len(node.take(m.FetchEnvironment)) == 2


def test_what_idle_environments_leave_is_removed_beyond_the_limit() -> None:
    node = FakeNode()
    node.logic.environments.cache.found("old", EnvironmentLimits().cache_bytes)
    request(node, A, 1, X)
    ready(node, X)
    assert [order.keys for order in node.take(m.RemoveCached)] == [("old",)]


def test_a_story_says_what_happened() -> None:
    node = FakeNode()
    request(node, A, 1, X)
    node.send(m.EnvironmentDescribed(X, HEAVY))
    node.send(m.EnvironmentFailed(X, "no"))
    texts = [text for _, text in node.logic.environments.story(X)]
    assert texts == ["preparing", "failed: no"]


def test_a_set_up_that_a_detached_actor_waits_for_goes_on_after_its_job() -> None:
    node = FakeNode()
    spec = actor_spec(detached=True)
    spec.runtime_env_hash = X
    node.send(m.ActorWanted(spec, 1))
    node.send(m.EnvironmentDescribed(X, HEAVY))
    node.send(m.JobOver(spec.job_id, "test"))
    assert node.take(m.EndSetup) == []
    node.send(m.EnvironmentPrepared(X, {}))
    assert len(node.take(m.RunActor)) == 1
