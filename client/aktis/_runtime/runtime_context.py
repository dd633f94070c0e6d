"""``get_runtime_context()``: where the calling code runs, and as what."""

import os
from typing import TYPE_CHECKING, Any

from aktis._core import ROLE_DRIVER
from aktis._runtime import current, execution
from aktis._runtime.session import Session

if TYPE_CHECKING:
    from aktis.runtime_env import RuntimeEnv


class RuntimeContext:
    """Answers about the calling driver, task or actor. Ids are in hexadecimal; None where there is none."""

    def __init__(self, session: Session) -> None:
        """Answer for ``session``."""
        self._session = session

    def get_job_id(self) -> str:
        """Return the id of the program that everything here belongs to."""
        return self._session.job_id.hex()

    def get_node_id(self) -> str:
        """Return the id of this node."""
        return self._session.node.node_id.hex()

    def get_worker_id(self) -> str:
        """Return the id of this process."""
        return self._session.worker_id.hex()

    def get_task_id(self) -> str | None:
        """Return the id of the running task; None in a driver."""
        task = execution.current_task()
        return None if task is None else task.task_id.hex()

    def get_task_name(self) -> str | None:
        """Return the name of the running task: the option ``name``, else that of the function."""
        task = execution.current_task()
        return None if task is None else task.name

    def get_task_function_name(self) -> str | None:
        """Return the name of the running function or method."""
        task = execution.current_task()
        if task is None or task.method:
            return None if task is None else task.method
        function = self._session.functions.load(task.function_id).value
        return getattr(function, "__qualname__", task.name)

    def get_trace_id(self) -> str | None:
        """Return the id that a task shares with all tasks that it descends from; None in a driver.

        It is the trace id of W3C Trace Context: 32 hexadecimal digits, made when a driver starts a task.
        """
        task = execution.current_task()
        return None if task is None else task.trace[:16].hex()

    def get_actor_id(self) -> str | None:
        """Return the id of the actor that this process is."""
        return None if execution.actor is None else execution.actor.actor_id.hex()

    def get_actor_name(self) -> str | None:
        """Return the name of the actor that this process is; "" when it has none."""
        return None if execution.actor is None else execution.actor.shape.name

    def get_placement_group_id(self) -> str | None:
        """Return the id of the placement group of the running task or actor; None outside of groups."""
        return execution.current_group().hex() or None

    @property
    def should_capture_child_tasks_in_placement_group(self) -> bool:
        """Whether what the running task or actor submits runs in its placement group too."""
        return current.captured is not None

    @property
    def namespace(self) -> str:
        """The namespace of this program's named actors."""
        return self._session.namespace

    @property
    def was_current_actor_reconstructed(self) -> bool:
        """Whether the actor that this process is has been restarted.

        Raises:
            RuntimeError: not in an actor.
        """
        return self._actor().incarnation > 1

    @property
    def current_actor(self) -> Any:
        """A handle to the actor that this process is; it does not keep the actor alive.

        Raises:
            RuntimeError: not in an actor.
        """
        from aktis._runtime.actor_handle import ActorHandle

        facts = self._actor()
        self._session.actors.track(facts.actor_id)
        return ActorHandle(self._session, facts.actor_id, facts.shape, None)

    def _actor(self) -> execution.ActorFacts:
        if execution.actor is None:
            raise RuntimeError("this code does not run in an actor")
        return execution.actor

    @property
    def runtime_env(self) -> "RuntimeEnv":
        """The runtime environment of the calling driver, task or actor: what it asked for and inherited."""
        from aktis.runtime_env import from_environment

        return from_environment(self._session.environments.own)

    def get_runtime_env_string(self) -> str:
        """Return the runtime environment as JSON."""
        return self.runtime_env.serialize()

    def is_canceled(self) -> bool:
        """Whether somebody asked to cancel the running task; for code that ends itself at a good moment."""
        task = execution.current_task()
        return task is not None and task.cancelled

    def get_assigned_resources(self) -> dict[str, float]:
        """Return the resources that the running task or actor holds, by name."""
        return execution.assigned_resources()

    def get_accelerator_ids(self) -> dict[str, list[str]]:
        """Return the devices that the running task or actor holds, by kind; the GPUs in any case."""
        return {"GPU": [], **{kind: list(names) for kind, names in execution.assignment.devices.items()}}

    def get_node_labels(self) -> dict[str, str]:
        """Return the labels of this node."""
        from aktis._runtime.state import list_nodes

        for node in list_nodes(self._session):
            if node.node_id == self._session.node.node_id:
                return dict(node.labels)
        return {}

    @property
    def gcs_address(self) -> str:
        """Where the cluster's GCS listens."""
        return self._session.node.gcs_address

    def get_session_name(self) -> str:
        """Return the name of the cluster's session directory."""
        return os.path.basename(self._session.node.session_dir.rstrip("/"))

    def get_temp_dir(self) -> str:
        """Return the cluster's session directory."""
        return self._session.node.session_dir

    @property
    def worker_mode(self) -> str:
        """``"driver"`` or ``"worker"``."""
        return "driver" if self._session.role == ROLE_DRIVER else "worker"

    def get(self) -> dict[str, Any]:
        """Return the ids that there are, by name."""
        known = {
            "job_id": self.get_job_id(),
            "node_id": self.get_node_id(),
            "namespace": self.namespace,
            "task_id": self.get_task_id(),
            "actor_id": self.get_actor_id(),
        }
        return {name: value for name, value in known.items() if value is not None}

    job_id = property(get_job_id)
    node_id = property(get_node_id)
    task_id = property(get_task_id)
    actor_id = property(get_actor_id)


def get_runtime_context() -> RuntimeContext:
    """Return what there is to know about the calling code.

    Starts or joins a cluster when there is none yet.
    """
    return RuntimeContext(current.require())


def get_gpu_ids() -> list[int] | list[str]:
    """Return the GPUs that the running task or actor may use; CUDA_VISIBLE_DEVICES is set to them.

    Numbers, or texts where the node's own CUDA_VISIBLE_DEVICES names its GPUs by their UUIDs.
    """
    names = execution.assignment.devices.get("GPU", [])
    if all(name.isdigit() for name in names):
        return [int(name) for name in names]
    return list(names)
