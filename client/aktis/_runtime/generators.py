"""Streaming generators: a task whose results arrive one by one, while it runs."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Generic, NoReturn, TypeVar

from aktis._core import TASK_DYNAMIC, TASK_STREAMING, ObjectRef, StreamReader, open_stream
from aktis._runtime import current
from aktis._runtime.ids import TaskID

T = TypeVar("T", covariant=True)

_FOREVER_S = -1.0


class ObjectRefGenerator(Generic[T]):
    """What ``.remote()`` of a generator returns: an iterator over references to what it yields, as it does.

    ``next()`` waits for the next item and raises StopIteration after the last. An exception of the generator
    is its last item: ``get`` of that reference raises it. Works with ``for``, ``async for`` and ``wait``. It
    belongs to the process that made the call and cannot be sent to others: send the references. When it is
    dropped the task goes on to its end, but what it yields is not kept.

    Example:
        >>> @aktis.remote
        ... def count(n):
        ...     yield from range(n)
        >>> [aktis.get(ref) for ref in count.remote(3)]
        [0, 1, 2]
    """

    def __init__(self, completed: ObjectRef[Any]) -> None:
        """Made by ``.remote()``; ``completed`` is the task's own result."""
        self._completed = completed
        self._stream: StreamReader = open_stream(completed)

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return self

    def __next__(self) -> ObjectRef[T]:
        ref = self._stream.next(_FOREVER_S)
        if ref is None:
            raise StopIteration
        assert ref is not False, "a wait without limit was out of time"
        return ref

    def __aiter__(self) -> AsyncIterator[ObjectRef[T]]:
        return self

    async def __anext__(self) -> ObjectRef[T]:
        while True:
            ref = self._stream.next(0.0)
            if ref is None:
                raise StopAsyncIteration
            if ref is not False:
                return ref
            await _existence(self._stream.peek())

    def completed(self) -> ObjectRef[None]:
        """Return a reference that is ready when the task has ended; ``get`` of it raises the task's error."""
        return self._completed

    def is_finished(self) -> bool:
        """Whether every item has been taken and the task has ended."""
        return self._stream.ended()

    def next_ready(self) -> bool:
        """Whether ``next()`` would not have to wait."""
        ref = self._stream.peek()
        return ref is None or current.require_for(ref).core.is_ready(ref)

    def task_id(self) -> TaskID:
        """Return the id of the task."""
        return self._completed.task_id()

    def peek(self) -> ObjectRef[Any]:
        """Return what stands for the next item in ``wait``: its object, or the completion at the end."""
        return self._stream.peek() or self._completed

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "an ObjectRefGenerator belongs to the process that called the generator and cannot be sent: "
            "take its references and send those"
        )

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({self._completed.task_id().hex()})"


class DynamicObjectRefGenerator(Generic[T]):
    """The value of a task with ``num_returns="dynamic"``: references to all that it has yielded."""

    def __init__(self, refs: list[ObjectRef[T]]) -> None:
        """Hold ``refs``, in order."""
        self._refs = refs

    def __iter__(self) -> Iterator[ObjectRef[T]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    def __getitem__(self, index: int) -> ObjectRef[T]:
        return self._refs[index]


def template_returns(returns: int | str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the template of a task needs to know of how its results come, without ``flags``."""
    if returns != "streaming":
        return {"num_returns": 1 if isinstance(returns, str) else returns}
    limit = options.get(
        "generator_backpressure_num_objects", options.get("_generator_backpressure_num_objects", -1)
    )
    return {"num_returns": 1, "stream_limit": max(limit, 0)}


FLAGS: Mapping[int | str, int] = {"streaming": TASK_STREAMING, "dynamic": TASK_DYNAMIC}


def returning_generators(submit: Callable[..., Any]) -> Callable[..., ObjectRefGenerator[Any]]:
    """Return a submission of streaming tasks that hands out generators instead of references."""

    def submit_streaming(*call: Any) -> ObjectRefGenerator[Any]:
        return ObjectRefGenerator(submit(*call))

    return submit_streaming


async def _existence(ref: ObjectRef[Any] | None) -> None:
    """Wait until an object exists, without looking at it."""
    if ref is None:
        return
    watchers = current.require_for(ref).watchers
    await watchers.end(watchers.begin([ref], value=False))
