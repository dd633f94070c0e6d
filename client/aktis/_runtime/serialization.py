"""The hooks of the C++ core: how Python values become bytes and come back.

Plain builtin values never come here: the core pickles them by itself. What does come is pickled by
cloudpickle with protocol 5, so that large buffers (NumPy, Arrow) go to shared memory without a copy and are
read in place.
"""

import pickle
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from aktis._runtime import current
from aktis._runtime.errors import decode_error
from aktis._runtime.pickling import dump_buffers, unpicklable
from aktis.exceptions import ObjectFetchTimedOutError, ObjectStoreFullError, SessionEndedError


def serialize(value: Any) -> tuple[bytes, Sequence[Any]]:
    """Return the pickle of a value and its out-of-band buffers.

    Raises:
        TypeError: the value cannot be pickled; the message names the member at fault.
    """
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            buffers.append(buffer.raw())
        except BufferError:  # not contiguous: copied in-band
            return True
        return False

    try:
        return dump_buffers(value, keep), buffers
    except Exception as error:
        raise unpicklable("a value for another process", value, error) from error


def load_error(inband: bytes) -> BaseException:
    """Return the exception that an error object holds; the core raises it."""
    return decode_error(inband)


def store_full(message: str) -> BaseException:
    """Return the exception for a value that found no room in the object store."""
    return ObjectStoreFullError(message)


def cannot_load(error: BaseException, inband: bytes, object_hex: str) -> BaseException:
    """Return the exception for a value of which the pickle could not be loaded."""
    from aktis._runtime.loading import loading_error

    what = f"object {object_hex}" if object_hex else "what a task was given as arguments"
    return loading_error(error, inband, what)


def about_to_block(what: str) -> None:
    """Warn when the calling thread, which is going to wait, runs an event loop, which then stands still.

    Not a loop that says it ``may_block``: one of our own, which nobody else uses.
    """
    asyncio = sys.modules.get("asyncio")
    loop = asyncio._get_running_loop() if asyncio is not None else None
    if loop is not None and not getattr(loop, "may_block", False):
        warnings.warn(
            f"a coroutine waits {what}, and its event loop stands still meanwhile: "
            "use `await asyncio.to_thread(aktis.put, value)` where that may happen",
            RuntimeWarning,
            stacklevel=3,
        )


def session_ended(message: str) -> BaseException:
    """Return the exception for what belongs to a session that has ended."""
    return SessionEndedError(message)


def fetch_timed_out(object_hex: str, owner_hex: str, node_hex: str) -> BaseException:
    """Return the exception for an argument that did not come into this process in time."""
    return ObjectFetchTimedOutError(
        object_hex,
        f"it is an argument that its owner (worker {owner_hex}, node {node_hex}) has in shared memory, "
        f"and it was not there within {current.require().fetch_timeout_s:g} s",
    )
