"""Task events: what happened to tasks lately, bounded in bytes per job, with counters for what was dropped.

Events arrive in batches and stay serialized, a chunk per batch and job: a few hundred bytes per event instead
of Python objects, and an exact bound. Nothing here is stored; after a restart of the GCS the table is empty.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from aktis._common import ids
from aktis._common.proto_values import as_uint64
from aktis._proto import common_pb2, gcs_pb2

from aktisd.gcs.limits import Limits

TaskEvent = common_pb2.TaskEvent


@dataclass(slots=True)
class JobEvents:
    """The chunks of one job, oldest first: a serialized TaskEventBatch and its number of events."""

    chunks: deque[tuple[bytes, int]] = field(default_factory=deque)
    size_bytes: int = 0
    stored: int = 0
    dropped: int = 0


class TaskEvents:
    """Bounded table, driven by the event loop's thread only."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._jobs: OrderedDict[bytes, JobEvents] = OrderedDict()  # the job that reported last is last
        self.received = 0
        self.dropped = 0

    def add(self, batch: common_pb2.TaskEventBatch) -> None:
        """Keep a batch; make room by dropping the job's oldest chunks, then whole jobs that are long quiet.

        An event that names no valid job is dropped: the node that sent it has it from one of its processes,
        and is not to be refused with all the others for that.
        """
        by_job: dict[bytes, list[TaskEvent]] = {}
        for event in batch.events:
            by_job.setdefault(event.job_id, []).append(event)
        for job_id in [job_id for job_id in by_job if len(job_id) != ids.JOB_ID_BYTES or not any(job_id)]:
            self.dropped += len(by_job.pop(job_id))
        self.received += len(batch.events)
        self.dropped += batch.dropped
        for index, (job_id, events) in enumerate(by_job.items()):
            # The sender does not say whose events it dropped; the first job of the batch is the best guess.
            self._add_chunk(job_id, events, batch.dropped if index == 0 else 0)

    def list(self, request: gcs_pb2.ListTaskEventsRequest) -> gcs_pb2.ListTaskEventsReply:
        """Return the newest events that match, oldest first."""
        limit = min(request.limit or self._limits.task_event_list, self._limits.task_event_list)
        jobs = [self._jobs[request.job_id]] if request.job_id in self._jobs else []
        if not request.job_id:
            jobs = list(self._jobs.values())
        found: list[TaskEvent] = []
        size_bytes = 0
        for chunk, _ in (item for job in reversed(jobs) for item in reversed(job.chunks)):
            if len(found) >= limit or size_bytes + len(chunk) > self._limits.task_event_list_bytes:
                break
            matching = [
                event for event in common_pb2.TaskEventBatch.FromString(chunk).events if _ok(event, request)
            ]
            size_bytes += len(chunk) if matching else 0
            found.extend(reversed(matching))
        dropped = self.dropped if not request.job_id else sum(job.dropped for job in jobs)
        return gcs_pb2.ListTaskEventsReply(
            batch=common_pb2.TaskEventBatch(events=reversed(found[:limit])),
            stored=sum(job.stored for job in jobs),
            dropped=as_uint64(dropped),
        )

    def stored_bytes(self) -> int:
        """Return the size of all chunks."""
        return sum(job.size_bytes for job in self._jobs.values())

    def _add_chunk(self, job_id: bytes, events: Sequence[TaskEvent], dropped: int) -> None:
        job = self._jobs.setdefault(job_id, JobEvents())
        self._jobs.move_to_end(job_id)
        chunk = common_pb2.TaskEventBatch(events=events).SerializeToString()
        job.chunks.append((chunk, len(events)))
        job.size_bytes += len(chunk)
        job.stored += len(events)
        job.dropped += dropped
        while job.size_bytes > self._limits.task_event_job_bytes:
            gone, count = job.chunks.popleft()
            job.size_bytes -= len(gone)
            job.stored -= count
            job.dropped += count
            self.dropped += count
        while len(self._jobs) > self._limits.task_event_jobs:
            _, quiet = self._jobs.popitem(last=False)
            self.dropped += quiet.stored


def _ok(event: TaskEvent, request: gcs_pb2.ListTaskEventsRequest) -> bool:
    return (not request.task_id or event.task_id == request.task_id) and (
        not request.state or event.state == request.state
    )
