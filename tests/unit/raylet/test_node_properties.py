"""Random histories of a node: nothing is over-allocated, nobody starves, everything comes back."""

from aktis._common.environments import Environment
from aktis._proto import gcs_pb2
from aktisd.raylet import messages as m
from aktisd.raylet.causes import Kind, cause
from aktisd.raylet.environments.cache import keys_of
from aktisd.raylet.scheduler import QUANTUM_S
from aktisd.raylet.workers import PoolLimits, WorkerState
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.fake_node import FakeNode, actor_spec, units, worker_id
from tests.support.gcs_parts import group_id

JOBS = [b"job1", b"job2", b"job3"]
CLIENTS = [(job, b"%s-client%d" % (job, number)) for job in JOBS for number in range(2)]
SHAPES = [units(CPU=1), units(CPU=0.5), units(CPU=3), units(CPU=1, GPU=0.5), units(GPU=1), {}, units(CPU=99)]
TOTAL = units(CPU=4, GPU=2)
ENVIRONMENTS = {
    "": None,
    "a" * 32: Environment(env_vars={"A": "1"}),
    "b" * 32: Environment(working_dir="package://b", setup_timeout_s=20.0),
    "c" * 32: Environment(working_dir="package://b", py_executable="python", setup_timeout_s=0.0),
}
NAMES = list(ENVIRONMENTS)
FIRST_GROUP_KEY = len(NAMES) * len(SHAPES)
"""Scheduling classes from here on draw from a placement group."""

clients = st.sampled_from(CLIENTS)
groups = st.integers(0, 1)
bundles = st.lists(st.sampled_from([1, 2]), min_size=1, max_size=2)


