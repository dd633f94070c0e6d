"""The pool itself: the interface of ``multiprocessing.Pool``."""

import functools
import itertools
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self

import aktis
from aktis.util.aliases import under_either_name
from aktis.util.multiprocessing.dispatch import Dispatcher, Job, Pace
from aktis.util.multiprocessing.functions import Outgoing
from aktis.util.multiprocessing.results import AsyncResult, IMapIterator, Outcome

_CHUNKS_PER_WORKER: Final = 4
_CHUNKS_AHEAD: Final = 16
_PACES_KEPT: Final = 256
_NOT_RUNNING: Final = "Pool not running"
_ALIASES: Final = ("ray_address", "ray_remote_args")

_Callback = Callable[[Any], object]
_ErrorCallback = Callable[[BaseException], object]


class Pool:
    """Processes that call functions, with the interface of ``multiprocessing.Pool``.

    The processes are actors, so they may be on any node, and functions may be lambdas and closures.
    Exceptions come as the function raised them. A process that dies is replaced, and the calls that it had
    raise ActorDiedError. Callbacks run in a thread of the pool and should return soon.

    Example:
        >>> with Pool(2) as pool:
        ...     pool.map(lambda n: n * n, range(5)), pool.apply(pow, (2, 5))
        ([0, 1, 4, 9, 16], 32)
    """

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: object = None,
        address: str | None = None,
        remote_args: Mapping[str, Any] | None = None,
        **aliases: Any,
    ) -> None:
        """Start the processes; a session is begun when there is none.

        Args:
            processes: How many; default: as many as the cluster has CPUs.
            initializer: Called in every process at its start, with ``initargs``.
            initargs: See ``initializer``.
            maxtasksperchild: How many chunks a process is given before it is replaced.
            context: Accepted for compatibility.
            address: Of the cluster to join, as in `aktis.init`, when there is no session.
            remote_args: Options of the actors; they take no CPU unless these say so.
            aliases: ``ray_address`` and ``ray_remote_args``, other names of the last two.

        Raises:
            TypeError, ValueError: an argument is not valid.
        """
        del context
        for unknown in aliases.keys() - set(_ALIASES):
            raise TypeError(f"Pool() got an unexpected keyword argument {unknown!r}")
        options = {"address": address, "remote_args": remote_args, **aliases}
        address = under_either_name(options, "address", "ray_address")
        remote_args = under_either_name(options, "remote_args", "ray_remote_args")
        if initializer is not None and not callable(initializer):
            raise TypeError(f"initializer must be callable, got {initializer!r}")
        _check_count("processes", processes)
        _check_count("maxtasksperchild", maxtasksperchild)
        if not aktis.is_initialized():
            aktis.init(address=address)
        self._count = processes or max(1, int(aktis.cluster_resources().get("CPU", 1)))
        self._running = True
        self._paces: dict[object, Pace] = {}
        self._functions = Outgoing()
        self._iterators: weakref.WeakSet[IMapIterator] = weakref.WeakSet()
        self._dispatcher = Dispatcher(
            self._count, initializer, tuple(initargs or ()), maxtasksperchild, remote_args or {}
        )

    # ---- one call ----

    def apply(
        self, func: Callable[..., Any], args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call ``func(*args, **kwargs)`` in a process and return what it returns."""
        job, result = self._job(func, args, kwargs, None, None)
        if not self._dispatcher.give_now(job):
            self._dispatcher.submit([job])
            return result.get()
        try:
            return result.get()  # reads the answer itself
        finally:
            self._dispatcher.watch(job)  # if it was interrupted

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        callback: _Callback | None = None,
        error_callback: _ErrorCallback | None = None,
    ) -> AsyncResult:
        """Like `apply`, but return at once; ``callback`` gets the value, ``error_callback`` the exception."""
        job, result = self._job(func, args, kwargs, callback, error_callback)
        if self._dispatcher.give_now(job):
            self._dispatcher.watch(job)
        else:
            self._dispatcher.submit([job])
        return result

    def _job(
        self,
        func: Callable[..., Any],
        args: Iterable[Any],
        kwargs: Mapping[str, Any] | None,
        callback: _Callback | None,
        error_callback: _ErrorCallback | None,
    ) -> tuple[Job, AsyncResult]:
        self._check(func)
        result = AsyncResult(self, None, callback, error_callback)
        call = (self._functions.of(func), tuple(args or ()), dict(kwargs or {}))
        key = _key_of(func)
        pace = self._paces.get(key)
        if pace is None:
            pace = self._paces[key] = Pace()
            if len(self._paces) > _PACES_KEPT:
                self._paces.pop(next(iter(self._paces)), None)
        job = Job("apply", call, pace, functools.partial(result.succeed, 0), result.fail)
        if callback is None and error_callback is None:  # those are for the dispatcher's thread
            result.help = functools.partial(self._dispatcher.help, job)
        return job, result

    # ---- many calls ----

    def map(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = None
    ) -> list[Any]:
        """Call ``func`` for every item and return the results in order.

        Args:
            func: Takes one item.
            iterable: The items.
            chunksize: How many a process gets at a time; default: so that each gets about four chunks.
        """
        return list(self.map_async(func, iterable, chunksize).get())

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: _Callback | None = None,
        error_callback: _ErrorCallback | None = None,
    ) -> AsyncResult:
        """Like `map`, but return at once; ``callback`` gets the list, ``error_callback`` the exception."""
        return self._map_async("map", func, iterable, chunksize, callback, error_callback)

    def starmap(
        self, func: Callable[..., Any], iterable: Iterable[Iterable[Any]], chunksize: int | None = None
    ) -> list[Any]:
        """Like `map`, with items that hold the arguments: ``func(*item)``."""
        return list(self.starmap_async(func, iterable, chunksize).get())

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: _Callback | None = None,
        error_callback: _ErrorCallback | None = None,
    ) -> AsyncResult:
        """Like `map_async`, with items that hold the arguments: ``func(*item)``."""
        return self._map_async("starmap", func, iterable, chunksize, callback, error_callback)

    def imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """Call ``func`` for every item and return an iterator of the results in order.

        The items are taken as the results are, a few chunks ahead: there may be any number of them.
        """
        return self._imap(func, iterable, chunksize, ordered=True)

    def imap_unordered(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None = 1
    ) -> IMapIterator:
        """Like `imap`, but the results come as they are finished."""
        return self._imap(func, iterable, chunksize, ordered=False)

    # ---- the end ----

    def close(self) -> None:
        """Take no more calls; the processes end when those are done that were made.

        Iterators of `imap` go on to the end of their sources.
        """
        self._running = False
        self._dispatcher.close()

    def terminate(self) -> None:
        """Kill the processes; results that are not there raise RuntimeError."""
        self._running = False
        self._dispatcher.terminate()
        self._dispatcher.join()

    def join(self) -> None:
        """Wait for the end after `close` or `terminate`.

        What `imap` has not yet taken of its sources is taken now, by this thread: afterwards all results are
        there.

        Raises:
            ValueError: neither was called.
        """
        if self._running:
            raise ValueError("Pool is still running: call close() or terminate() first")
        for iterator in list(self._iterators):
            while self._dispatcher.alive and iterator.submit_next():
                pass
        self._dispatcher.join()

    def __enter__(self) -> Self:
        if not self._running:
            raise ValueError(_NOT_RUNNING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.terminate()

    def __del__(self) -> None:
        dispatcher = self.__dict__.get("_dispatcher")  # absent when __init__ has raised
        if dispatcher is not None:
            dispatcher.terminate()  # without waiting: this may be any thread, the dispatcher's own as well

    def __reduce__(self) -> str:
        raise NotImplementedError("a pool cannot be passed to other processes: make one there")

    def _check(self, func: object) -> None:
        if not self._running:
            raise ValueError(_NOT_RUNNING)
        if not callable(func):
            raise TypeError(f"{type(func).__name__} object {func!r} is not callable")

    def _map_async(
        self,
        method: str,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        callback: _Callback | None,
        error_callback: _ErrorCallback | None,
    ) -> AsyncResult:
        self._check(func)
        items = list(iterable)
        if chunksize is None:
            chunksize = max(1, -(-len(items) // (self._count * _CHUNKS_PER_WORKER)))
        chunks = list(_chunks(items, chunksize))
        result = AsyncResult(self, len(chunks), callback, error_callback)
        function, pace = aktis.put(func), Pace()  # pickled once for all chunks
        self._dispatcher.submit(
            Job(method, (function, chunk), pace, functools.partial(result.succeed, number), result.fail)
            for number, chunk in enumerate(chunks)
        )
        return result

    def _imap(
        self, func: Callable[[Any], Any], iterable: Iterable[Any], chunksize: int | None, *, ordered: bool
    ) -> IMapIterator:
        self._check(func)
        function, pace = aktis.put(func), Pace()
        chunks = _chunks(iterable, 1 if chunksize is None else chunksize)
        dispatcher = self._dispatcher

        def submit(chunk: list[Any], tell: Callable[[Outcome], None]) -> None:
            def succeed(values: list[Any]) -> None:
                tell((True, values))

            def fail(error: BaseException) -> None:
                tell((False, error))

            dispatcher.submit([Job("map", (function, chunk), pace, succeed, fail)])

        dispatcher.source_begins()
        submissions = (functools.partial(submit, chunk) for chunk in chunks)
        iterator = IMapIterator(
            self, submissions, _CHUNKS_AHEAD * self._count, dispatcher.source_ends, ordered=ordered
        )
        self._iterators.add(iterator)
        return iterator


def _key_of(func: Callable[..., Any]) -> object:
    """What jobs of one function have in common, though each may bring another closure along."""
    code: object = getattr(func, "__code__", None)
    return code or (type(func), getattr(func, "__qualname__", ""))


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    if size < 1:
        raise ValueError(f"chunksize must be at least 1, got {size}")
    source = iter(items)

    def cut() -> Iterator[list[Any]]:
        while chunk := list(itertools.islice(source, size)):
            yield chunk

    return cut()


def _check_count(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {type(value).__name__} {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
