"""Results in the order in which they are ready."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import aktis


def as_completed(
    refs: Sequence[aktis.ObjectRef[Any]],
    *,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Yield the values of references as they become ready, the first one as soon as it is.

    Args:
        refs: Distinct references.
        chunk_size: How many values are fetched at once at most.
        yield_obj_refs: Yield the references instead of their values.
        kwargs: Further arguments of `aktis.wait`: ``fetch_local``, and ``timeout`` for a single wait.

    Raises:
        ValueError: ``chunk_size`` is below 1, or ``num_returns`` is given.
        Exception: what a task raised, when its turn comes.

    Example:
        >>> @aktis.remote
        ... def double(value):
        ...     return 2 * value
        >>> sorted(as_completed([double.remote(n) for n in range(3)]))
        [0, 2, 4]
    """
    _check(chunk_size, kwargs)
    return _completed(list(refs), chunk_size, yield_obj_refs, kwargs)


def map_unordered(
    fn: Any,
    items: Iterable[Any],
    *,
    backpressure_size: int | None = 100,
    chunk_size: int = 10,
    yield_obj_refs: bool = False,
    **kwargs: Any,
) -> Iterator[Any]:
    """Call ``fn.remote(item)`` for every item and yield the results as they become ready.

    The items may be endless: they are taken as results are.

    Args:
        fn: A remote function or a method of an actor.
        items: One argument per call.
        backpressure_size: How many calls are under way at most; None: no limit.
        chunk_size: As in `as_completed`.
        yield_obj_refs: As in `as_completed`.
        kwargs: As in `as_completed`.

    Raises:
        ValueError: ``backpressure_size`` or ``chunk_size`` is below 1.
        Exception: what a task raised, when its turn comes.

    Example:
        >>> @aktis.remote
        ... def double(value):
        ...     return 2 * value
        >>> sorted(map_unordered(double, range(3)))
        [0, 2, 4]
    """
    _check(chunk_size, kwargs)
    if backpressure_size is not None and backpressure_size < 1:
        raise ValueError(f"backpressure_size must be at least 1 or None, got {backpressure_size}")
    return _mapped(fn, iter(items), backpressure_size, chunk_size, yield_obj_refs, kwargs)


def _check(chunk_size: int, kwargs: dict[str, Any]) -> None:
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, got {chunk_size}")
    if "num_returns" in kwargs:
        raise ValueError("num_returns is not for here: chunk_size says how many values are fetched at once")


def _completed(
    pending: list[aktis.ObjectRef[Any]], chunk_size: int, yield_refs: bool, kwargs: dict[str, Any]
) -> Iterator[Any]:
    while pending:
        ready, pending = _take_ready(pending, kwargs)
        for chunk in _chunks(ready, chunk_size):
            yield from chunk if yield_refs else aktis.get(chunk)


def _mapped(
    fn: Any,
    items: Iterator[Any],
    limit: int | None,
    chunk_size: int,
    yield_refs: bool,
    kwargs: dict[str, Any],
) -> Iterator[Any]:
    pending = [fn.remote(item) for item in islice(items, limit)]
    while pending:
        ready, pending = _take_ready(pending, kwargs)
        for chunk in _chunks(ready, chunk_size):
            pending.extend(fn.remote(item) for item in islice(items, len(chunk)))
            yield from chunk if yield_refs else aktis.get(chunk)


def _take_ready(
    pending: list[aktis.ObjectRef[Any]], kwargs: dict[str, Any]
) -> tuple[list[aktis.ObjectRef[Any]], list[aktis.ObjectRef[Any]]]:
    """Wait for one, then take all that are ready: many short waits over a long list would be quadratic."""
    first, others = aktis.wait(pending, num_returns=1, **kwargs)
    if not first or not others:
        return first, others
    more, others = aktis.wait(others, num_returns=len(others), **{**kwargs, "timeout": 0})
    return first + more, others


def _chunks(refs: list[aktis.ObjectRef[Any]], size: int) -> Iterator[list[aktis.ObjectRef[Any]]]:
    for start in range(0, len(refs), size):
        yield refs[start : start + size]
