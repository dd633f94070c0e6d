"""Saves an actor with the option ``checkpoint`` between its calls, and loads it when it restarts.

Its methods are wrapped: a call counts when it ends, however it ends, and is answered after the save that it
causes. A save that fails costs no call; it is said on stderr, and tried again after the next call.
"""

import asyncio
import contextlib
import functools
import inspect
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from aktis._runtime.pickling import dumps
from aktis.checkpoint import Checkpoint, CheckpointError, CheckpointStore

SAVE_NAME: Final = "save_checkpoint"
LOAD_NAME: Final = "load_checkpoint"


class Saver:
    """One actor's; made before its constructor runs. Any thread."""

    def __init__(self, policy: Checkpoint, actor_id: bytes, *, is_async: bool) -> None:
        """Save as ``policy`` says.

        Raises:
            CheckpointError: there is no such storage.
        """
        self._policy = policy
        self._is_async = is_async
        self._store = CheckpointStore(policy.url, policy.key or actor_id.hex(), keep=policy.keep)
        self._instance: Any = None
        self._calls = 0
        self._saved_at_s = time.monotonic()
        # Held while a call of a plain actor runs and while the state is read: the timer comes between calls.
        self._lock = threading.RLock()
        self._armed = False
        self._automatic = policy.every_calls is not None or policy.every_s is not None

    def adopt(self, instance: Any) -> None:
        """Load what there is into a new instance.

        Raises:
            CheckpointError: the storage failed, or no version is whole.
            BaseException: what the class raises when it loads its state.
        """
        self._instance = instance
        missing = object()
        state = self._store.load(default=missing)
        if state is not missing:
            _load_state(instance, state)

    def save(self) -> str:
        """Save now; return the version.

        Raises:
            CheckpointError: the state cannot be pickled, or the storage failed.
        """
        with self._lock:
            calls, saved_at_s = self._calls, self._saved_at_s
            self._calls, self._saved_at_s = 0, time.monotonic()
            try:
                return self._store.save_pickled(self._pickled())
            except BaseException:
                self._calls += calls
                self._saved_at_s = saved_at_s
                raise

    def _pickled(self) -> bytes:
        try:
            return dumps(_state_of(self._instance))
        except Exception as error:
            name = type(self._instance).__qualname__
            raise CheckpointError(f"the state of actor {name} cannot be pickled: {error}") from error

    def wrap(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the method with what a call causes: of the same kind, coroutine or generator."""
        if not self._automatic:
            return method
        if inspect.isasyncgenfunction(method):
            return functools.wraps(method)(functools.partial(_items, self, method))
        if inspect.iscoroutinefunction(method):
            return functools.wraps(method)(functools.partial(_awaited, self, method))

        @functools.wraps(method)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self.call():
                return method(*args, **kwargs)

        @functools.wraps(method)
        def run_items(*args: Any, **kwargs: Any) -> Any:
            with self.call():
                yield from method(*args, **kwargs)

        return run_items if inspect.isgeneratorfunction(method) else run

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """A call of a plain actor, or of an async one up to where it first awaits something."""
        with self._lock:
            try:
                yield
            finally:
                self.ended()

    def ended(self) -> None:
        """A call has ended: save if it is time to."""
        self._calls += 1
        policy = self._policy
        waited_s = time.monotonic() - self._saved_at_s
        enough_calls = policy.every_calls is not None and self._calls >= policy.every_calls
        if enough_calls or (policy.every_s is not None and waited_s >= policy.every_s):
            self._try()
        elif policy.every_s is not None and not self._armed:
            self._arm(policy.every_s - waited_s)

    def _arm(self, delay_s: float) -> None:
        self._armed = True
        if self._is_async:  # the state belongs to the loop
            asyncio.get_running_loop().call_later(delay_s, self._time_is_up)
            return
        timer = threading.Timer(delay_s, self._time_is_up)
        timer.daemon = True
        timer.start()

    def _time_is_up(self) -> None:
        with self._lock:
            self._armed = False
            if self._calls:
                self._try()

    def _try(self) -> None:
        try:
            self.save()
        except CheckpointError as error:
            print(f"aktis: {error}; it is tried again after the next call", file=sys.stderr)

    def end(self) -> None:
        """The actor ends on purpose and does not come back; only its key can be of use to somebody."""
        if self._instance is None:
            return
        try:
            if self._policy.key is None:
                self._store.clear()
            else:
                self.save()
        except CheckpointError as error:
            print(f"aktis: {error}", file=sys.stderr)


async def _awaited(saver: Saver, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        return await method(*args, **kwargs)
    finally:
        saver.ended()


async def _items(saver: Saver, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    try:
        async for item in method(*args, **kwargs):
            yield item
    finally:
        saver.ended()


def _state_of(instance: Any) -> Any:
    if hasattr(instance, SAVE_NAME) and hasattr(instance, LOAD_NAME):
        return getattr(instance, SAVE_NAME)()
    return instance.__getstate__()


def _load_state(instance: Any, state: Any) -> None:
    if hasattr(instance, SAVE_NAME) and hasattr(instance, LOAD_NAME):
        getattr(instance, LOAD_NAME)(state)
    elif hasattr(instance, "__setstate__"):
        instance.__setstate__(state)
    elif state is not None:
        own, slots = state if isinstance(state, tuple) else (state, None)
        vars(instance).update(own or {})
        for name, value in (slots or {}).items():
            setattr(instance, name, value)
