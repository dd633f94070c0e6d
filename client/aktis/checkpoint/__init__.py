"""Checkpoints of actors: their state in durable storage, saved by itself and loaded when they restart.

    >>> @aktis.remote(max_restarts=-1, checkpoint=Checkpoint("/var/lib/app", every_calls=10))
    ... class Counter: ...

After the constructor of a restarted actor the newest checkpoint is loaded, before the first call. What is
saved is what ``save_checkpoint(self)`` returns and ``load_checkpoint(self, state)`` takes, if the class has
both; else what pickle would take (``__getstate__`` and ``__setstate__``, or ``__dict__``).
"""

import os
from dataclasses import dataclass
from typing import Any

from aktis.checkpoint.store import CheckpointError, CheckpointStore, check_key_and_keep

__all__ = ["Checkpoint", "CheckpointError", "CheckpointStore", "save"]


@dataclass(frozen=True)
class Checkpoint:
    """The actor option ``checkpoint``: where, when and how many.

    Attributes:
        url: A directory of the machine, or a URL that fsspec understands (``s3://bucket/prefix``). All
            nodes on which the actor may restart must reach it.
        every_calls: Save after so many calls, before the last of them is answered: with 1, what a caller has
            been told of survives.
        every_s: Save when so many seconds have passed since the last time and calls have run since.
        keep: How many checkpoints are kept; at least 2 are wise, in case the newest is damaged.
        key: The name of the state below ``url``. Actors with the same key, one after the other, continue the
            same state, also in another cluster. None: this actor's own, which goes when it ends on purpose.

    Raises:
        ValueError: a field has a value that makes no sense.

    With neither ``every_calls`` nor ``every_s`` only `save` saves, and the end of the actor on purpose if
    it has a key. A threaded actor that ends in the middle of other calls is saved as they have left it.
    """

    url: str
    every_calls: int | None = None
    every_s: float | None = None
    keep: int = 2
    key: str | None = None

    def __post_init__(self) -> None:
        if not (os.path.isabs(self.url) or "://" in self.url):
            raise ValueError(f"the url of a checkpoint must be an absolute path or a URL, got {self.url!r}")
        calls = self.every_calls
        if calls is not None and (type(calls) is not int or calls < 1):
            raise ValueError(f"every_calls of a checkpoint must be a positive int, got {calls!r}")
        if self.every_s is not None and not 0 < self.every_s < 1e9:
            raise ValueError(f"every_s of a checkpoint must be positive, got {self.every_s!r}")
        check_key_and_keep(self.key, self.keep)


def save() -> str:
    """Save the actor that this code runs in, now; return the new checkpoint's version.

    In a coroutine the event loop waits for the storage: use ``await
    asyncio.to_thread(aktis.checkpoint.save)`` where nothing else changes the state meanwhile.

    Raises:
        RuntimeError: this code does not run in an actor with the option ``checkpoint``.
        CheckpointError: the storage failed.
    """
    from aktis._runtime import execution

    saver: Any = execution.actor and execution.actor.saver
    if saver is None:
        raise RuntimeError("aktis.checkpoint.save() is for code of actors that have the option 'checkpoint'")
    version: str = saver.save()
    return version
