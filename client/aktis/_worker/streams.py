"""Running generators: each item is sent as it comes, and the generator waits while its consumer lags."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from aktis._core import Core, Task, send_item, stream_room
from aktis._runtime.generators import DynamicObjectRefGenerator
from aktis._worker.coroutine_store import CoroutineStore


def run_generator(core: Core, task: Task, result: Any) -> Any:
    """Run the generator that a task's function has returned, to its end; return the task's own result.

    Raises:
        TypeError: the function returned something that is no iterator.
        BaseException: what the generator raises.
    """
    if not isinstance(result, Iterator):
        raise _no_generator(task, result)
    if task.dynamic:
        return DynamicObjectRefGenerator([core.put(item) for item in result])
    for item in result:
        if not send_item(task, item):
            stream_room(task)
    return None


async def run_async_generator(core: Core, store: CoroutineStore, task: Task, result: Any) -> Any:
    """Like `run_generator` on an event loop, which never waits for a consumer; ``result`` may be either kind.

    Raises:
        TypeError: the function returned something that is no iterator.
        BaseException: what the generator raises.
    """
    if isinstance(result, Iterator):
        result = _asynchronous(result)
    if not isinstance(result, AsyncIterator):
        raise _no_generator(task, result)
    if task.dynamic:
        return DynamicObjectRefGenerator([core.put(item) async for item in result])
    async for item in result:
        if not await store.send_item(task, item):
            await asyncio.to_thread(stream_room, task)
    return None


async def _asynchronous(iterator: Iterator[Any]) -> AsyncIterator[Any]:
    for item in iterator:
        yield item


def _no_generator(task: Task, result: Any) -> TypeError:
    return TypeError(
        f"{task.name} must be a generator because of its num_returns, it returned {type(result).__name__}"
    )
