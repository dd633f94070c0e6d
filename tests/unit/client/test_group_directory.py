"""Orders about placement groups: what travels together, what is asked again, and what the end waits for."""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from aktis._proto import gcs_pb2, raylet_pb2
from aktis._runtime.control import ATTEMPTS, Control, OnAnswer
from aktis._runtime.errands import Errands
from aktis._runtime.group_directory import MAX_PER_REQUEST, GroupDirectory
from aktis.exceptions import LocalRayletDiedError, TaskPlacementGroupRemoved

UNAVAILABLE = 14
Spec = gcs_pb2.PlacementGroupSpec
Group = gcs_pb2.PlacementGroup
Change = gcs_pb2.PlacementGroupNews.Change


class FakeGcs:
    """Core and control connection in one: remembers what was asked, and answers when told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.failed: list[bytes] = []
        self.completed: list[object] = []
        self.complaints: list[str] = []
        self.events: list[object] = []
        self.was_asked = threading.Event()
        self._answers: list[OnAnswer] = []

    def post_event(self, event: object) -> None:
        self.events.append(event)

    def pending_object(self) -> object:
        return object()

    def complete_object(self, ref: object, value: object) -> None:
        self.completed.append(ref)

    def get(self, refs: list[object], timeout_s: float) -> list[object] | None:
        return refs if all(ref in self.completed for ref in refs) else None

    def notify(self, **message: object) -> None:
        """The subscription."""

    def send_gcs(self, method: str, request: Any, on_answer: OnAnswer, timeout_s: float) -> None:
        self.asked.append((method, request))
        self._answers.append(on_answer)
        self.was_asked.set()

    def answer(self, status: int = 0, *errors: str) -> None:
        """Answer the oldest request."""
        results = [gcs_pb2.CreatePlacementGroupsReply.Result(error=error) for error in errors]
        payload = gcs_pb2.CreatePlacementGroupsReply(results=results).SerializeToString()
        self._answers.pop(0)(raylet_pb2.GcsResult(status=status, payload=payload, error="no answer"))


def directory(gcs: FakeGcs, *, collects: bool = True) -> GroupDirectory:
    made: Callable[..., GroupDirectory] = GroupDirectory
    return made(
        gcs,
        cast(Control, gcs),
        Errands("test"),
        lambda number, error: gcs.failed.append(error),
        gcs.complaints.append,
        collects=collects,
    )


def spec(number: int, name: str = "") -> Spec:
    return Spec(placement_group_id=group_id(number), name=name)


def group_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def test_what_is_removed_and_then_created_is_one_request() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    for number in (1, 2):
        groups.create(spec(number))
    groups.flush()
    for number in (1, 2):
        groups.remove(group_id(number))
    for number in (3, 4):
        groups.create(spec(number))
    groups.remove(group_id(3))
    assert len(gcs.asked) == 1
    groups.flush()
    (_, first), (method, second), (last_method, last) = gcs.asked
    assert not first.remove_first
    assert method == "CreatePlacementGroups"
    assert list(second.remove_first) == [group_id(1), group_id(2)]
    assert [one.placement_group_id for one in second.specs] == [group_id(3), group_id(4)]
    assert last_method == "RemovePlacementGroups"
    assert list(last.placement_group_ids) == [group_id(3)]
    groups.flush()
    assert len(gcs.asked) == 3


def test_orders_are_announced_once_and_sent_when_there_are_many() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    for number in range(MAX_PER_REQUEST):
        assert gcs.asked == []
        groups.create(spec(number + 1))
    assert len(gcs.events) == 1
    assert len(gcs.asked[0][1].specs) == MAX_PER_REQUEST


def test_orders_of_tasks_and_about_names_do_not_wait_for_others() -> None:
    gcs = FakeGcs()
    directory(gcs, collects=False).create(spec(1))
    assert len(gcs.asked) == 1
    groups = directory(gcs)
    groups.remove(group_id(2))  # somebody else's: it may have a name
    assert len(gcs.asked) == 2


def test_an_unanswered_request_is_repeated_a_limited_number_of_times() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.create(spec(1))
    groups.flush()
    for _ in range(ATTEMPTS):
        gcs.answer(UNAVAILABLE)
    assert len(gcs.asked) == ATTEMPTS
    assert all(request == gcs.asked[0][1] for _, request in gcs.asked)
    with pytest.raises(TaskPlacementGroupRemoved, match="could not be created: no answer"):
        groups.wait(group_id(1), 0.0)


def test_a_name_that_is_taken() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)

    def answer() -> None:
        assert gcs.was_asked.wait(10)
        gcs.answer(0, "the name 'a' is taken")

    answering = threading.Thread(target=answer)
    answering.start()
    with pytest.raises(ValueError, match="the name 'a' is taken"):
        groups.create(spec(1, "a"))
    answering.join()


def test_the_end_waits_for_what_was_asked() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.create(spec(1))
    ending = threading.Thread(target=groups.finish, args=(60.0,))
    groups.flush()
    ending.start()
    gcs.answer(UNAVAILABLE)
    gcs.answer(0, "")
    ending.join(10)
    assert not ending.is_alive()


def test_nobody_waits_for_a_raylet_that_is_gone() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.create(spec(1))
    groups.flush()
    groups.raylet_lost(LocalRayletDiedError("gone"))
    groups.finish(60.0)
    groups.confirm(group_id(1))
    for call in (
        lambda: groups.create(spec(2)),
        lambda: groups.remove(group_id(1)),
        lambda: groups.wait(group_id(1), 60.0),
        lambda: groups.ready(group_id(1)),
    ):
        with pytest.raises(LocalRayletDiedError):
            call()
    assert len(gcs.asked) == 1


def test_tasks_of_a_removed_group_fail() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.create(spec(1))
    groups.use(group_id(1), 7)
    assert groups.error_of(7) is None
    groups.heard(Change(placement_group_ids=[group_id(1)], state=Group.REMOVED, removal_reason="r"))
    assert gcs.failed == [groups.error_of(7)]
    groups.use(group_id(1), 8)
    assert gcs.failed == [groups.error_of(7), groups.error_of(8)]


def test_old_news_do_not_undo_what_is_known() -> None:
    """The answer to a question and a publication may overtake one another."""
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.create(spec(1))
    for state in (Group.CREATED, Group.PENDING, Group.PREPARING):
        groups.heard(Change(placement_group_ids=[group_id(1)], state=state))
    assert groups.wait(group_id(1), 0.0)
    groups.heard(Change(placement_group_ids=[group_id(1)], state=Group.RESCHEDULING))
    assert not groups.wait(group_id(1), 0.0)


def test_a_creation_that_is_repeated_leaves_out_what_was_removed_meanwhile() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    for number in (1, 2):
        groups.create(spec(number))
    groups.flush()
    groups.remove(group_id(1))
    groups.flush()
    gcs.answer(UNAVAILABLE)
    method, request = gcs.asked[-1]
    assert method == "CreatePlacementGroups"
    assert [one.placement_group_id for one in request.specs] == [group_id(2)]


def test_a_removal_that_fails_is_told() -> None:
    gcs = FakeGcs()
    groups = directory(gcs)
    groups.remove(group_id(1))
    groups.flush()
    for _ in range(ATTEMPTS):
        assert gcs.complaints == []
        gcs.answer(UNAVAILABLE)
    assert "could not be removed" in gcs.complaints[0]
