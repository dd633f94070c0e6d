"""get, put, free, wait, cancel: what a program does with references."""

import math
import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, overload

from aktis._core import ObjectRef
from aktis._runtime import current
from aktis._runtime.generators import ObjectRefGenerator
from aktis.exceptions import GetTimeoutError, ObjectFreedError

T = TypeVar("T")
U = TypeVar("U")
V = TypeVar("V")
W = TypeVar("W", bound=ObjectRef[Any] | ObjectRefGenerator[Any])

_FOREVER_S = -1.0

event_loop_thread = 0
"""The thread whose waits hold up every call of this process: that of an async actor. 0: there is none."""


@overload
def get(object_refs: ObjectRef[T], *, timeout: float | None = None) -> T: ...
@overload
def get(object_refs: tuple[ObjectRef[T], ObjectRef[U]], *, timeout: float | None = None) -> list[T | U]: ...
@overload
def get(
    object_refs: tuple[ObjectRef[T], ObjectRef[U], ObjectRef[V]], *, timeout: float | None = None
) -> list[T | U | V]: ...
@overload
def get(object_refs: ObjectRefGenerator[T], *, timeout: float | None = None) -> ObjectRefGenerator[T]: ...
@overload
def get(object_refs: Sequence[ObjectRef[T]], *, timeout: float | None = None) -> list[T]: ...
@overload
def get(object_refs: Sequence[ObjectRef[Any]], *, timeout: float | None = None) -> list[Any]: ...
def get(object_refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for objects and return their values.

    Args:
        object_refs: One reference, or a list of them. A generator is returned as it is: iterate over it.
        timeout: Seconds to wait; 0 takes what is there now, None waits as long as it takes.

    Returns:
        The value, or a list of values in the order of the references. Arrays are views of shared memory and
        read-only.

    Raises:
        GetTimeoutError: not all values were there in time.
        TaskError: the task that makes an object failed; an instance of the user's exception type as well. The
            first error in the order of the references is raised.
        AktisError: an object is lost, its task was cancelled, ...
        TypeError, ValueError: not references, or a bad timeout.

    Example:
        >>> aktis.get([aktis.put("a"), aktis.put("b")])
        ['a', 'b']
    """
    session = current.session or current.require_for(object_refs)
    timeout_s = _FOREVER_S if timeout is None else _seconds("get", timeout)
    if event_loop_thread:
        _look_at_loop("get", object_refs)
    if type(object_refs) is ObjectRef:
        values = session.core.get((object_refs,), timeout_s)
        if values is not None:
            return values[0]
    elif type(object_refs) is ObjectRefGenerator:
        return object_refs  # it has no value but its items
    else:
        _check_refs_of_get(object_refs)
        values = session.core.get(object_refs, timeout_s)
        if values is not None:
            return values
    raise _timed_out(object_refs if isinstance(object_refs, list | tuple) else [object_refs], timeout_s)


def _look_at_loop(function: str, refs: Any) -> None:
    """Warn a coroutine that is about to wait without letting others run."""
    if threading.get_ident() != event_loop_thread:
        return
    session = current.require()
    listed = refs if isinstance(refs, list | tuple) else [refs]
    if not all(type(ref) is not ObjectRef or session.core.is_ready(ref) for ref in listed):
        session.advice.blocks_loop(function)


def _check_refs_of_get(refs: object) -> None:
    if not isinstance(refs, list | tuple):
        raise ValueError(
            f"get() takes an ObjectRef or a list of them, got {type(refs).__name__} {refs!r}{_instead(refs)}"
        )
    for ref in refs:
        if type(ref) is not ObjectRef:
            raise TypeError(f"get() takes ObjectRefs, but the list holds {type(ref).__name__} {ref!r}")


def _instead(value: object) -> str:
    """What who gave us something else than a reference may have meant."""
    kind = type(value).__name__
    if kind in ("RemoteFunction", "ActorMethod"):
        return ": call its .remote() and get() what that returns"
    if kind == "ActorHandle":
        return ": call .remote() of one of its methods and get() what that returns"
    if kind == "dict":
        return ": get() a list of its values"
    return ": make a list of it" if isinstance(value, Iterable) and not isinstance(value, str | bytes) else ""


def _timed_out(refs: Sequence[ObjectRef[Any]], timeout_s: float) -> GetTimeoutError:
    core = current.require_for(refs).core
    missing = [ref for ref in refs if not core.is_ready(ref)]
    first = f", the first is {missing[0].hex()}" if missing else ""
    return GetTimeoutError(
        f"{len(missing)} of {len(refs)} objects were not ready within {timeout_s:g} s{first}. "
        "They are still being computed or fetched: get() them again, or cancel() what makes them."
    )


def _seconds(function: str, timeout: object) -> float:
    if not isinstance(timeout, int | float) or isinstance(timeout, bool):
        raise TypeError(f"{function}() needs a number of seconds as timeout, got {timeout!r}")
    if math.isnan(timeout) or timeout < 0:
        raise ValueError(f"{function}() needs a timeout of at least 0 s, got {timeout!r}")
    return _FOREVER_S if math.isinf(timeout) else float(timeout)


def put(
    value: T,
    *,
    _owner: object = None,
    _pin_memory: bool = False,
    _tensor_transport: str | None = None,
) -> ObjectRef[T]:
    """Store a value and return a reference to it; the calling process owns it.

    Args:
        value: Anything that can be pickled, but a reference: put it into a list to store one.
        _owner: Accepted as None only: the process that calls put() is the owner. Let an actor call it for an
            object that the actor is to own.
        _pin_memory: Accepted for compatibility: what is referenced is always kept in memory.
        _tensor_transport: Accepted as None or "object_store" only.

    Raises:
        TypeError: the value cannot be pickled (names the member at fault), or is a reference.
        ValueError: an argument is not among those accepted.
        ObjectStoreFullError: the store has no room for it, now and for ``plasma.create_timeout_ms``.
        ConnectionError: the store is gone.

    Example:
        >>> aktis.get(aktis.put({"a": 1}))
        {'a': 1}
    """
    session = current.session or current.require()
    if type(value) is ObjectRef:
        raise TypeError("put() does not take an ObjectRef, which is one already: put a list that holds it")
    if _owner is not None or _tensor_transport is not None:
        _check_options_of_put(_owner, _tensor_transport)
    return session.core.put(value)


def _check_options_of_put(owner: object, tensor_transport: object) -> None:
    if owner is not None:
        raise ValueError(
            f"put() cannot make {owner!r} the owner of the object, which is the process that calls put(): "
            "let a method of the actor put the value and return the reference"
        )
    if tensor_transport not in (None, "object_store"):
        raise ValueError(f"put() knows the transport 'object_store' only, not {tensor_transport!r}")


def free(refs: ObjectRef[Any] | Sequence[ObjectRef[Any]], local_only: bool = False) -> None:
    """Let the values of objects go now, although there are references to them.

    For large objects of which the program knows better than its references that nobody needs them. Who has an
    array of a value goes on reading it; ``get`` raises ObjectFreedError from then on, in every process, and
    nothing is computed again. An object that does not exist yet is freed when it does; one that is an error
    stays that.

    Args:
        refs: A reference, or a list of them. Any process that holds one may free an object.
        local_only: Only the copy on this node. As long as a cluster has one node, that is the only one.

    Raises:
        TypeError: not references.
        SessionEndedError: the references are of a session that has ended.

    Example:
        >>> ref = aktis.put("large")
        >>> aktis.free([ref])
        >>> aktis.get(ref)
        Traceback (most recent call last):
        ...
        aktis.exceptions.ObjectFreedError: Object ... was freed explicitly by process ...
    """
    del local_only
    wanted = [refs] if type(refs) is ObjectRef else refs
    if not isinstance(wanted, list | tuple):
        raise TypeError(f"free() takes an ObjectRef or a list of them, got {type(refs).__name__} {refs!r}")
    for ref in wanted:
        if type(ref) is not ObjectRef:
            raise TypeError(f"free() takes ObjectRefs, but the list holds {type(ref).__name__} {ref!r}")
    from aktis._runtime.errors import encode_error

    session = current.require_for(wanted)
    who = f"by process {os.getpid()} (worker {session.worker_id.hex()})"
    for ref in wanted:
        session.core.free(ref, encode_error(ObjectFreedError(ref.hex(), who)))


def wait(
    refs: Sequence[W],
    *,
    num_returns: int = 1,
    timeout: float | None = None,
    fetch_local: bool = True,
) -> tuple[list[W], list[W]]:
    """Wait until some objects are ready; an object whose task failed is ready too.

    Args:
        refs: Distinct references; also generators, which are ready when ``next()`` would not wait.
        num_returns: How many to wait for.
        timeout: Seconds to wait at most; 0 looks only, None waits as long as it takes.
        fetch_local: An object is ready when it is on this node, not only when it exists.

    Returns:
        The ready ones, exactly ``num_returns`` unless the time was up, and the others; both in the order of
        ``refs``.

    Raises:
        TypeError, ValueError: an argument is not valid; the message says which.

    Example:
        >>> ready, others = aktis.wait([aktis.put(1), aktis.put(2)], num_returns=1)
        >>> len(ready), len(others)
        (1, 1)
    """
    session = current.session or current.require_for(refs)
    _check_types_of_wait(refs, num_returns)
    if event_loop_thread:
        _look_at_loop("wait", refs)
    if any(type(ref) is ObjectRefGenerator for ref in refs):
        return _wait_for_generators(refs, num_returns, timeout, fetch_local)
    timeout_s = _FOREVER_S if timeout is None else _seconds("wait", timeout)
    if not 1 <= num_returns <= len(refs):
        _check_refs_of_wait(refs)
        if not refs:
            return [], []
        raise ValueError(f"num_returns must be between 1 and the {len(refs)} references, got {num_returns}")
    # More may be ready than were asked for: the first ones in order count, the rest is for the next wait.
    split = session.core.wait(refs, num_returns, timeout_s, fetch_local)
    if split is None:
        _check_refs_of_wait(refs)
        raise ValueError("wait() takes distinct references, but one is in the list more than once")
    return split


def _wait_for_generators(
    refs: Sequence[Any], num_returns: int, timeout: float | None, fetch_local: bool
) -> tuple[list[Any], list[Any]]:
    """A generator is ready when its next item has come, or its end."""
    asked = {ref.peek() if type(ref) is ObjectRefGenerator else ref: ref for ref in refs}
    if len(asked) != len(refs):
        raise ValueError("wait() takes distinct references, but one is in the list more than once")
    ready, others = wait(list(asked), num_returns=num_returns, timeout=timeout, fetch_local=fetch_local)
    return [asked[ref] for ref in ready], [asked[ref] for ref in others]


def _check_types_of_wait(refs: object, num_returns: object) -> None:
    if not isinstance(refs, list | tuple):
        hint = ": put it into a list" if type(refs) is ObjectRef else _instead(refs)
        raise TypeError(f"wait() takes a list of ObjectRefs, got {type(refs).__name__} {refs!r}{hint}")
    if not isinstance(num_returns, int) or isinstance(num_returns, bool):
        raise TypeError(f"wait() needs an int as num_returns, got {num_returns!r}")


def _check_refs_of_wait(refs: Sequence[object]) -> None:
    for ref in refs:
        if type(ref) is not ObjectRef:
            raise TypeError(f"wait() takes ObjectRefs, but the list holds {type(ref).__name__} {ref!r}")


def cancel(
    ref: ObjectRef[Any] | ObjectRefGenerator[Any], *, force: bool = False, recursive: bool = True
) -> None:
    """Cancel the task that makes an object; ``get`` of it then raises TaskCancelledError.

    A task that has not started never runs. A running one gets KeyboardInterrupt (a coroutine of an async
    actor: asyncio.CancelledError), and may finish all the same if it does not heed that. A finished one
    stays as it is.

    Args:
        ref: A reference or a generator that ``.remote()`` returned, in whatever process.
        force: Kill the worker of a running task. Not for calls of actors: kill() ends an actor.
        recursive: Cancel what the task has submitted as well.

    Raises:
        TypeError: not an ObjectRef.
        ValueError: ``force`` for a call of an actor that has not ended, as far as this process knows.
    """
    if type(ref) is ObjectRefGenerator:
        ref = ref.completed()
    if type(ref) is not ObjectRef:
        raise TypeError(
            f"cancel() takes an ObjectRef, got {type(ref).__name__} {ref!r}; kill() is for actors"
        )
    from aktis._runtime.cancel import cancel_task

    cancel_task(current.require_for(ref), ref, force=force, recursive=recursive)