class NodeMachine(RuleBasedStateMachine):
    """``FakeNode.send`` checks all internal tables after every event."""

    def __init__(self) -> None:
        super().__init__()
        self.node = FakeNode(TOTAL, forks=False, limits=PoolLimits(prestart=2, max_workers=12))
        self.held: dict[bytes, dict[int, m.GrantedLease]] = {client: {} for _, client in CLIENTS}
        self.blocked: set[int] = set()
        self.environments: dict[int, str] = {}
        self.actors = 0

    def _absorb(self) -> None:
        for grant in self.node.take(m.Grant):
            for lease in grant.leases:
                of_group = grant.class_key >= FIRST_GROUP_KEY
                assert lease.environment == ("" if of_group else NAMES[grant.class_key // len(SHAPES)])
                taken_on = self.environments.setdefault(lease.token, lease.environment)
                assert taken_on == lease.environment, "a worker stays in its environment"
                assert all(lease.lease_id not in leases for leases in self.held.values())
                self.held[grant.client][lease.lease_id] = lease
        for lost in self.node.take(m.TellLost):
            self.held[lost.client].pop(lost.lease_id, None)

    @rule(
        who=clients,
        shape=st.integers(0, len(SHAPES) - 1),
        wanted=st.integers(0, 6),
        environment=st.sampled_from(["", "", *NAMES]),
    )
    def request(self, who: tuple[bytes, bytes], shape: int, wanted: int, environment: str) -> None:
        job, client = who
        key = NAMES.index(environment) * len(SHAPES) + shape
        event = m.LeasesRequested(client, key, wanted, SHAPES[shape], job, "f", environment=environment)
        self.node.send(event)
        self._absorb()

    @rule(name=st.sampled_from(NAMES[1:]), fails=st.booleans(), data=st.data())
    def set_up_goes_on(self, name: str, fails: bool, data: st.DataObject) -> None:
        environment = ENVIRONMENTS[name]
        assert environment is not None
        if fails:
            event: m.Event = m.EnvironmentFailed(name, "test")
        elif data.draw(st.booleans()):
            event = m.EnvironmentDescribed(name, environment)
        else:
            event = m.EnvironmentPrepared(name, dict.fromkeys(keys_of(environment), 10))
        self.node.send(event)
        self._absorb()

    @rule(who=clients, data=st.data(), failing=st.booleans())
    def give_back(self, who: tuple[bytes, bytes], data: st.DataObject, failing: bool) -> None:
        client = who[1]
        if self.held[client]:
            lease_id = data.draw(st.sampled_from(sorted(self.held[client])))
            lease = self.held[client].pop(lease_id)
            self.blocked.discard(lease.token)
            bad = frozenset({lease_id}) if failing else frozenset()
            self.node.send(m.LeasesReturned(client, (lease_id,), bad))
            self._absorb()

    @rule(who=clients)
    def client_dies(self, who: tuple[bytes, bytes]) -> None:
        client = who[1]
        self.held[client].clear()
        self.node.send(m.ClientGone(client))
        self._absorb()

    @rule(job=st.sampled_from(JOBS))
    def job_ends(self, job: bytes) -> None:
        for owner, client in CLIENTS:
            if owner == job:
                self.held[client].clear()
                self.node.send(m.ClientGone(client))
        self.node.send(m.JobOver(job, "test"))
        self._absorb()

    @precondition(lambda self: any(w.state is WorkerState.STARTING for w in self.node.logic.pool))
    @rule(data=st.data(), fails=st.booleans())
    def fork_completes(self, data: st.DataObject, fails: bool) -> None:
        starting = [w.token for w in self.node.logic.pool if w.state is WorkerState.STARTING]
        token = data.draw(st.sampled_from(starting))
        if fails:
            self.node.send(m.Forked(token, 0, "no memory"))
        else:
            self.node.start(token)
        self._absorb()

    @precondition(lambda self: any(True for _ in self.node.logic.pool))
    @rule(data=st.data())
    def worker_dies(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from([w.token for w in self.node.logic.pool]))
        self.node.die(token)
        self._absorb()

    @precondition(lambda self: any(True for _ in self.node.logic.pool))
    @rule(data=st.data(), blocked=st.booleans())
    def worker_blocks(self, data: st.DataObject, blocked: bool) -> None:
        token = data.draw(st.sampled_from([w.token for w in self.node.logic.pool]))
        self.node.send(m.BlockedChanged(worker_id(token), blocked))
        self._absorb()

    @rule(
        job=st.sampled_from(JOBS),
        detached=st.booleans(),
        cpus=st.sampled_from([0, 1, 2]),
        environment=st.sampled_from(NAMES),
    )
    def actor_wanted(self, job: bytes, detached: bool, cpus: int, environment: str) -> None:
        self.actors += 1
        spec = actor_spec(f"a{self.actors}", job, detached=detached, cpus=cpus)
        spec.runtime_env_hash = environment
        self.node.send(m.ActorWanted(spec, 1))
        self._absorb()

    @precondition(lambda self: self.actors > 0)
    @rule(data=st.data(), graceful=st.booleans())
    def actor_unwanted(self, data: st.DataObject, graceful: bool) -> None:
        spec = actor_spec(f"a{data.draw(st.integers(1, self.actors))}")
        self.node.send(m.ActorUnwanted(spec.actor_id, 0, graceful, cause(Kind.KILLED, "test")))
        self._absorb()

    @rule(number=groups, attempt=st.integers(1, 2), cpus=bundles)
    def bundles_wanted(self, number: int, attempt: int, cpus: list[int]) -> None:
        wanted = {index: units(CPU=amount, GPU=0.5) for index, amount in enumerate(cpus)}
        self.node.send(m.BundlesWanted((group_id(number),), attempt, wanted))
        self._absorb()

    @rule(number=groups, attempt=st.integers(1, 2))
    def bundles_committed(self, number: int, attempt: int) -> None:
        self.node.send(m.BundlesCommitted((group_id(number),), attempt))
        self._absorb()

    @rule(number=groups, attempt=st.integers(0, 2))
    def bundles_unwanted(self, number: int, attempt: int) -> None:
        self.node.send(m.BundlesUnwanted((group_id(number),), attempt, "test"))
        self._absorb()

    @rule(who=clients, number=groups, index=st.integers(-1, 1), wanted=st.integers(0, 3), gpu=st.booleans())
    def request_from_group(
        self, who: tuple[bytes, bytes], number: int, index: int, wanted: int, gpu: bool
    ) -> None:
        job, client = who
        amounts = units(CPU=1, GPU=0.25) if gpu else units(CPU=1)
        key = FIRST_GROUP_KEY + 10 * number + 2 * (index + 1) + gpu
        group = group_id(number)
        self.node.send(
            m.LeasesRequested(client, key, wanted, amounts, job, "f", group=group, bundle_index=index)
        )
        self._absorb()

    @rule(job=st.sampled_from(JOBS), number=groups, index=st.integers(0, 1))
    def actor_wanted_in_group(self, job: bytes, number: int, index: int) -> None:
        self.actors += 1
        spec = actor_spec(f"a{self.actors}", job, cpus=1)
        spec.strategy.placement_group_id = group_id(number)
        self.node.send(m.ActorWanted(spec, 1, index))
        self._absorb()

    @rule(seconds=st.sampled_from([0.01, 0.1, 3.0, 30.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.node.advance(seconds)
        self._absorb()

    @rule(template=st.sampled_from(NAMES))
    def template_dies(self, template: str) -> None:
        self.node.send(m.TemplateLost("killed", template))
        self._absorb()

    @invariant()
    def never_over_allocated(self) -> None:
        ledger = self.node.logic.ledger
        assert ledger.available["GPU"] >= 0
        blocked = any(w.blocked for w in self.node.logic.pool)
        leased = sum(w.allocation is not None for w in self.node.logic.pool)
        assert ledger.available["CPU"] >= -(TOTAL["CPU"] * leased)
        reserved = len(self.node.logic.bundles)
        if not blocked and not leased and not self.node.logic.actors.waiting and not reserved:
            assert dict(ledger.available) == TOTAL

    def teardown(self) -> None:
        for _, client in CLIENTS:
            self.node.send(m.ClientGone(client))
        for number in range(2):
            self.node.send(m.BundlesUnwanted((group_id(number),), 0, "end"))
        for job in JOBS:
            self.node.send(m.JobOver(job, "end"))
        for worker in self.node.logic.pool:
            self.node.die(worker.token, signal=9)
        for number in range(1, self.actors + 1):
            spec = actor_spec(f"a{number}")
            self.node.send(m.ActorUnwanted(spec.actor_id, 0, False, cause(Kind.KILLED, "end")))
        for worker in self.node.logic.pool:
            self.node.die(worker.token, signal=9)
        assert dict(self.node.logic.ledger.available) == TOTAL
        assert self.node.logic.scheduler.pending() == []
        ended = [
            r.report for r in self.node.take(m.ReportActor) if r.report.event != gcs_pb2.ActorReport.ALIVE
        ]
        assert len(ended) >= self.actors, "every actor has come to an end that the GCS knows of"


TestNode = NodeMachine.TestCase
TestNode.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)


def test_no_job_starves_while_others_flood() -> None:
    """Owners that follow AskReclaim: every job gets its turn within a bounded number of task endings."""
    node = FakeNode(units(CPU=2))
    waiting_since: dict[bytes, int] = {}
    held: list[tuple[bytes, int]] = []
    for number in range(8):
        node.request(b"client%d" % number, 1000, job=b"job%d" % number)
        waiting_since[b"client%d" % number] = 0
    longest = 0
    for step in range(400):
        for grant in node.take(m.Grant):
            longest = max(longest, step - waiting_since[grant.client])
            held.extend((grant.client, lease.lease_id) for lease in grant.leases)
            waiting_since[grant.client] = step
        node.advance(QUANTUM_S * 2)
        asked = [ask.client for ask in node.take(m.AskReclaim) if ask.excess]
        for client in asked:
            index = next((i for i, (holder, _) in enumerate(held) if holder == client), None)
            if index is not None:
                node.give_back(*held.pop(index))
    assert len(waiting_since) == 8
    assert longest <= 8
