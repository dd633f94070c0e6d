"""All placement groups that are remembered, with the indexes by which they are looked up.

Names, jobs and nodes cover exactly the groups that are not REMOVED.
"""

from collections import Counter
from collections.abc import Iterator

from aktisd.gcs.placement_groups.record import TRANSITIONS, Group, GroupRecord, Place, State, StateValue


class GroupTable:
    """Records by id, name, job and node."""

    def __init__(self) -> None:
        self._records: dict[bytes, GroupRecord] = {}
        self._names: dict[tuple[str, str], bytes] = {}
        self._by_job: dict[bytes, set[bytes]] = {}
        self._by_node: dict[bytes, set[bytes]] = {}
        self._removed: dict[bytes, None] = {}  # oldest first
        self.counts: Counter[StateValue] = Counter()

    def __iter__(self) -> Iterator[GroupRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    @property
    def removed(self) -> int:
        """How many are REMOVED."""
        return len(self._removed)

    @property
    def living(self) -> int:
        """How many are not."""
        return len(self._records) - len(self._removed)

    def get(self, group_id: bytes) -> GroupRecord | None:
        """Return a group."""
        return self._records.get(group_id)

    def named(self, namespace: str, name: str) -> GroupRecord | None:
        """Return the group that has a name now."""
        group_id = self._names.get((namespace, name))
        return None if group_id is None else self._records[group_id]

    def of_job(self, job_id: bytes) -> list[GroupRecord]:
        """Return the living groups that a job created."""
        return [self._records[group_id] for group_id in self._by_job.get(job_id, ())]

    def on_node(self, node_id: bytes) -> list[GroupRecord]:
        """Return the groups with bundles on a node, prepared ones included."""
        return [self._records[group_id] for group_id in self._by_node.get(node_id, ())]

    def add(self, record: GroupRecord) -> None:
        """Enter a group in whatever state it is."""
        self._records[record.group_id] = record
        self.counts[record.state] += 1
        if record.state == Group.REMOVED:
            self._removed[record.group_id] = None
            return
        if record.name_key is not None:
            self._names[record.name_key] = record.group_id
        self._by_job.setdefault(record.spec.job_id, set()).add(record.group_id)
        for node_id in record.nodes():
            self._by_node.setdefault(node_id, set()).add(record.group_id)

    def change(self, record: GroupRecord, state: StateValue) -> None:
        """Move a group to another state: the only way a state changes."""
        if state not in TRANSITIONS[record.state]:
            raise AssertionError(
                f"placement group {State.Name(record.state)} -> {State.Name(state)} is not a transition"
            )
        self.counts[record.state] -= 1
        self.counts[state] += 1
        record.state = state
        if state == Group.REMOVED:
            self._leave(record)

    def place(self, record: GroupRecord, index: int, node_id: bytes = b"", attempt: int = 0) -> None:
        """Say where a bundle is: the only way that changes."""
        old = record.places[index].node_id
        record.places[index] = Place(node_id, attempt)
        if old and old not in record.nodes():
            _discard(self._by_node, old, record.group_id)
        if node_id:
            self._by_node.setdefault(node_id, set()).add(record.group_id)

    def oldest_removed(self) -> bytes:
        """Return the group that has been REMOVED for longest."""
        return next(iter(self._removed))

    def forget(self, group_id: bytes) -> None:
        """Drop a group that is REMOVED."""
        del self._removed[group_id], self._records[group_id]
        self.counts[Group.REMOVED] -= 1

    def validate(self) -> None:
        """Check the invariants; for tests."""
        living = {record.group_id for record in self if record.state != Group.REMOVED}
        assert living == self._records.keys() - self._removed.keys()
        assert set().union(*self._by_job.values()) == living
        assert self._names == {r.name_key: r.group_id for r in self if r.name_key and r.group_id in living}
        at = {(node, r.group_id) for r in self if r.group_id in living for node in r.nodes()}
        assert at == {(node, group) for node, groups in self._by_node.items() for group in groups}
        assert +self.counts == Counter(record.state for record in self)

    def _leave(self, record: GroupRecord) -> None:
        if record.name_key is not None:
            del self._names[record.name_key]
        _discard(self._by_job, record.spec.job_id, record.group_id)
        for node_id in record.nodes():
            _discard(self._by_node, node_id, record.group_id)
        self._removed[record.group_id] = None


def _discard(index: dict[bytes, set[bytes]], key: bytes, group_id: bytes) -> None:
    members = index[key]
    members.remove(group_id)
    if not members:
        del index[key]
