"""One process's connection to a cluster.

Everything that a driver or a worker needs, and how a driver gets it.
"""

import contextlib
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any, Final, Protocol

from aktis import _core
from aktis._common.paths import SessionPaths
from aktis._proto import common_pb2, raylet_pb2
from aktis._runtime import tracing, user_metrics
from aktis._runtime.actor_directory import ActorDirectory
from aktis._runtime.advice import Advice
from aktis._runtime.control import Control, ControlError
from aktis._runtime.current import EVENT_RUN
from aktis._runtime.environments.store import EnvironmentStore
from aktis._runtime.errands import Errands
from aktis._runtime.functions import FunctionStore
from aktis._runtime.group_directory import GroupDirectory
from aktis._runtime.job import KV_NAMESPACE, JobConfig, JobPlace
from aktis._runtime.logs import Printer
from aktis._runtime.refs import Watchers
from aktis._runtime.scheduling_classes import SchedulingClasses
from aktis._runtime.serialization import (
    about_to_block,
    cannot_load,
    fetch_timed_out,
    load_error,
    serialize,
    session_ended,
    store_full,
)
from aktis._runtime.service import Service
from aktis.exceptions import AktisError

CONNECT_TIMEOUT_S: Final = 10.0
REGISTER_TIMEOUT_S: Final = 30.0
ERRANDS_TIMEOUT_S: Final = 2.0
OUTPUT_TIMEOUT_S: Final = 2.0
ORDERS_TIMEOUT_S: Final = 5.0
"""For the GCS to answer what was asked of it at the very end."""


class Bound(Protocol):
    """A remote function or actor class that has prepared itself for one session."""

    def unbind(self) -> None:
        """Forget the session."""


class Session:
    """Everything that one connected process needs; made by `connect_driver` and by the worker's main."""

    def __init__(self, role: int, worker_id: bytes, raylet_address: str, token: str) -> None:
        """Connect to the raylet; nothing runs yet.

        Raises:
            ConnectionError: with the raylet's reason.
        """
        self.role = role
        self.worker_id = worker_id
        self.core = _core.Core(role=role, worker_id=worker_id, token=token, raylet_address=raylet_address)
        self.advice = Advice()
        self.core.set_hooks(
            large_argument=self.advice.large_argument,
            serialize=serialize,
            load_error=load_error,
            store_full=store_full,
            fetch_timed_out=fetch_timed_out,
            session_ended=session_ended,
            cannot_load=cannot_load,
            about_to_block=about_to_block,
        )
        self.core.connect_raylet(CONNECT_TIMEOUT_S)
        self.control = Control(self.core)
        # By what they wait for: one kind must not hold up another.
        self.errands = Errands()  # the GCS
        self.inquiries = Errands("inquiry")  # what became of a task: the raylet knows, or its exception
        # Callbacks of futures, which may do anything. No more can wait than the program has made futures.
        self.callbacks = Errands("callback", max_queued=sys.maxsize)
        self.printer = Printer()  # whoever reads what the program prints
        self.watchers = Watchers(self.core)
        self.functions = FunctionStore(self.control, self.advice, self._publish_job, lambda: self.job_id)
        self.environments = EnvironmentStore(self.control, self.functions, lambda: self.job_id)
        self.classes = SchedulingClasses()
        self.actors = ActorDirectory(self.core, self.control, self.watchers, self.errands, self.inquiries)
        collects = role == _core.ROLE_DRIVER
        self.groups = GroupDirectory(
            self.core,
            self.control,
            self.errands,
            self._end_class,
            self.printer.complain,
            collects=collects,
        )
        self.service = Service(self)
        self.node = raylet_pb2.NodeFacts()
        self.job_id = bytes(4)
        self.job: JobConfig | None = None
        self.place = JobPlace()
        self.address = ""
        # They live as long as the program and would keep the core, and with it the store's memory, mapped.
        self.bound: weakref.WeakSet[Bound] = weakref.WeakSet()
        self.cluster: Any = None  # the embedded cluster that `init` launched

    def settle(self, node: raylet_pb2.NodeFacts) -> None:
        """Take up what the raylet says of the node; before the first object and task."""
        self.node = node
        if node.HasField("limits"):  # a raylet of an earlier minor version does not say
            limits = node.limits
            self.core.set_limits(
                **{field.name: getattr(limits, field.name) for field in limits.DESCRIPTOR.fields}
            )

    def _end_class(self, class_key: int, error: bytes) -> None:
        self.classes.forget(class_key)
        self.service.end_class(class_key, error)

    def join(self, node: raylet_pb2.NodeFacts, job_id: bytes) -> None:
        """Take up the identity that the raylet gave, listen, and connect to the store."""
        self.settle(node)
        self.set_job(job_id)
        self.address = self.core.listen(node.sockets_dir)
        self.core.connect_plasma(node.plasma_address, CONNECT_TIMEOUT_S)

    def set_job(self, job_id: bytes) -> None:
        """Work for a job from now on."""
        self.job_id = job_id
        self.core.set_identity(node_id=self.node.node_id, job_id=job_id)

    @property
    def fetch_timeout_s(self) -> float:
        """How long a task waits for its arguments in shared memory; negative: no limit."""
        return self.node.limits.fetch_timeout_ms / 1000 or -1.0  # 0: a raylet that does not say

    def process_address(self) -> common_pb2.ProcessAddress:
        """Where other processes find this one."""
        return common_pb2.ProcessAddress(
            worker_id=self.worker_id, node_id=self.node.node_id, address=self.address, pid=os.getpid()
        )

    @property
    def namespace(self) -> str:
        """The namespace of names of actors, unless one is given."""
        return self.require_job().namespace

    def require_job(self) -> JobConfig:
        """Return what workers of the job take over; a worker fetches and adopts it the first time.

        Raises:
            AktisError: the driver has never published it.
        """
        if self.job is None:
            data = self.control.kv_get(KV_NAMESPACE, self.job_id)
            if data is None:
                raise AktisError(f"job {self.job_id.hex()} is not known to the cluster any more")
            job = JobConfig.decode(data)
            job.adopt(self.place)
            self.job = job
        return self.job

    def _publish_job(self) -> None:
        if self.role == _core.ROLE_DRIVER and self.job is not None:
            self.control.kv_put(
                KV_NAMESPACE, self.job_id, self.job.encode(), overwrite=True, job_id=self.job_id
            )

    def close(self) -> None:
        """Close every connection; waits of other threads end with an error. Then end an embedded cluster."""
        if self.printer.shows_workers:
            self._await_output()
        if tracing.tracer is not None:
            self._finish_traces()
        for kind in (self.errands, self.inquiries):
            kind.close()
        unfinished = self.callbacks.close()
        self.core.flush_events()
        if self.cluster is None:  # an embedded cluster ends with everything in it
            self.groups.finish(ORDERS_TIMEOUT_S)
        user_metrics.flush_last(self)
        self.service.stop()
        self.core.close()
        self.watchers.close()
        for complete in unfinished:  # whoever waits for a future hears of the end
            complete()
        for kind in (self.errands, self.inquiries):  # their waits have ended with the core
            kind.finish(ERRANDS_TIMEOUT_S)
        for bound in list(self.bound):
            bound.unbind()
        self.printer.close()
        if self.cluster is not None:
            self.cluster.shutdown()

    def _finish_traces(self) -> None:
        """Export what was recorded: by the workers of this node, which may end with the session, and here."""
        collect = raylet_pb2.CollectEvents(timeout_ms=tracing.FLUSH_TIMEOUT_MS)
        with contextlib.suppress(AktisError):
            self.control.call(raylet_pb2.ClientMessage(collect_events=collect))
        tracing.stop()

    def _await_output(self) -> None:
        """Hand what workers have printed until now to the printer; what does not come in time is left out."""
        message = raylet_pb2.ClientMessage(finish_output=raylet_pb2.FinishOutput())
        with contextlib.suppress(AktisError):
            self.control.call(message, OUTPUT_TIMEOUT_S)
            # Events are handled in the order in which they came: after this one the output is on its way.
            handled = threading.Event()
            self.core.post_event((EVENT_RUN, handled.set))
            handled.wait(OUTPUT_TIMEOUT_S)


