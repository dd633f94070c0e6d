"""Values of the key-value store that go with the jobs that have put them: functions, settings of a job.

Who needs a value is itself in the key-value store (`NAMESPACE`), so that a restart forgets nothing. A job
counts as long as it runs or one of its actors lives; what no job needs any more goes with the last one.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Final

from aktis._common import ids
from aktis._proto import gcs_pb2

from aktisd.gcs.clock import Clock
from aktisd.gcs.effects import Effects
from aktisd.gcs.errors import invalid
from aktisd.gcs.kv import KvManager
from aktisd.gcs.validate import check_id

NAMESPACE: Final = "job_keys"
"""Keys are a job's id and the namespace and key of what it needs; values are empty."""
TRIM_PERIOD_MS: Final = 60_000
"""A job's last actor may die long after the job has ended."""


class JobKeys:
    """Pure state machine, driven by the event loop's thread only."""

    def __init__(self, clock: Clock, kv: KvManager, is_job_alive: Callable[[bytes], bool]) -> None:
        """Watch ``kv``, with what is in it already."""
        self._clock = clock
        self._kv = kv
        self._is_job_alive = is_job_alive
        self._keys: defaultdict[bytes, set[bytes]] = defaultdict(set)  # by job
        self._jobs: defaultdict[bytes, set[bytes]] = defaultdict(set)  # by key
        self._next_trim_ms = clock.monotonic_ms() + TRIM_PERIOD_MS
        kv.watch(NAMESPACE, self._changed)

    def putting(self, request: gcs_pb2.KvPutRequest, out: Effects) -> None:
        """A client puts a value, or would if it were not there: for its job, when it names one.

        Raises:
            RequestError: the job's id is malformed, the key is no key or too long to be held, or the
                namespace is the one in which this is kept.
        """
        if request.namespace == NAMESPACE:
            raise invalid(f"the namespace {NAMESPACE} is kept by the cluster itself: use another one")
        if not request.job_id:
            return
        check_id(request.job_id, ids.JOB_ID_BYTES, "job_id")
        own = self._kv.full_key(request.namespace, request.key)
        if own not in self._keys.get(request.job_id, ()):
            self._kv.put(gcs_pb2.KvPutRequest(namespace=NAMESPACE, key=request.job_id + own), out)

    def tick(self, out: Effects) -> None:
        """Look for jobs that are over, now and then."""
        if self._clock.monotonic_ms() >= self._next_trim_ms:
            self.trim(out)

    def trim(self, out: Effects) -> None:
        """Delete what only jobs needed that are over."""
        self._next_trim_ms = self._clock.monotonic_ms() + TRIM_PERIOD_MS
        for job_id in [job_id for job_id in self._keys if not self._is_job_alive(job_id)]:
            for own in list(self._keys[job_id]):
                self._delete(NAMESPACE, job_id + own, out)
                if own not in self._jobs:
                    namespace, _, key = own.partition(b"\0")
                    self._delete(namespace.decode(), key, out)

    def _delete(self, namespace: str, key: bytes, out: Effects) -> None:
        self._kv.delete(gcs_pb2.KvDeleteRequest(namespace=namespace, key=key), out)

    def _changed(self, key: bytes, size_bytes: int | None) -> None:
        job_id, own = key[: ids.JOB_ID_BYTES], key[ids.JOB_ID_BYTES :]
        if size_bytes is not None:
            self._keys[job_id].add(own)
            self._jobs[own].add(job_id)
            return
        for table, name, member in ((self._keys, job_id, own), (self._jobs, own, job_id)):
            table[name].discard(member)
            if not table[name]:
                del table[name]
