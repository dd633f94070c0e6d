"""The main function of a worker process, called in the child that the template has forked."""

import contextlib
import faulthandler
import gc
import os
import queue
import signal
import sys
from typing import Any

from aktis._core import ROLE_WORKER
from aktis._proto import common_pb2, raylet_pb2
from aktis._runtime.lifecycle import adopt_session
from aktis._runtime.session import Session
from aktis._worker.actor_executor import ActorProcess
from aktis._worker.devices import Devices
from aktis._worker.environment import enter, give_up
from aktis._worker.executor import PlainExecutor
from aktis._worker.exit import leave
from aktis._worker.start import WorkerStart
from aktis.exceptions import RuntimeEnvSetupError

REGISTER_TIMEOUT_S = 20.0


def run(start: WorkerStart) -> int:
    """Connect, register, then serve tasks or become an actor; the process ends by itself.

    Returns:
        The exit status, when there is nothing to serve any more.
    """
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    session = Session(ROLE_WORKER, start.worker_id, start.raylet_address, start.token)
    session.place = start.place
    adopt_session(session)
    session.join(_node_facts(start), bytes(4))
    worker = _Worker(session)
    session.service.start()
    registration = raylet_pb2.RegisterWorker(address=session.process_address(), start_token=start.start_token)
    answer = session.control.call(raylet_pb2.ClientMessage(register_worker=registration), REGISTER_TIMEOUT_S)
    session.settle(answer.worker_registered.node)
    worker.serve()
    return 0


def _node_facts(start: WorkerStart) -> raylet_pb2.NodeFacts:
    """What is needed to listen, before the raylet has told the rest."""
    return raylet_pb2.NodeFacts(
        node_id=start.node_id,
        plasma_address=start.plasma_address,
        sockets_dir=start.sockets_dir,
        session_dir=start.session_dir,
    )


class _Worker:
    """What the raylet's messages do here. Handlers run on the service thread, `serve` on the main thread."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._devices = Devices()
        self._orders: queue.SimpleQueue[raylet_pb2.RunActor | raylet_pb2.AssignLease] = queue.SimpleQueue()
        self._assigned = False
        self._said_that_it_stays = False
        self._plain: PlainExecutor | None = None
        self._actor: ActorProcess | None = None
        # Nothing is executed before the environment of the first lease is set.
        session.core.set_accepting(False)
        service = session.service
        service.on_control |= {
            "assign_lease": self._assign_lease,
            "run_actor": self._run_actor,
            "exit": self._exit,
        }
        from aktis import _core

        service.on_event[_core.EVENT_CANCEL] = self._cancel
        service.on_event[_core.EVENT_RAYLET_LOST] = lambda _: os._exit(1)

    def serve(self) -> None:
        """Wait for the first assignment: tasks, or to become an actor. A worker is only ever one of them."""
        session, order = self._session, self._orders.get()
        if isinstance(order, raylet_pb2.AssignLease):
            plain = PlainExecutor(session)
            try:
                enter(session, order.runtime_env_hash)
            except RuntimeEnvSetupError as error:
                plain.broken = error
            self._plain = plain
            session.core.set_accepting(True)
            plain.run_forever()
            return
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._devices.apply(order.spec.resources, order.devices)
        session.set_job(order.spec.job_id)
        try:
            enter(session, order.spec.runtime_env_hash)
        except RuntimeEnvSetupError as error:
            give_up(session, order, error)
        self._actor = ActorProcess(session, order)
        self._actor.run_forever()

    def _assign_lease(self, message: raylet_pb2.AssignLease) -> None:
        if self._session.job_id != message.job_id:
            self._session.set_job(message.job_id)
        self._devices.apply(message.resources, message.devices)
        if not self._assigned:
            self._assigned = True
            self._orders.put(message)

    def _run_actor(self, message: raylet_pb2.RunActor) -> None:
        self._assigned = True
        self._orders.put(message)

    def _cancel(self, task_id: bytes, recursive: bool) -> None:
        executor: Any = self._actor or (self._plain and self._plain.interrupts)
        self._session.service.cancel_children(task_id, recursive)
        if executor is not None:
            executor.interrupt(task_id)

    def _exit(self, message: raylet_pb2.Exit) -> None:
        if self._actor is not None and message.graceful:
            self._actor.leave_when_idle(message.cause)
            return
        if self._refuses(message.cause):
            return
        if self._plain is None or not message.graceful:
            leave(self._session, message.cause)
        self._leave_after_task(self._plain, message.cause)

    def _refuses(self, cause: common_pb2.DeathCause) -> bool:
        """Objects that this process owns would die with it: an idle worker that has some stays."""
        if self._actor is not None or cause.kind != common_pb2.DeathCause.INTENDED:
            return False
        owned = self._session.core.statistics()["owned_objects"]
        if owned > 0:
            # Perhaps only cycles refer to them, such as exceptions and the frames that they passed through.
            gc.collect()
            owned = self._session.core.statistics()["owned_objects"]
        if owned > 0:
            self._session.control.notify(staying=raylet_pb2.Staying(owned_objects=owned))
            if not self._said_that_it_stays:
                self._said_that_it_stays = True
                print(
                    f"aktis: this worker was asked to end ({cause.message}) and stays: "
                    f"it owns {owned} objects that are still in use",
                    file=sys.stderr,
                )
        return owned > 0

    def _leave_after_task(self, plain: PlainExecutor, cause: common_pb2.DeathCause) -> None:
        session = self._session
        session.core.drain_executor()
        plain.leaving = lambda: leave(session, cause)
        if session.core.statistics()["running"] == 0:
            leave(session, cause)
