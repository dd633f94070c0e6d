"""Advice for programs that work but could do better: each once, at the line that it is about."""

import sys
import threading
import warnings
import weakref
from dataclasses import dataclass
from typing import Any, Final

from aktis._runtime.pickling import dumps, members
from aktis.exceptions import AktisWarning

LARGE_EXPORT_BYTES: Final = 10 << 20
REPEATED_BYTES: Final = 10 << 20
"""How much of one object must have been stored again, at least, ..."""
REPEATED_CALLS: Final = 3
"""... and by how many calls."""
_MAX_KNOWN: Final = 1_000
_MIB: Final = 1 << 20


class Advice:
    """What one session has advised already. Any thread."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self._said: set[tuple[str, str]] = set()
        self._passed: dict[tuple[str, str], _Passed] = {}

    def once(self, topic: str, about: str, message: str) -> None:
        """Warn unless this has been said."""
        with self._lock:
            if (topic, about) in self._said or len(self._said) >= _MAX_KNOWN:
                return
            self._said.add((topic, about))
        warnings.warn(message, AktisWarning, stacklevel=_depth_of_program())

    def exported(self, what: str, value: object, size_bytes: int) -> None:
        """A function or class was pickled for the workers."""
        if size_bytes < LARGE_EXPORT_BYTES:
            return
        self.once(
            "export",
            what,
            f"{what} takes {size_bytes / _MIB:.0f} MiB when pickled{largest_member(value)}. Every worker "
            "that runs it loads that: put() the data once and pass the reference as an argument.",
        )

    def large_argument(self, function: str, name: str, value: object, size_bytes: int) -> None:
        """An argument of a call was so large that it was stored as an object of its own."""
        try:
            seen = weakref.ref(value)
        except TypeError:  # lists and the like cannot be told from others that come to their place
            return
        with self._lock:
            known = self._passed.get((function, name))
            if known is None or known.value() is not value:
                if known is None and len(self._passed) >= _MAX_KNOWN:
                    return
                known = self._passed[function, name] = _Passed(seen)
            known.calls += 1
            if known.calls < REPEATED_CALLS or known.calls * size_bytes < REPEATED_BYTES:
                return
        self.once(
            "argument",
            f"{function} {name}",
            f"the same {type(value).__qualname__} of {size_bytes / _MIB:.1f} MiB is argument {name} of "
            f"{known.calls} calls of {function}, and each call has stored it anew: ref = aktis.put(value) "
            "once, and pass ref.",
        )

    def blocks_loop(self, function: str) -> None:
        """A coroutine of an async actor is about to wait in ``get`` or ``wait``."""
        instead = "`await ref`, or asyncio.gather(*refs)" if function == "get" else "asyncio.wait"
        self.once(
            "loop",
            function,
            f"{function}() in an async actor holds up its event loop, and with it every other call, until "
            f"the objects are there: use {instead} instead.",
        )


@dataclass(slots=True)
class _Passed:
    value: "weakref.ref[Any]"
    calls: int = 0


def largest_member(value: object) -> str:
    """Say which part of something large is the large one; empty when it is none in particular."""
    sizes: list[tuple[int, str]] = []
    for step, member in members(value):
        try:
            sizes.append((len(dumps(member)), step.removeprefix(" -> ")))
        except Exception:  # it is not pickled either, or not by itself
            continue
    size_bytes, step = max(sizes, default=(0, ""))
    return f", of which {step} takes {size_bytes / _MIB:.0f} MiB" if size_bytes >= _MIB else ""


def _depth_of_program() -> int:
    """How far up the first frame is that is not ours, for ``stacklevel`` of who calls this."""
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__", "")).startswith("aktis."):
        depth, frame = depth + 1, frame.f_back
    return depth
