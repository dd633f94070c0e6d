"""What a call of an async actor needs of the object store: arguments, and room for its results.

Both may take long, and the event loop must go on meanwhile: what is not at hand is awaited.
"""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aktis._core import ObjectRef, Task, Unfinished, send_item
from aktis._runtime.session import Session

MAX_THREADS: Final = 8
"""Results that wait for room do so in order, so that more threads would not help."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class CoroutineStore:
    """Belongs to the event loop of one actor.

    Calls of one caller begin in the order in which they were made (within a concurrency group), although
    the arguments of an earlier one may take longer: a call waits for the *turn* of the one before.
    """

    def __init__(self, session: Session, *, in_order: bool) -> None:
        self._core = session.core
        self._watchers = session.watchers
        self._timeout_s = session.fetch_timeout_s
        self._in_order = in_order
        self._last_turns: dict[tuple[bytes, str], asyncio.Future[None]] = {}
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="aktis-store")

    async def load_args(self, task: Task, group: str) -> Arguments:
        """Return the arguments; the caller must begin the call without awaiting anything before.

        Raises:
            ObjectFetchTimedOutError: one in shared memory did not come in time.
        """
        refs = task.argument_refs()
        if not refs and not self._last_turns:
            return task.load_args(wait=False)
        key = (task.owner_worker_id, group)
        before = self._last_turns.get(key) if self._in_order else None
        pending = self._watchers.begin(refs)
        if pending or before is not None:
            turn = self._last_turns[key] = asyncio.get_running_loop().create_future()
            try:
                await self._fetch(pending)
                if before is not None:
                    await asyncio.wait([before])
            finally:
                self._pass_on(key, turn, before)
        return task.load_args(wait=False)  # what `refs` hold is here, or is what the error is about

    def _pass_on(
        self, key: tuple[bytes, str], turn: "asyncio.Future[None]", before: "asyncio.Future[None] | None"
    ) -> None:
        if before is not None and not before.done():  # we were cancelled; who comes next still is not first
            before.add_done_callback(lambda _: self._pass_on(key, turn, None))
            return
        turn.set_result(None)
        if self._last_turns.get(key) is turn:
            del self._last_turns[key]

    async def _fetch(self, pending: "list[tuple[ObjectRef[Any], Any]]") -> None:
        limit_s = self._timeout_s if self._timeout_s >= 0 else None
        while pending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._watchers.end(pending)
            # What has been lost and is computed again takes as long as that does.
            awaited = any(self._core.awaits_owner(ref) for ref, _ in pending)
            pending = self._watchers.begin(ref for ref, _ in pending) if awaited else []

    async def finish(self, task: Task, values: tuple[Any, ...]) -> None:
        """Store the results and send the reply. Once begun it is not cancelled any more.

        Raises:
            ObjectStoreFullError: there was no room for one in time; none is stored.
        """
        unfinished = self._core.finish(task, values, wait=False)
        if not isinstance(unfinished, bool):
            await self._complete(unfinished)

    async def send_item(self, task: Task, item: Any) -> bool:
        """Send an item of a generator; return whether that may go on, else its consumer lags.

        Raises:
            ObjectStoreFullError: there was no room for it in time.
        """
        sent = send_item(task, item, wait=False)
        if isinstance(sent, bool):
            return sent
        room, cancelled = await self._complete(sent)
        if cancelled:
            raise asyncio.CancelledError
        return room

    async def _complete(self, unfinished: Unfinished) -> tuple[bool, bool]:
        """Store on a thread and send, to the end; return what sending did, and whether we were cancelled."""
        cancelled = False
        stored = asyncio.get_running_loop().run_in_executor(self._threads, unfinished.store)
        while not stored.done():
            try:
                await asyncio.wait([stored])
            except asyncio.CancelledError:
                cancelled = True
        stored.result()
        return unfinished.send(), cancelled
