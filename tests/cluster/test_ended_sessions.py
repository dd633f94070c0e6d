"""What a program still holds of a session that has ended: it says so, starts nothing and maps nothing."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import aktis
import numpy as np
import pytest
from aktis.exceptions import ActorHandleNotFoundError, SessionEndedError

from tests.support.clients import embedded
from tests.support.sandbox import own_arenas

pytestmark = pytest.mark.xdist_group("ended_sessions")
STORE_BYTES = 96 << 20
LARGE = 1 << 20


@aktis.remote
class Named:
    def name(self) -> str:
        return "left over"

    async def never(self) -> None:
        await asyncio.Event().wait()


@aktis.remote
def identity(value: Any) -> Any:
    return value


@aktis.remote
def items() -> Iterator[int]:
    yield 1


class Left:
    """What the program still holds."""

    def __init__(self) -> None:
        with embedded(num_cpus=2, object_store_memory=STORE_BYTES):
            self.small = aktis.put(1)
            self.large = aktis.put(np.ones(LARGE))
            self.returned = identity.remote(np.ones(LARGE))
            self.generator = items.remote()
            self.unread = aktis.put(np.ones(LARGE))
            assert aktis.get(self.large).sum() == LARGE
            assert aktis.get(identity.remote(self.returned)).sum() == LARGE
            self.actor: Any = Named.remote()
            self.method: Any = self.actor.name
            self.future: Any = self.actor.never.remote().future()
            assert aktis.get(self.method.remote()) == "left over"
            assert own_arenas()


@pytest.fixture(scope="module")
def left() -> Left:
    return Left()


@pytest.fixture(scope="module", params=[False, True], ids=["no_session", "a_later_session"])
def later(left: Left, request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests without a session, and in a later one."""
    del left
    if request.param:
        with embedded(num_cpus=1):
            yield
    else:
        yield
        assert not aktis.is_initialized(), "a session was started for what belongs to an earlier one"


async def awaited(ref: Any) -> Any:
    return await ref


USES_OF_REFERENCES: dict[str, Callable[[Left], Any]] = {
    "get": lambda left: aktis.get(left.small),
    "get of several": lambda left: aktis.get([left.large, left.unread]),
    "wait": lambda left: aktis.wait([left.small]),
    "wait for a generator": lambda left: aktis.wait([left.generator]),
    "cancel": lambda left: aktis.cancel(left.returned),
    "future": lambda left: left.small.future(),
    "as_future": lambda left: asyncio.run(awaited(left.small)),
    "await": lambda left: asyncio.run(awaited(left.small)),
    "next": lambda left: aktis.get(next(left.generator)),
}
USES_OF_HANDLES: dict[str, Callable[[Left], Any]] = {
    "call": lambda left: left.actor.name.remote(),
    "call of a method held": lambda left: left.method.remote(),
    "kill": lambda left: aktis.kill(left.actor),
}


def test_references_and_handles_map_no_memory(left: Left) -> None:
    """`embedded` looks as well, while they are held: the arena would be left over."""
    assert left.large.hex() != left.unread.hex()
    assert not own_arenas()


def test_an_array_keeps_its_memory_and_nothing_else() -> None:
    with embedded(num_cpus=1, object_store_memory=STORE_BYTES) as context:
        array = aktis.get(aktis.put(np.arange(LARGE)))
        before = own_arenas()
        aktis.shutdown()
        assert own_arenas() == before, context
        assert array.sum() == LARGE * (LARGE - 1) // 2
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
        del array
        assert not own_arenas()


def test_a_future_gets_the_end_of_its_session_as_error(left: Left) -> None:
    assert isinstance(left.future.exception(timeout=30), SessionEndedError)


# Last, because what they use ends with the module.
@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("use", USES_OF_REFERENCES.values(), ids=USES_OF_REFERENCES)
def test_a_reference_says_that_its_session_has_ended(left: Left, use: Callable[[Left], Any]) -> None:
    with pytest.raises(SessionEndedError, match="ended"):
        use(left)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("use", USES_OF_HANDLES.values(), ids=USES_OF_HANDLES)
def test_a_handle_says_that_its_session_has_ended(left: Left, use: Callable[[Left], Any]) -> None:
    with pytest.raises(ActorHandleNotFoundError, match="session of this process that has ended"):
        use(left)


@pytest.mark.parametrize("later", [True], ids=["a_later_session"], indirect=True)
@pytest.mark.usefixtures("later")
def test_nothing_of_an_ended_session_is_sent_in_a_later_one(left: Left) -> None:
    with pytest.raises(SessionEndedError, match="ended"):
        identity.remote(left.small)
    with pytest.raises(TypeError, match=r"session of this process that has ended.*\[0\]"):
        identity.remote([left.small])
    with pytest.raises(TypeError, match="session of this process that has ended"):
        aktis.put({"a": left.actor})
    assert aktis.get(Named.remote().name.remote()) == "left over"
