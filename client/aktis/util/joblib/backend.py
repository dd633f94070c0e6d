"""The backend: a pool of actors per call of ``Parallel``, and large arrays stored once for all its tasks."""

import copy
from collections.abc import Callable
from typing import Any, Final

from joblib._parallel_backends import (
    AutoBatchingMixin,
    FallbackToBackend,
    ParallelBackendBase,
    PoolManagerMixin,
    SequentialBackend,
)
from joblib.parallel import BatchedCalls

import aktis
from aktis.util.multiprocessing import Pool

SHARED_MIN_BYTES: Final = 1 << 20
"""Arguments from this size on are stored once and read in place, as joblib does with its memory maps."""


class AktisBackend(PoolManagerMixin, AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What joblib calls; see `aktis.util.joblib.register_aktis`. Belongs to the thread that uses it."""

    supports_retrieve_callback = True
    supports_return_generator = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many processes ``n_jobs`` stands for; negative numbers count from the cluster's CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        cpus = int(aktis.cluster_resources().get("CPU", 1))
        return max(1, cpus + 1 + n_jobs)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> int:
        """Start the processes; return how many there are."""
        count = self.effective_n_jobs(n_jobs)
        if count == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        options = {**self.backend_kwargs, **options}
        remote_args = options.get("remote_args") or options.get("ray_remote_args")
        self.parallel = parallel
        self._shared = _SharedArguments()
        self._pool = Pool(count, remote_args=remote_args)
        return count

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Have a batch of tasks done."""
        return super().submit(self._shared.taken_out(func), callback)

    def terminate(self) -> None:
        """End the processes, and let go what was stored for them."""
        super().terminate()
        self.reset_batch_stats()
        self._shared = _SharedArguments()


class _SharedArguments:
    """Large arguments by identity: each is stored once, however many tasks it is an argument of."""

    def __init__(self) -> None:
        # The object is kept beside its reference, so that no other one gets its id.
        self._known: dict[int, tuple[Any, aktis.ObjectRef[Any]]] = {}

    def taken_out(self, batch: Callable[[], Any]) -> Callable[[], Any]:
        """Return the batch with references in the place of large arguments."""
        if not isinstance(batch, BatchedCalls):
            return batch
        light = copy.copy(batch)
        light.items = [
            (
                function,
                tuple(self._light(value) for value in args),
                {name: self._light(value) for name, value in kwargs.items()},
            )
            for function, args, kwargs in batch.items
        ]
        return _Batch(light)

    def _light(self, value: Any) -> Any:
        if getattr(value, "nbytes", 0) < SHARED_MIN_BYTES:
            return value
        known = self._known.get(id(value))
        if known is None:
            known = self._known[id(value)] = (value, aktis.put(value))
        return _Shared(known[1])


class _Shared:
    """Stands for a large argument."""

    def __init__(self, ref: aktis.ObjectRef[Any]) -> None:
        self.ref = ref


class _Batch:
    """A batch of tasks on its way to a process; there the large arguments are views of shared memory."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __call__(self) -> Any:
        self._batch.items = [
            (function, tuple(map(_whole, args)), {name: _whole(value) for name, value in kwargs.items()})
            for function, args, kwargs in self._batch.items
        ]
        return self._batch()


def _whole(value: Any) -> Any:
    return aktis.get(value.ref) if isinstance(value, _Shared) else value
