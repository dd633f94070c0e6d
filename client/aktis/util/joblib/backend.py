"""The backend: a pool of actors per call of ``Parallel``, and large arrays stored once for all its tasks."""

import copy
import functools
import weakref
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
from aktis.util.aliases import under_either_name
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
        remote_args = under_either_name(options, "remote_args", "ray_remote_args")
        self.parallel = parallel
        self._pool = Pool(count, remote_args=remote_args)
        return count

    def start_call(self) -> None:
        """A call of Parallel begins: since the last one the program may have changed its arrays."""
        super().start_call()
        self._shared = _SharedArguments()

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None) -> Any:
        """Have a batch of tasks done."""
        light, stored = self._shared.taken_out(func)
        return super().submit(light, functools.partial(_done, stored, callback))

    def terminate(self) -> None:
        """End the processes."""
        super().terminate()
        self.reset_batch_stats()


def _done(stored: "list[_Stored]", callback: Callable[[Any], Any] | None, outcome: Any) -> None:
    """Call back; that this exists until then keeps what was stored for the batch."""
    if callback is not None:
        callback(outcome)  # submits the next batch, which may share it


class _Stored:
    """A large argument that has been stored. It is kept, so that no other one gets its id."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self.shared = _Shared(aktis.put(value))


class _SharedArguments:
    """Large arguments of the batches under way, by identity: each is stored once for all of them."""

    def __init__(self) -> None:
        self._known: weakref.WeakValueDictionary[int, _Stored] = weakref.WeakValueDictionary()

    def taken_out(self, batch: Callable[[], Any]) -> tuple[Callable[[], Any], list[_Stored]]:
        """Return the batch with references in the place of large arguments, and what to keep for it."""
        if not isinstance(batch, BatchedCalls):
            return batch, []
        kept: list[_Stored] = []

        def light(value: Any) -> Any:
            if getattr(value, "nbytes", 0) < SHARED_MIN_BYTES:
                return value
            stored = self._known.get(id(value))
            if stored is None:
                stored = self._known[id(value)] = _Stored(value)
            kept.append(stored)
            return stored.shared

        light_batch = copy.copy(batch)
        light_batch.items = [
            (function, tuple(map(light, args)), {name: light(value) for name, value in kwargs.items()})
            for function, args, kwargs in batch.items
        ]
        return _Batch(light_batch), kept


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
