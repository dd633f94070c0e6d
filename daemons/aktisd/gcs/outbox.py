"""Write before acknowledge: lets the effects of a step out when its writes are durable, in order.

All steps of one turn of the event loop share their effects and become one batch of storage; the writer
thread groups the batches that wait. A batch without writes still waits for those before it: what it shows may
rest on them.

Early messages leave at the end of the turn. What they ask for is answered soon, as a rule, and the answer
changes what was to be stored: the batch is held for it, so that both turns are stored once and let out
together. The next turn ends that, whatever it is about, or a moment without one.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from aktis._proto import gcs_pb2

from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.storage.interface import StorageError
from aktisd.gcs.storage.writer import StorageWriter

Released = Callable[[StorageError | None], None]
HOLD_S = 0.005
"""Who waits for a batch waits that much longer at most."""


@dataclass(slots=True)
class Batch:
    """One turn of the loop, and the one after if it was held."""

    effects: Effects
    first: list[Callable[[], None]] = field(default_factory=list)
    """Run before anything of the batch is let out."""
    last: list[Released] = field(default_factory=list)
    """Run afterwards, or with the error if the batch could not be stored."""
    size_bytes: int = 0
    held: asyncio.TimerHandle | None = None
    stored: bool = False


class Outbox:
    """Belongs to the event loop.

    Args:
        settle: completes the effects of a turn.
        advance: sends an early message if its node is there to answer it, else says that it did not.
        release: lets effects out.
        details: see `Effects.details`.
    """

    def __init__(
        self,
        writer: StorageWriter,
        unwritten_limit_bytes: int,
        settle: Callable[[Effects], None],
        advance: Callable[[bytes, gcs_pb2.NodeDown], bool],
        release: Callable[[Effects], None],
        *,
        details: bool = True,
    ) -> None:
        self._writer = writer
        self._limit_bytes = unwritten_limit_bytes
        self._settle = settle
        self._advance = advance
        self._release = release
        self._details = details
        self._loop = asyncio.get_running_loop()
        self._current: Batch | None = None
        self._turn_will_end = False
        self._waiting: deque[Batch] = deque()  # bounded by _limit_bytes; in the order of release
        self.unwritten_bytes = 0
        self.failed: asyncio.Future[StorageError] = self._loop.create_future()
        """Set when storage has failed for good: the process must end."""

    def step(self) -> Effects:
        """Return where a step that happens now puts its effects."""
        effects = self._batch().effects
        effects.catch_up()
        return effects

    def before(self, callback: Callable[[], None]) -> None:
        """Call back right before the effects of this turn are let out; not at all when they never are."""
        self._batch().first.append(callback)

    def after(self, callback: Released) -> None:
        """Call back right after the effects of this turn are let out, or with the error."""
        self._batch().last.append(callback)

    def check_room(self) -> None:
        """Refuse a request while too much waits for storage.

        Raises:
            RequestError: RESOURCE_EXHAUSTED.
        """
        if self.unwritten_bytes > self._limit_bytes:
            raise RequestError(
                Status.RESOURCE_EXHAUSTED,
                f"{self.unwritten_bytes} bytes wait for the storage of the GCS: try again later, "
                "and look at its disk or Redis if this lasts",
            )

    def flush(self) -> None:
        """End the turn now, and what is held for it."""
        if self._current is not None:
            self._send_early(self._current)
            self._commit(self._current)

    def _end_turn(self) -> None:
        self._turn_will_end = False
        batch = self._current
        if batch is None:
            return
        was_held = batch.held is not None
        if self._send_early(batch) and not was_held:
            batch.held = self._loop.call_later(HOLD_S, self.flush)
            self._loop.call_soon(self._catch_up, batch)  # after the streams have written
        else:
            self._commit(batch)

    def _send_early(self, batch: Batch) -> bool:
        """Settle the turn; return whether it has asked for what will be answered."""
        self._settle(batch.effects)
        early = batch.effects.take_early()
        late = [message for message in early if not self._advance(*message)]
        batch.effects.messages += late
        return len(early) > len(late)

    def _catch_up(self, batch: Batch) -> None:
        if batch.effects.catch_up():
            self._settle(batch.effects)

    def _commit(self, batch: Batch) -> None:
        self._catch_up(batch)
        batch.effects.messages += batch.effects.take_early()  # of what has just been caught up with
        self._current = None
        if batch.held is not None:
            batch.held.cancel()
        self._waiting.append(batch)
        writes = batch.effects.rows()
        if not writes:
            self._stored(batch, None)
            return
        batch.size_bytes = sum(len(key) + len(value or b"") for (_, key), value in writes.items())
        self.unwritten_bytes += batch.size_bytes
        self._writer.commit(writes, lambda error: self._stored(batch, error))

    def _batch(self) -> Batch:
        if self._current is None:
            self._current = Batch(Effects(details=self._details))
        if not self._turn_will_end:
            self._turn_will_end = True
            self._loop.call_soon(self._end_turn)
        return self._current

    def _stored(self, batch: Batch, error: StorageError | None) -> None:
        batch.stored = True
        self.unwritten_bytes -= batch.size_bytes
        if error is not None and not self.failed.done():
            self.failed.set_result(error)
        while self._waiting and self._waiting[0].stored:
            self._let_out(self._waiting.popleft())

    def _let_out(self, batch: Batch) -> None:
        error = self.failed.result() if self.failed.done() else None
        if error is None:
            for callback in batch.first:
                callback()
            self._release(batch.effects)
        for done in batch.last:
            done(error)
