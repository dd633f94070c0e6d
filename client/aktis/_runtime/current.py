"""The session of this process, if there is one. Imported by the hot path, so it imports nothing itself."""

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from aktis._runtime.session import Session

# Events of Python's own in the queue that the service thread drains; the core's are positive.
EVENT_STOP: Final = -1
EVENT_HANDLE_DROPPED: Final = -2
EVENT_MAY_RETRY: Final = -3
EVENT_RUN: Final = -4
EVENT_GROUP_ORDERS: Final = -5

session: "Session | None" = None
"""Set and cleared by `aktis._runtime.lifecycle` only."""
captured: bytes | None = None
"""The placement group in which what this process submits runs too, unless it says otherwise.

Set in workers by the task that runs, in actors once.
"""

_detached_from_pid = 0
# Objects of the parent that must not be destroyed in a forked child: they would close what both share.
_kept_from_parent: list[object] = []


def require() -> "Session":
    """Return the session; start or join a cluster when there is none yet.

    Raises:
        RuntimeError: this process was forked from one that had a session.
    """
    live = session
    if live is not None:
        return live
    check_not_detached()
    from aktis._runtime.lifecycle import init_on_first_use

    return init_on_first_use()


def require_for(refs: object) -> "Session":
    """Return the session in which references are used; never start one for references of an earlier one.

    Args:
        refs: A reference, a generator, or a list of them; as the user has given it.

    Raises:
        SessionEndedError: there is no session, and so none that they could belong to.
        RuntimeError: this process was forked from one that had a session.
    """
    live = session
    if live is not None:
        return live
    check_not_detached()
    from aktis._core import ObjectRef
    from aktis._runtime.generators import ObjectRefGenerator

    for ref in refs if isinstance(refs, list | tuple) else [refs]:
        if isinstance(ref, ObjectRef | ObjectRefGenerator):
            from aktis.exceptions import SessionEndedError

            raise SessionEndedError(
                f"{ref!r} belongs to no session: the one in which it was made has ended, and its object with "
                "it. Call aktis.init() and make the object anew"
            )
    return require()


def check_not_detached() -> None:
    """Raise RuntimeError in a process forked from one that had a session; it would share its sockets."""
    if _detached_from_pid:
        raise RuntimeError(
            f"this process was forked from process {_detached_from_pid}, which is connected to a cluster, "
            "and cannot use that connection: call aktis.init() here to make one of its own, or start "
            "processes by 'spawn' instead of 'fork'"
        )


def attach_anew() -> None:
    """Let a forked child have a session of its own, because it asks for one."""
    global _detached_from_pid
    _detached_from_pid = 0


def _detach() -> None:
    global session, _detached_from_pid
    if session is not None:
        _kept_from_parent.append(session)
        _detached_from_pid = os.getppid()
        session = None
        from aktis._core import running_task

        running_task.set(None)  # it runs in the parent


os.register_at_fork(after_in_child=_detach)
