"""The process's own state, as programs ask for it: whether it is a driver or a worker, and of which node."""

from aktis import (
    ObjectRef,
    cancel,
    get,
    get_actor,
    get_gpu_ids,
    init,
    is_initialized,
    kill,
    put,
    remote,
    shutdown,
    wait,
)
from aktis._runtime import current
from aktis._runtime.runtime_context import get_runtime_context
from aktis.compat.overlay import SCRIPT_MODE, WORKER_MODE
from aktis.runtime_env import RuntimeEnv


class Worker:
    """Facts about this process; there is one, `global_worker`."""

    @property
    def connected(self) -> bool:
        """Whether there is a session."""
        return is_initialized()

    @property
    def mode(self) -> int | None:
        """SCRIPT_MODE in a driver, WORKER_MODE in a worker, None without a session."""
        if current.session is None:
            return None
        return WORKER_MODE if get_runtime_context().worker_mode == "worker" else SCRIPT_MODE

    @property
    def node_ip_address(self) -> str:
        """The address under which others reach this node."""
        return current.require().node.node_ip

    @property
    def current_job_id(self) -> str:
        """The job's hexadecimal id."""
        return get_runtime_context().get_job_id()

    @property
    def runtime_env(self) -> RuntimeEnv:
        """The runtime environment of this process."""
        return get_runtime_context().runtime_env

    def check_connected(self) -> None:
        """Raise unless there is a session.

        Raises:
            RuntimeError: there is none.
        """
        if not self.connected:
            raise RuntimeError("this process has no session: call init() first")


global_worker = Worker()

__all__ = [
    "SCRIPT_MODE",
    "WORKER_MODE",
    "ObjectRef",
    "Worker",
    "cancel",
    "get",
    "get_actor",
    "get_gpu_ids",
    "global_worker",
    "init",
    "is_initialized",
    "kill",
    "put",
    "remote",
    "shutdown",
    "wait",
]
