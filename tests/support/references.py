"""The end of an object as an event with a deadline, in whatever process owns or borrows it."""

import threading
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakSet

import aktis
from aktis import _core
from aktis._runtime import current
from aktis._runtime.service import Service

FREED_TIMEOUT_S: Final = 20.0
_LIMIT: Final = 1_000_000

_events: dict[bytes, threading.Event] = {}
_observed: "WeakSet[Service]" = WeakSet()  # whose events come here


class Freed:
    """Is told when this process lets an object go: as its owner for good, as a borrower its own hold."""

    def __init__(self, ref: aktis.ObjectRef[Any]) -> None:
        """Watch the object of ``ref``, of which no reference is kept."""
        self.object_id = ref.binary()
        self._event = _events.setdefault(self.object_id, threading.Event())
        session = current.require()
        if session.service not in _observed:
            _observed.add(session.service)
            _observe(session.service.on_event)
        session.core.watch_free(ref)

    def wait(self) -> bool:
        """Wait until the object is out of this process's table; False when it stays."""
        return self._event.wait(FREED_TIMEOUT_S) and not is_known(self.object_id)

    @property
    def is_set(self) -> bool:
        """Whether it has gone by now."""
        return self._event.is_set()


def is_known(object_id: bytes) -> bool:
    """Whether this process holds the object, or knows of somebody who does."""
    return any(row["object_id"] == object_id for row in current.require().core.references(_LIMIT))


def _observe(handlers: dict[int, Callable[..., object]]) -> None:
    forward = handlers[_core.EVENT_OBJECT_FREED]

    def on_freed(object_id: bytes) -> None:
        event = _events.pop(object_id, None)
        if event is not None:
            event.set()
        forward(object_id)

    handlers[_core.EVENT_OBJECT_FREED] = on_freed