def connect_driver(
    raylet_address: str,
    token: str,
    namespace: str | None,
    runtime_env: dict[str, Any],
    log_to_driver: bool,
    logging: dict[str, Any] | None = None,
    traces: dict[str, str] | None = None,
) -> Session:
    """Register this process as a driver and start its service thread.

    ``logging`` is an encoded LoggingConfig for the job's workers, ``traces`` what they trace with.

    Raises:
        ConnectionError: nothing listens there, or the cluster does not accept this program.
    """
    session = Session(_core.ROLE_DRIVER, os.urandom(16), raylet_address, token)
    try:
        registration = raylet_pb2.RegisterDriver(
            address=common_pb2.ProcessAddress(
                worker_id=session.worker_id, address=_own_address(raylet_address, session), pid=os.getpid()
            ),
            namespace=namespace or "",
            entrypoint=" ".join(sys.argv)[:1024],
            log_to_driver=log_to_driver,
        )
        message = raylet_pb2.ClientMessage(register_driver=registration)
        try:
            registered = session.control.call(message, REGISTER_TIMEOUT_S).driver_registered
        except ControlError as error:
            raise ConnectionError(
                f"the cluster at {raylet_address} did not accept this program: {error}"
            ) from error
        session.join(registered.node, registered.job.job_id)
        session.job = JobConfig.of_this_process(registered.job.namespace, logging, traces)
        if log_to_driver:
            session.service.on_control["log_batch"] = session.printer.show
            session.printer.shows_workers = True
        session.control.notify(subscribe=raylet_pb2.Subscribe(channel="errors"))
        session.environments.begin(runtime_env)
    except BaseException:
        session.core.close()
        raise
    session.service.start()
    return session


def _own_address(raylet_address: str, session: Session) -> str:
    """Where this process is about to listen: beside the raylet's socket, whose node it is on."""
    raylet_socket = Path(raylet_address.removeprefix("unix:"))
    return f"unix:{SessionPaths.in_session(raylet_socket.parent).worker_socket(session.worker_id)}"
