"""The jobs: one per driver, from its registration to its end.

    (register) ──> RUNNING ──> FINISHED

A job ends when its driver says so, when the driver's raylet sees it go, when the driver's node dies, or when
that node registers again (after a restart on either side) and the driver does not come back within the grace
period.
"""

from typing import TypeAlias

from aktis._common import ids
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import JOBS_CHANNEL, Effects
from aktisd.gcs.errors import RequestError, Status
from aktisd.gcs.limits import Limits
from aktisd.gcs.storage.interface import Table
from aktisd.gcs.validate import check_id, check_text, check_text_map

Job = gcs_pb2.Job
State = gcs_pb2.Job.State
StateValue: TypeAlias = "gcs_pb2.Job.State.ValueType"

TRANSITIONS: dict[StateValue, frozenset[StateValue]] = {
    Job.RUNNING: frozenset({Job.FINISHED}),
    Job.FINISHED: frozenset(),
}
COUNTER_KEY = b"last_job"
MAX_JOB = 2 ** (8 * ids.JOB_ID_BYTES) - 1


class JobManager:
    """Pure state machine, driven by the event loop's thread only."""

    def __init__(self, clock: Clock, limits: Limits) -> None:
        self._clock = clock
        self._limits = limits
        self._jobs: dict[bytes, gcs_pb2.Job] = {}
        self._running_by_driver: dict[bytes, bytes] = {}
        self._finished: dict[bytes, None] = {}  # oldest first
        self._doubtful_until_ms: dict[bytes, float] = {}
        self._last = 0

    def load(self, rows: dict[bytes, bytes], counter: bytes | None) -> None:
        """Take over what an earlier process stored."""
        self._last = int.from_bytes(counter or b"\0", "big")
        jobs = [Job.FromString(value) for value in rows.values()]
        for job in sorted(jobs, key=lambda job: job.end_time_unix_ms):
            self._jobs[job.job_id] = job
            if job.state == Job.FINISHED:
                self._finished[job.job_id] = None
            else:
                self._running_by_driver[job.driver.worker_id] = job.job_id

    # ---- requests ----

    def register(self, request: gcs_pb2.RegisterJobRequest, out: Effects) -> gcs_pb2.Job:
        """Begin a job; the same driver asking again gets the job it has.

        Raises:
            RequestError: a field is not valid.
        """
        driver = request.driver
        check_id(driver.worker_id, ids.WORKER_ID_BYTES, "driver.worker_id")
        check_text(request.namespace, self._limits.name_characters, "namespace")
        check_text(request.entrypoint, self._limits.metadata_bytes, "entrypoint")
        check_text_map(request.metadata, self._limits.metadata_bytes, "metadata")
        known = self._running_by_driver.get(driver.worker_id)
        if known is not None:
            self._doubtful_until_ms.pop(known, None)
            return self._jobs[known]
        job = Job(
            job_id=self._next_id(out),
            state=Job.RUNNING,
            driver=driver,
            # The driver's id is random and never reused, which is what an anonymous namespace needs.
            namespace=request.namespace or f"anonymous-{driver.worker_id.hex()}",
            entrypoint=request.entrypoint,
            start_time_unix_ms=self._clock.unix_ms(),
            metadata=request.metadata,
        )
        self._jobs[job.job_id] = job
        self._running_by_driver[driver.worker_id] = job.job_id
        self._store(job, out)
        out.note("job_started", job=job.job_id.hex(), namespace=job.namespace, pid=driver.pid)
        return job

    def finish(self, job_id: bytes, reason: str, out: Effects) -> bool:
        """End a job; return whether it was running."""
        job = self._jobs.get(job_id)
        if job is None or Job.FINISHED not in TRANSITIONS[job.state]:
            return False
        job.state, job.end_time_unix_ms = Job.FINISHED, self._clock.unix_ms()
        self._running_by_driver.pop(job.driver.worker_id, None)
        self._doubtful_until_ms.pop(job_id, None)
        self._store(job, out)
        out.note("job_finished", job=job_id.hex(), reason=reason)
        self._finished[job_id] = None
        while len(self._finished) > self._limits.finished_jobs:
            oldest = next(iter(self._finished))
            del self._finished[oldest], self._jobs[oldest]
            out.write(Table.JOBS, oldest, None)
        return True

    # ---- events ----

    def node_registered(self, node_id: bytes, live_jobs: set[bytes], out: Effects) -> None:
        """Compare with a raylet's truth: a job of its drivers that it does not know is doubtful."""
        until_ms = self._clock.monotonic_ms() + self._limits.job_grace_ms
        for job_id in self._running_by_driver.values():
            if job_id in live_jobs:
                self._doubtful_until_ms.pop(job_id, None)
            elif self._jobs[job_id].driver.node_id == node_id:
                self._doubtful_until_ms.setdefault(job_id, until_ms)
                out.warn("job_doubtful", job=job_id.hex(), grace_ms=self._limits.job_grace_ms)

    def due(self) -> list[bytes]:
        """Return the jobs whose grace period is over; the caller finishes them."""
        now_ms = self._clock.monotonic_ms()
        return [job_id for job_id, until_ms in self._doubtful_until_ms.items() if until_ms <= now_ms]

    def of_driver(self, worker_id: bytes) -> bytes | None:
        """Return the running job of a driver."""
        return self._running_by_driver.get(worker_id)

    def of_node(self, node_id: bytes) -> list[bytes]:
        """Return the running jobs whose drivers are on a node."""
        return [
            job_id
            for job_id in self._running_by_driver.values()
            if self._jobs[job_id].driver.node_id == node_id
        ]

    # ---- questions ----

    def get(self, job_id: bytes) -> gcs_pb2.Job:
        """Return a job.

        Raises:
            RequestError: there is none, or it was forgotten.
        """
        job = self._jobs.get(job_id)
        if job is None:
            raise RequestError(Status.NOT_FOUND, f"there is no job {job_id.hex()}; register it first")
        return job

    def is_running(self, job_id: bytes) -> bool:
        """Say whether there is such a job and it has not ended."""
        job = self._jobs.get(job_id)
        return job is not None and job.state == Job.RUNNING

    def list(self) -> list[gcs_pb2.Job]:
        """Return every job that is remembered."""
        return list(self._jobs.values())

    def counts(self) -> dict[str, int]:
        """Return the number of jobs per state."""
        return {"RUNNING": len(self._running_by_driver), "FINISHED": len(self._finished)}

    # ---- steps ----

    def _next_id(self, out: Effects) -> bytes:
        # 4 bytes are too few for random ids that are never reused, so a stored counter gives them out.
        if self._last >= MAX_JOB:
            raise RequestError(Status.RESOURCE_EXHAUSTED, "the cluster has used up its 4 billion job ids")
        self._last += 1
        job_id = self._last.to_bytes(ids.JOB_ID_BYTES, "big")
        out.write(Table.META, COUNTER_KEY, job_id)
        return job_id

    def _store(self, job: gcs_pb2.Job, out: Effects) -> None:
        out.write(Table.JOBS, job.job_id, job.SerializeToString())
        snapshot = Job()
        snapshot.CopyFrom(job)
        out.publish(gcs_pb2.Publication(channel=JOBS_CHANNEL, key=job.job_id, job=snapshot))
