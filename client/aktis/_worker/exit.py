"""Leaving a worker: on purpose, when asked to, and how user code says so."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from aktis._proto import common_pb2
    from aktis._runtime.session import Session

_LEAVE_TIMEOUT_S: Final = 5.0
"""How long owners may take to read the last answers."""


class ActorExit(BaseException):
    """Unwinds the stack of an actor's method up to the executor. Not for ``except Exception``."""


def exit_actor() -> NoReturn:
    """End the actor that this code runs in.

    It is not restarted. The running call raises ActorDiedError at its caller.

    Raises:
        TypeError: this code does not run in an actor.
    """
    from aktis._runtime import execution

    if execution.actor is None:
        raise TypeError("exit_actor() is for code that runs in an actor")
    raise ActorExit


def leave(session: "Session", cause: "common_pb2.DeathCause | None", exit_code: int = 0) -> NoReturn:
    """End this process now; ``cause`` tells the raylet that it does so on purpose.

    Other threads are not waited for. Answers that are on their way are, and owners hear which tasks have not
    begun.
    """
    import atexit

    from aktis._proto import common_pb2, raylet_pb2
    from aktis._runtime import execution, user_metrics

    on_purpose = cause is not None and cause.kind == common_pb2.DeathCause.INTENDED
    if on_purpose and execution.actor is not None and execution.actor.saver is not None:
        execution.actor.saver.end()
    with contextlib.suppress(Exception):
        session.core.take_leave(_LEAVE_TIMEOUT_S)
        user_metrics.flush_last(session)
        if cause is not None:
            session.control.notify(exiting=raylet_pb2.Exiting(cause=cause))
        session.core.flush_events()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(BaseException):
        session.core.close()
    os._exit(exit_code)
