"""What becomes of calls to actors that the GCS does not know; the rest is tested with real actors."""

from collections.abc import Callable
from typing import Any

import pytest
from aktis._proto import gcs_pb2
from aktis._runtime.actor_directory import ActorDirectory
from aktis._runtime.errors import decode_error
from aktis.exceptions import ActorDiedError, OwnerDiedError

ACTOR = b"a" * 16


class FakeLife:
    """The reference to the object that an actor's handles share."""

    value: bytes | Exception | None = None

    def binary(self) -> bytes:
        return b"l" * 20


class FakeCore:
    def __init__(self) -> None:
        self.failed: list[BaseException] = []

    def pending_object(self) -> FakeLife:
        return FakeLife()

    def watch_free(self, life: FakeLife) -> None:
        pass

    def complete_object(self, life: FakeLife, value: bytes) -> None:
        assert life.value is None
        life.value = value

    def get(self, lives: list[FakeLife], timeout_s: float) -> list[bytes]:
        (life,) = lives
        assert life.value is not None
        if isinstance(life.value, Exception):
            raise life.value
        return [life.value]

    def actor_pause(self, actor_id: bytes) -> None:
        pass

    def actor_fail(self, actor_id: bytes, error: bytes, text: str) -> None:
        self.failed.append(decode_error(error))


class FakeControl:
    def __init__(self) -> None:
        self.actors: dict[bytes, gcs_pb2.Actor] = {}

    def actor(self, actor_id: bytes) -> gcs_pb2.Actor | None:
        return self.actors.get(actor_id)

    def notify(self, **message: object) -> None:
        pass


class FakeWatchers:
    def __init__(self) -> None:
        self.waiting: list[Callable[[], object]] = []

    def add(self, life: FakeLife, waiter: Callable[[], object]) -> bool:
        if life.value is None:
            self.waiting.append(waiter)
        return life.value is not None


class AtOnce:
    def run(self, errand: Callable[[], object]) -> None:
        errand()


class Process:
    """The directory of one process and what it is connected to."""

    def __init__(self, control: FakeControl) -> None:
        self.core, self.watchers = FakeCore(), FakeWatchers()
        parts: Any = (self.core, control, self.watchers, AtOnce(), AtOnce())
        self.directory = ActorDirectory(*parts)

    def life_is_there(self) -> None:
        for waiter in self.watchers.waiting:
            waiter()

    def death(self) -> str:
        (error,) = self.core.failed
        assert isinstance(error, ActorDiedError)
        return str(error)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


@pytest.fixture
def here(control: FakeControl) -> Process:
    return Process(control)


@pytest.fixture
def creator(control: FakeControl) -> Process:
    return Process(control)


def pending() -> gcs_pb2.Actor:
    return gcs_pb2.Actor(spec=gcs_pb2.ActorSpec(actor_id=ACTOR), state=gcs_pb2.Actor.PENDING)


@pytest.mark.parametrize("detached", [False, True])
def test_who_knows_it_from_its_creator_hears_that_it_was_not_created(
    here: Process, creator: Process, detached: bool
) -> None:
    life: Any = creator.directory.new_life(ACTOR, detached=detached)
    creator.directory.track(ACTOR, life, created_here=True)
    here.directory.track(ACTOR, life)
    assert not here.core.failed
    creator.directory.fail_creation(ACTOR, ValueError("its argument is gone"))
    here.life_is_there()
    for process in (creator, here):
        assert "its argument is gone" in process.death()
    assert creator.directory.is_life(life.binary()) is not detached


def test_one_that_is_created_later_lives(here: Process, creator: Process, control: FakeControl) -> None:
    life: Any = creator.directory.new_life(ACTOR)
    here.directory.track(ACTOR, life)
    control.actors[ACTOR] = pending()
    life.value = b""
    here.life_is_there()
    assert not here.core.failed


def test_one_that_was_created_and_is_unknown_has_been_forgotten(here: Process) -> None:
    life: Any = FakeLife()
    life.value = b""
    here.directory.track(ACTOR, life)
    assert "forgotten" in here.death()


def test_one_without_a_life_was_known_when_its_handle_was_made(here: Process) -> None:
    here.directory.track(ACTOR)
    assert "forgotten" in here.death()


def test_nobody_creates_it_when_its_creator_is_dead(here: Process) -> None:
    life: Any = FakeLife()
    here.directory.track(ACTOR, life)
    life.value = OwnerDiedError("the process is dead")
    here.life_is_there()
    assert "the process that created it died" in here.death()


def test_one_that_was_forgotten_while_publications_were_missed_is_dead(
    here: Process, control: FakeControl
) -> None:
    life: Any = FakeLife()
    control.actors[ACTOR] = pending()
    here.directory.track(ACTOR, life)
    here.directory.resynchronize()
    assert not here.core.failed
    del control.actors[ACTOR]
    here.directory.resynchronize()
    assert "forgotten" in here.death()


def test_one_that_is_still_to_be_created_is_not_dead_because_publications_were_missed(here: Process) -> None:
    life: Any = FakeLife()
    here.directory.track(ACTOR, life)
    here.directory.track(b"b" * 16, life, created_here=True)
    here.directory.resynchronize()
    assert not here.core.failed


def test_one_that_becomes_known_while_the_cluster_is_asked_is_not_dead(
    here: Process, control: FakeControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    life: Any = here.directory.new_life(ACTOR)
    here.directory.track(ACTOR, life, created_here=True)

    def too_early(actor_id: bytes) -> None:
        here.directory.heard(pending())

    monkeypatch.setattr(control, "actor", too_early)
    here.directory.resynchronize()
    assert not here.core.failed


def test_what_is_published_about_actors_of_others_is_not_kept(here: Process) -> None:
    here.directory.track(ACTOR, created_here=True)
    for actor_id in (ACTOR, b"b" * 16):
        here.directory.heard(gcs_pb2.Actor(spec=gcs_pb2.ActorSpec(actor_id=actor_id)))
    assert list(here.directory._last) == [ACTOR]
