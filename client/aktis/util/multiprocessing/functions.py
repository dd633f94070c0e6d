"""Functions on their way to a pool's workers: what cannot change is pickled once, and loaded once per worker.

A function of a program is pickled with the globals that it uses, so that it sees them as they are when it is
called. That takes longer than the way there and back. So its pickle is used again as long as nothing in it
can have changed: of functions without closures whose globals and defaults are modules and plain constants.
"""

import builtins
import dis
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from aktis._runtime.pickling import dumps

KEPT: Final = 256
_MISSING: Final = object()
_CONSTANTS: Final = (int, float, complex, str, bytes, bool, type(None), types.ModuleType)
_CHANGES: Final = ("STORE_GLOBAL", "DELETE_GLOBAL")


class Outgoing:
    """What stands for functions in calls. Any thread: two may only do the same work."""

    def __init__(self) -> None:
        """Nothing has been pickled yet."""
        self._known: dict[Callable[..., Any], tuple[list[object], bytes | None]] = {}

    def of(self, function: Callable[..., Any]) -> Callable[..., Any] | bytes:
        """Return what to send for a function: its pickle, or itself if that has to be made for each call."""
        parts = _parts(function)
        if parts is None:
            return function
        known = self._known.get(function)
        if known is None or not _are_same(known[0], parts):
            data = None if _changes_globals(function) else dumps(function)
            known = self._known[function] = (parts, data)
            if len(self._known) > KEPT:
                self._known.pop(next(iter(self._known)), None)
        return function if known[1] is None else known[1]


class Incoming:
    """The functions that a worker has loaded. For one thread."""

    def __init__(self) -> None:
        """None yet."""
        self._loaded: dict[bytes, Callable[..., Any]] = {}

    def function(self, sent: Callable[..., Any] | bytes) -> Callable[..., Any]:
        """Return the function that was sent."""
        if not isinstance(sent, bytes):
            return sent
        function = self._loaded.get(sent)
        if function is None:
            function = self._loaded[sent] = pickle.loads(sent)
            if len(self._loaded) > KEPT:
                del self._loaded[next(iter(self._loaded))]
        return function


def _parts(function: object) -> list[object] | None:
    """Return everything that is pickled with a function, if none of it can change in place; else None."""
    if type(function) is types.BuiltinFunctionType:
        return [] if function.__self__ is builtins else None
    if type(function) is not types.FunctionType or function.__closure__ or function.__dict__:
        return None
    values = [function.__globals__.get(name, _MISSING) for name in _names(function.__code__)]
    values += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
    if not all(value is _MISSING or type(value) in _CONSTANTS for value in values):
        return None
    return [function.__code__, *values]


def _are_same(before: list[object], now: list[object]) -> bool:
    return len(before) == len(now) and all(one is other for one, other in zip(before, now, strict=True))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _names(constant)


def _changes_globals(function: Callable[..., Any]) -> bool:
    """Whether a function leaves something behind in its globals, which the next call is not to find."""
    code = getattr(function, "__code__", None)
    return code is not None and any(step.opname in _CHANGES for step in _instructions(code))


def _instructions(code: types.CodeType) -> Iterator[dis.Instruction]:
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _instructions(constant)
