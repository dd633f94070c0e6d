"""A worker takes on the runtime environment of its first lease or of its actor, before it loads any code.

A template of an environment has done most of it for all its workers. What remains are the variables of those
that have none, and the hook, once per process.
"""

import importlib
import os
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from aktis._common.environments import expand_variables
from aktis._proto import common_pb2, raylet_pb2
from aktis._runtime.causes import setup_failure
from aktis._runtime.environments.store import FUNCTION_HOOK
from aktis._runtime.session import Session
from aktis._worker.exit import leave
from aktis.exceptions import RuntimeEnvSetupError


def enter(session: Session, name: str) -> None:
    """Adopt the job's settings, set variables, run the hook; nothing for a worker without environment.

    Raises:
        RuntimeEnvSetupError: the hook raised, or the environment is not known to the cluster.
    """
    if not name:
        return
    session.require_job()
    environment = session.environments.take_on(name)
    if session.place.environment != name:
        os.environ.update(expand_variables(environment.env_vars, os.environ))
    if environment.hook:
        try:
            _hook(session, environment.hook)()
        except Exception as error:
            text = "".join(traceback.format_exception(error))
            raise RuntimeEnvSetupError(
                setup_failure(f"worker_process_setup_hook raised {type(error).__name__}: {error}\n{text}")
            ) from error


def _hook(session: Session, hook: str) -> Callable[[], Any]:
    if hook.startswith(FUNCTION_HOOK):
        function: Callable[[], Any] = session.functions.load(
            bytes.fromhex(hook.removeprefix(FUNCTION_HOOK))
        ).value
        return function
    module, _, name = hook.rpartition(".")
    found: Callable[[], Any] = getattr(importlib.import_module(module), name)
    return found


def give_up(session: Session, order: raylet_pb2.RunActor, error: RuntimeEnvSetupError) -> NoReturn:
    """Say that this process cannot become the actor of ``order``, and end."""
    reason = str(error).removeprefix(setup_failure(""))
    cause = common_pb2.DeathCause(
        kind=common_pb2.DeathCause.RUNTIME_ENV_FAILED, message=reason, pid=os.getpid()
    )
    started = raylet_pb2.ActorStarted(
        actor_id=order.spec.actor_id, incarnation=order.incarnation, failed=True, cause=cause
    )
    session.control.notify(actor_started=started)
    leave(session, cause, exit_code=1)
