"""What is stored of an actor comes back, and what is opaque stays apart."""

from aktis._proto import common_pb2, gcs_pb2
from aktisd.gcs.actors.record import TRANSITIONS, Actor, ActorRecord, State

from tests.support.gcs_parts import actor_spec, node_id, process, resources


def record_in(state: "gcs_pb2.Actor.State.ValueType") -> ActorRecord:
    spec = actor_spec(1, name="n", namespace="s", max_restarts=3, resources=resources({"CPU": 0.5}))
    record = ActorRecord.from_spec(spec, 123)
    record.state, record.incarnation, record.restarts, record.ending = state, 4, 2, True
    record.death_cause = common_pb2.DeathCause(kind=common_pb2.DeathCause.EXITED, exit_code=3)
    if state in (Actor.STARTING, Actor.ALIVE):
        record.node_id = node_id(1)
    if state == Actor.ALIVE:
        record.address = process(9)
    return record


def test_every_state_survives_storage() -> None:
    for state in TRANSITIONS:
        record = record_in(state)
        back = ActorRecord.from_stored(record.to_proto().SerializeToString(), record.opaque())
        assert back == record, State.Name(state)


def test_opaque_parts_are_only_in_the_full_spec() -> None:
    record = record_in(Actor.PENDING)
    assert not record.to_proto().spec.creation_task
    assert not record.to_proto().spec.handle
    assert record.full_spec() == actor_spec(
        1, name="n", namespace="s", max_restarts=3, resources=resources({"CPU": 0.5})
    )


def test_snapshot_does_not_change_with_the_record() -> None:
    record = record_in(Actor.ALIVE)
    snapshot = record.to_proto()
    assert record.address is not None
    record.address.pid = 999
    assert snapshot.address.pid == 9


def test_starting_actor_shows_its_node() -> None:
    assert record_in(Actor.STARTING).to_proto().address == common_pb2.ProcessAddress(node_id=node_id(1))


def test_restart_budget() -> None:
    record = record_in(Actor.ALIVE)
    assert not record.may_restart()  # it is ending
    record.ending = False
    assert record.may_restart()
    record.restarts = 3
    assert not record.may_restart()
    record.spec.max_restarts = -1
    assert record.may_restart()


def test_dead_is_final_and_every_state_can_die() -> None:
    assert TRANSITIONS[Actor.DEAD] == frozenset()
    assert all(Actor.DEAD in after for state, after in TRANSITIONS.items() if state != Actor.DEAD)
    assert set(TRANSITIONS) == set(State.values()) - {Actor.STATE_UNSPECIFIED}
