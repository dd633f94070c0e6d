"""How the members of a group find each other: a short-lived actor that has the group's name.

Whoever comes first makes it. Each member tells it something and waits until all have; then all get what all
have said. The actor ends with its maker's handle, when everybody has been answered.
"""

import asyncio
import os
import time
from dataclasses import dataclass, field
from typing import Any, Final

import aktis
from aktis.exceptions import ActorDiedError, GetTimeoutError
from aktis.util.collective.errors import CollectiveError, CollectiveTimeoutError

_ANSWER_GRACE_S: Final = 5.0
NAME_PREFIX: Final = "aktis.collective/"


@dataclass(slots=True)
class _Round:
    world_size: int
    said: dict[int, Any] = field(default_factory=dict)
    waiting: dict[int, asyncio.Future[tuple[str, Any]]] = field(default_factory=dict)


class Meeting:
    """Collects one fact per member. Belongs to the actor's event loop; answers are (kind, value)."""

    def __init__(self) -> None:
        self._rounds: dict[str, _Round] = {}

    async def exchange(
        self, stage: str, world_size: int, rank: int, fact: Any, timeout_s: float
    ) -> tuple[str, Any]:
        """Wait until all members of the stage are here; return ("all", (key, facts in order of ranks)).

        The key is random and only these members know it. Otherwise ("missing", ranks) or ("refused", why).
        """
        meeting = self._rounds.setdefault(stage, _Round(world_size))
        if meeting.world_size != world_size:
            return "refused", f"rank {rank} says {world_size} members, another one {meeting.world_size}"
        replaced = meeting.waiting.get(rank)
        if replaced is not None:
            # Perhaps its process has died and this is the next one; if not, it must know.
            replaced.set_result(("refused", f"another process has joined as rank {rank}"))
        answer: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
        meeting.said[rank], meeting.waiting[rank] = fact, answer
        if len(meeting.said) == world_size:
            del self._rounds[stage]
            everything = (os.urandom(16).hex(), [meeting.said[rank] for rank in range(world_size)])
            for waiting in meeting.waiting.values():
                waiting.set_result(("all", everything))
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.shield(answer)
        except TimeoutError:
            if answer.done():  # in the same moment: the others have been told so
                return answer.result()
            missing = sorted(set(range(world_size)) - set(meeting.said))
            if meeting.waiting.get(rank) is answer:
                del meeting.said[rank], meeting.waiting[rank]
                if not meeting.said and self._rounds.get(stage) is meeting:
                    del self._rounds[stage]
            return "missing", missing


class Rendezvous:
    """One member's side; keep it until the last stage is over, because the actor lives as long."""

    def __init__(self, group_name: str, world_size: int, rank: int, timeout_s: float) -> None:
        """Name the group and who this is; nothing is asked for yet."""
        self._group_name = group_name
        self._world_size = world_size
        self._rank = rank
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._actor: Any = None

    def exchange(self, stage: str, fact: Any) -> tuple[str, list[Any]]:
        """Tell the others something and return a key for the next stage and what each has told.

        Raises:
            CollectiveTimeoutError: members are missing; the message names them.
            CollectiveError: the members do not agree on the group.
        """
        while True:
            left_s = self.left_s()
            if self._actor is None:
                self._actor = self._find_or_make()
            call = self._actor.exchange.remote(stage, self._world_size, self._rank, fact, left_s)
            try:
                kind, value = aktis.get(call, timeout=left_s + _ANSWER_GRACE_S)
            except ActorDiedError as error:  # that of an earlier group of this name, or its maker has died
                self._actor = None
                if time.monotonic() < self._deadline_s:
                    continue
                raise self._late("nobody could tell which members are there") from error
            except GetTimeoutError as error:
                raise self._late("the actor in which they meet did not answer") from error
            if kind == "all":
                return value[0], value[1]
            if kind == "missing":
                raise self._late(f"missing ranks: {', '.join(map(str, value)) or 'none'}")
            raise CollectiveError(f"collective group {self._group_name!r} was not made: {value}")

    def left_s(self) -> float:
        """Return how much time there is until the group must be complete."""
        return max(0.0, self._deadline_s - time.monotonic())

    def _find_or_make(self) -> Any:
        options: dict[str, Any] = {"name": NAME_PREFIX + self._group_name, "get_if_exists": True}
        return aktis.remote(num_cpus=0, **options)(Meeting).remote()

    def _late(self, why: str) -> CollectiveTimeoutError:
        return CollectiveTimeoutError(
            f"collective group {self._group_name!r}: not all of its {self._world_size} members have joined "
            f"within {self._timeout_s:g} s ({why}); do all of them call init_collective_group, and do their "
            "actors have the resources to run at the same time?"
        )
