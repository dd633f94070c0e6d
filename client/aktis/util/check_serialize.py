"""Why a value cannot be sent to other processes: which of its members are at fault."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TextIO

from aktis._runtime.pickling import dumps, is_picklable, members

_MEMBERS_LIMIT: Final = 10_000


@dataclass(frozen=True, eq=False)
class FailureTuple:
    """A member that cannot be serialized.

    Attributes:
        obj: The member.
        path: How to get there, beginning with the name of the value that was inspected.
        parent: The value that it is a member of.
    """

    obj: Any
    path: tuple[str, ...]
    parent: Any

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path[-1]

    def __repr__(self) -> str:
        return f"FailureTuple({''.join(self.path)}: {_short(self.obj)})"


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Find out whether a value can be sent to other processes, and what in it is at fault if not.

    Looks into containers, attributes, and what functions and classes bring along. A report is printed.

    Args:
        base_obj: The value.
        name: What to call it in the report.
        depth: How many levels to look into.
        print_file: Where the report goes; default: standard output.

    Returns:
        Whether it can be serialized, and the members that cannot, as deep as they were found.

    Example:
        >>> import threading
        >>> lock = threading.Lock()
        >>> serializable, failures = inspect_serializability({"a": 1, "guard": lock}, name="settings")
        settings cannot be serialized: cannot pickle '_thread.lock' object
          settings['guard'] is at fault: <unlocked _thread.lock object at 0x...>
        Make these inside of the task or actor instead, or leave them out with __getstate__ or __reduce__.
        >>> serializable, {failure.path for failure in failures}
        (False, {('settings', "['guard']")})
    """
    file = print_file or sys.stdout
    label = name or getattr(base_obj, "__qualname__", None) or type(base_obj).__name__
    reason = _why_not(base_obj)
    if reason is None:
        print(f"{label} can be serialized", file=file)
        return True, set()
    failures = {id(failure.obj): failure for failure in _Search(depth).failures(base_obj, (label,), None)}
    print(f"{label} cannot be serialized: {reason}", file=file)
    for failure in failures.values():
        print(f"  {''.join(failure.path)} is at fault: {_short(failure.obj)}", file=file)
    print(
        "Make these inside of the task or actor instead, or leave them out with __getstate__ or __reduce__.",
        file=file,
    )
    return False, set(failures.values())


class _Search:
    """One walk through a value; looks at nothing twice and at no more than a bounded number of members."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._seen: set[int] = set()
        self._budget = _MEMBERS_LIMIT

    def failures(self, value: Any, path: tuple[str, ...], parent: Any) -> Iterator[FailureTuple]:
        """Yield the innermost members of ``value``, which cannot be serialized, that cannot be either."""
        self._seen.add(id(value))
        deeper = False
        if len(path) <= self._depth:
            for step, member in members(value):
                self._budget -= 1
                if self._budget < 0 or is_picklable(member):
                    continue
                deeper = True
                if id(member) not in self._seen:
                    yield from self.failures(member, (*path, step), value)
        if not deeper:
            yield FailureTuple(value, path, parent)


def _why_not(value: Any) -> str | None:
    try:
        dumps(value)
    except Exception as error:
        return str(error) or type(error).__name__
    return None


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
