"""What a forked worker is told at its birth; the contract between the template and ``aktis._worker.main``."""

from dataclasses import dataclass, field

from aktis._runtime.job import JobPlace


@dataclass(frozen=True, slots=True)
class WorkerStart:
    """Parameters of one worker process. It belongs to no job until its first lease.

    The worker connects to ``raylet_address`` as role WORKER with ``worker_id`` as its sender id, listens on
    ``unix:{sockets_dir}/{worker_id.hex()}.sock`` and sends RegisterWorker with ``start_token``. It must do so
    before the raylet's start-up deadline (``raylet.workers.start_timeout_s``) or it is killed.
    """

    start_token: int
    """Random 63-bit number by which the raylet recognizes the process it asked for."""
    worker_id: bytes
    """16 random bytes made by the worker itself; never reused, so it is also the process's epoch."""
    node_id: bytes
    """16 bytes of the node's id."""
    raylet_address: str
    """Control socket of the raylet, ``unix:/...``."""
    plasma_address: str
    """Socket of the node's object store, ``unix:/...``."""
    session_dir: str
    sockets_dir: str
    """Where each process of the node listens."""
    stdout_path: str
    """File that descriptor 1 writes to; ``stderr_path`` likewise for descriptor 2."""
    stderr_path: str
    token: str = field(repr=False)
    """The cluster's shared secret for handshakes."""
    place: JobPlace = field(default_factory=JobPlace)
