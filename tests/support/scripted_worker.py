"""A worker that does what tests need and nothing else; the raylet forks it in place of the real one.

Under a lease: SIGUSR1 makes it block, SIGUSR2 unblock; it prints the lease's beginning. As an actor, its
class name says what it does: "Fails" (constructor), "Exits" (after it has started), "Spawns" (a child in
another process group); else it lives.
"""

import os
import signal
import subprocess
import sys
from typing import Any

from aktis import _core
from aktis._proto import common_pb2, raylet_pb2
from aktis._worker.start import WorkerStart

from tests.support.control_peer import ControlPeer


def run(start: WorkerStart) -> int:
    """Register and follow the raylet's orders until it says exit or is gone."""
    peer = ControlPeer(start.raylet_address, start.token, _core.ROLE_WORKER, start.worker_id)
    address = common_pb2.ProcessAddress(
        worker_id=start.worker_id,
        node_id=start.node_id,
        address=f"unix:{start.sockets_dir}/{start.worker_id.hex()}.sock",
        pid=os.getpid(),
    )
    peer.send(register_worker=raylet_pb2.RegisterWorker(address=address, start_token=start.start_token))

    def set_blocked(number: int, _frame: object) -> None:
        peer.send(set_blocked=raylet_pb2.SetBlocked(blocked=number == signal.SIGUSR1))

    signal.signal(signal.SIGUSR1, set_blocked)
    signal.signal(signal.SIGUSR2, set_blocked)
    while True:
        try:
            message = peer.receive_any()
        except (EOFError, ConnectionError):
            return 0
        kind = message.WhichOneof("body")
        if kind == "assign_lease":
            print(f"lease {message.assign_lease.lease_id} begins")
            print("to stderr", file=sys.stderr)
        elif kind == "run_actor":
            _run_actor(peer, message.run_actor)
        elif kind == "exit":
            return 0


def _run_actor(peer: ControlPeer, order: raylet_pb2.RunActor) -> None:
    spec = order.spec
    started: dict[str, Any] = {"actor_id": spec.actor_id, "incarnation": order.incarnation}
    if spec.class_name == "Fails":
        cause = common_pb2.DeathCause(
            kind=common_pb2.DeathCause.CREATION_FAILED, message="ValueError: no", error=b"pickled"
        )
        peer.send(actor_started=raylet_pb2.ActorStarted(failed=True, cause=cause, **started))
        sys.exit(1)
    peer.send(actor_started=raylet_pb2.ActorStarted(**started))
    if spec.class_name == "Spawns":
        child = subprocess.Popen(["sleep", "1000"], process_group=0)
        print(f"child {child.pid}")
    if spec.class_name == "Exits":
        print("about to exit", file=sys.stderr)
        os._exit(7)
