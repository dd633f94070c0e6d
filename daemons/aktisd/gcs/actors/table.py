"""All actors that are remembered, with the indexes by which they are looked up.

An invariant for each index: names, jobs, placement groups and owners cover exactly the actors that are not
DEAD; nodes those with a process; workers those ALIVE.
"""

from collections import Counter
from collections.abc import Iterator

from aktis._proto import common_pb2

from aktisd.gcs.actors.record import TRANSITIONS, WITH_PROCESS, Actor, ActorRecord, State, StateValue


class ActorTable:
    """Records by id, name, node, process, owner and job."""

    def __init__(self) -> None:
        self._records: dict[bytes, ActorRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        self._by_node: dict[bytes, set[bytes]] = {}
        self._by_owner: dict[bytes, set[bytes]] = {}
        self._by_job: dict[bytes, set[bytes]] = {}
        self._by_group: dict[bytes, set[bytes]] = {}
        self._by_worker: dict[bytes, bytes] = {}
        self._dead: dict[bytes, None] = {}  # oldest first
        self.counts: Counter[StateValue] = Counter()

    def __iter__(self) -> Iterator[ActorRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    @property
    def dead(self) -> int:
        """How many are DEAD."""
        return len(self._dead)

    @property
    def living(self) -> int:
        """How many are not DEAD."""
        return len(self._records) - len(self._dead)

    def get(self, actor_id: bytes) -> ActorRecord | None:
        """Return an actor."""
        return self._records.get(actor_id)

    def named(self, namespace: str, name: str) -> ActorRecord | None:
        """Return the actor that has a name now."""
        actor_id = self._names.get((namespace, name))
        return None if actor_id is None else self._records[actor_id]

    def on_node(self, node_id: bytes) -> list[ActorRecord]:
        """Return the actors with a process on a node."""
        return [self._records[actor_id] for actor_id in self._by_node.get(node_id, ())]

    def of_owner(self, worker_id: bytes) -> list[ActorRecord]:
        """Return the living actors that a process owns, without detached ones, which nobody owns."""
        return [self._records[actor_id] for actor_id in self._by_owner.get(worker_id, ())]

    def owners(self, node_id: bytes) -> set[bytes]:
        """Return the processes of a node that own living actors."""
        # Each set is of one owner, so one of its actors tells where the owner is.
        return {
            worker_id
            for worker_id, owned in self._by_owner.items()
            if self._records[next(iter(owned))].spec.owner.node_id == node_id
        }

    def of_job(self, job_id: bytes) -> list[ActorRecord]:
        """Return the living actors of a job."""
        return [self._records[actor_id] for actor_id in self._by_job.get(job_id, ())]

    def in_group(self, group_id: bytes) -> list[ActorRecord]:
        """Return the living actors of a placement group."""
        return [self._records[actor_id] for actor_id in self._by_group.get(group_id, ())]

    def in_process(self, worker_id: bytes) -> ActorRecord | None:
        """Return the actor that a process is."""
        actor_id = self._by_worker.get(worker_id)
        return None if actor_id is None else self._records[actor_id]

    def add(self, record: ActorRecord) -> None:
        """Enter an actor in whatever state it is."""
        self._records[record.actor_id] = record
        self.counts[record.state] += 1
        if record.state == Actor.DEAD:
            self._dead[record.actor_id] = None
            return
        if record.name_key is not None:
            self._names[record.name_key] = record.actor_id
        if not record.spec.detached:
            self._by_owner.setdefault(record.spec.owner.worker_id, set()).add(record.actor_id)
        self._by_job.setdefault(record.spec.job_id, set()).add(record.actor_id)
        if record.demand.group:
            self._by_group.setdefault(record.demand.group, set()).add(record.actor_id)
        self._enter_process(record)

    def change(
        self,
        record: ActorRecord,
        state: StateValue,
        node_id: bytes = b"",
        address: common_pb2.ProcessAddress | None = None,
    ) -> None:
        """Move an actor to another state, with the place that goes with it: the only way a state changes."""
        if state not in TRANSITIONS[record.state]:
            raise AssertionError(
                f"actor {State.Name(record.state)} -> {State.Name(state)} is not a transition"
            )
        self._leave_process(record)
        self.counts[record.state] -= 1
        self.counts[state] += 1
        record.state, record.node_id, record.address = state, node_id, address
        self._enter_process(record)
        if state == Actor.DEAD:
            self._leave_indexes(record)

    def oldest_dead(self) -> bytes:
        """Return the actor that has been DEAD for longest."""
        return next(iter(self._dead))

    def forget(self, actor_id: bytes) -> None:
        """Drop an actor that is DEAD."""
        del self._dead[actor_id], self._records[actor_id]
        self.counts[Actor.DEAD] -= 1

    def validate(self) -> None:
        """Check the invariants; for tests."""
        living = {record.actor_id for record in self if record.state != Actor.DEAD}
        assert living == self._records.keys() - self._dead.keys()
        assert set().union(*self._by_job.values()) == living
        assert set().union(*self._by_group.values()) == {i for i in living if self._records[i].demand.group}
        assert set().union(*self._by_owner.values()) == {
            i for i in living if not self._records[i].spec.detached
        }
        assert set().union(*self._by_node.values()) == {r.actor_id for r in self if r.state in WITH_PROCESS}
        assert set(self._by_worker.values()) == {r.actor_id for r in self if r.state == Actor.ALIVE}
        assert self._names == {r.name_key: r.actor_id for r in self if r.name_key and r.actor_id in living}
        assert +self.counts == Counter(record.state for record in self)

    def _enter_process(self, record: ActorRecord) -> None:
        if record.state in WITH_PROCESS:
            self._by_node.setdefault(record.node_id, set()).add(record.actor_id)
        if record.state == Actor.ALIVE and record.address is not None:
            self._by_worker[record.address.worker_id] = record.actor_id

    def _leave_process(self, record: ActorRecord) -> None:
        if record.state in WITH_PROCESS:
            _discard(self._by_node, record.node_id, record.actor_id)
        if record.address is not None:
            self._by_worker.pop(record.address.worker_id, None)

    def _leave_indexes(self, record: ActorRecord) -> None:
        if record.name_key is not None:
            del self._names[record.name_key]
        if not record.spec.detached:
            _discard(self._by_owner, record.spec.owner.worker_id, record.actor_id)
        _discard(self._by_job, record.spec.job_id, record.actor_id)
        if record.demand.group:
            _discard(self._by_group, record.demand.group, record.actor_id)
        self._dead[record.actor_id] = None


def _discard(index: dict[bytes, set[bytes]], key: bytes, actor_id: bytes) -> None:
    members = index[key]
    members.remove(actor_id)
    if not members:
        del index[key]
