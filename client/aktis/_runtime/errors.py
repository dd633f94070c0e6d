"""Exceptions on the wire: how a failure in one process becomes an exception in another.

A TaskError keeps the user's exception type: `make_task_error` builds an instance of a class that derives from
TaskError and from that type. The user's exception is pickled on its own inside of it, so that one which
cannot be pickled, or loaded where its module is missing, costs its type and not the message.
"""

import contextlib
import io
import pickle
import traceback
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakKeyDictionary

from aktis._runtime.pickling import dumps
from aktis.exceptions import AktisError, TaskError

_MAX_CAUSES: Final = 8
_MAX_EVENT_CHARACTERS: Final = 1024
_MAX_TRACEBACK_CHARACTERS: Final = 64 * 1024
_dual_classes: "WeakKeyDictionary[type, type[TaskError]]" = WeakKeyDictionary()


def encode_error(error: BaseException) -> bytes:
    """Serialize an exception of ours; loaded by `decode_error` in any process of the job."""
    try:
        return dumps(error)
    except Exception:  # an attribute that somebody attached to it
        return dumps(AktisError(f"{type(error).__name__}: {error}"))


def error_text(error: BaseException) -> str:
    """Return type and message for the task events, which keep the first 1024 bytes. Never raises."""
    try:
        said = str(error)
    except Exception as problem:
        said = f"(its message cannot be had: {type(problem).__name__})"
    text = f"{type(error).__name__}: {said}"[:_MAX_EVENT_CHARACTERS]
    return text.encode(errors="backslashreplace").decode()


def decode_error(data: bytes | memoryview) -> BaseException:
    """Load what `encode_error` made. Never raises: what cannot be loaded becomes an AktisError."""
    try:
        error = pickle.loads(data)
    except Exception as problem:
        return AktisError(f"an error arrived that cannot be loaded here: {type(problem).__name__}: {problem}")
    return error if isinstance(error, BaseException) else AktisError(f"an error arrived as {error!r}")


def task_failure(function_name: str, error: BaseException, pid: int, skip_frames: int = 0) -> TaskError:
    """Return what the callers of a task get when its function raised ``error``.

    Args:
        skip_frames: Frames of our own at the top of the traceback, which would only distract.
    """
    trace = error.__traceback__
    for _ in range(skip_frames):
        if trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    text = "".join(lines)
    if len(text) > _MAX_TRACEBACK_CHARACTERS:
        half = _MAX_TRACEBACK_CHARACTERS // 2
        text = f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"
    return make_task_error(function_name, text, error, pid)


def make_task_error(
    function_name: str, traceback_str: str, cause: BaseException | None, pid: int = 0
) -> TaskError:
    """Return a TaskError that is an instance of the user's exception type as well, where that is possible."""
    user = _user_exception(cause)
    if user is not None:
        with contextlib.suppress(Exception):
            return _dual_error(function_name, traceback_str, cause, user, pid)
    return TaskError(function_name, traceback_str, cause, pid)


def _user_exception(error: BaseException | None) -> BaseException | None:
    """The exception that user code raised at the bottom of tasks that failed because of one another."""
    while isinstance(error, TaskError):
        error = error.cause
    return error if isinstance(error, Exception) else None


def _dual_error(
    function_name: str, traceback_str: str, cause: BaseException | None, user: BaseException, pid: int
) -> TaskError:
    cls = _dual_class(type(user))
    # Not cls.__new__: of several built-in bases it is the first one's, which may not be the right one.
    error: TaskError = _builtin_of(cls).__new__(cls, *user.args)
    error.__dict__.update(user.__dict__)
    builtin = _builtin_of(type(user))
    # What C keeps outside of __dict__: errno, the positions of UnicodeError.
    with contextlib.suppress(Exception):
        arguments: tuple[Any, ...] = builtin.__reduce__(user)[1]  # type: ignore[assignment]
        builtin.__init__(error, *arguments)
    TaskError.__init__(error, function_name, traceback_str, cause, pid)
    error.args = user.args
    return error


def _builtin_of(cls: type[BaseException]) -> type[BaseException]:
    """Return the built-in exception that says how instances are laid out in memory."""
    while cls.__module__ != "builtins":
        assert cls.__base__ is not None
        cls = cls.__base__
    return cls


def _dual_class(user_type: type[BaseException]) -> type[TaskError]:
    if issubclass(user_type, TaskError):
        return user_type
    known = _dual_classes.get(user_type)
    if known is None:
        body: dict[str, Any] = {
            "__module__": TaskError.__module__,
            "__doc__": user_type.__doc__,
            "__init__": TaskError.__init__,
            "__reduce__": TaskError.__reduce__,
            "__str__": TaskError.__str__,
        }
        known = type(f"TaskError({user_type.__name__})", (TaskError, user_type), body)
        _dual_classes[user_type] = known
    return known


def reduce_task_error(error: TaskError) -> tuple[Callable[..., TaskError], tuple[Any, ...]]:
    """Pickle a TaskError of whatever class by its parts."""
    fields = (error.function_name, error.traceback_str, error.pid, _pickle_causes(error.cause))
    return (rebuild_task_error, fields)


def rebuild_task_error(function_name: str, traceback_str: str, pid: int, causes: bytes | None) -> TaskError:
    """Load what `reduce_task_error` pickled."""
    return make_task_error(function_name, traceback_str, _load_causes(causes), pid)


def _pickle_causes(error: BaseException | None) -> bytes | None:
    """Pickle an exception with the chain of its causes, which pickle by itself would drop."""
    chain: list[bytes] = []
    while error is not None and len(chain) < _MAX_CAUSES:
        one = _pickle_exception(error)
        if one is None:
            break
        chain.append(one)
        error = error.__cause__
    return pickle.dumps(chain) if chain else None


def _pickle_exception(error: BaseException) -> bytes | None:
    """Pickle as the exception wants it, else by its type, arguments and attributes; None when neither works.

    Many exceptions can be pickled but not loaded, because their __init__ wants other arguments than args has.
    """
    for candidate in (error, _ByState(error)):
        try:
            data = dumps(candidate)
            if isinstance(pickle.loads(data), BaseException):
                return data
        except Exception:  # user code runs here: anything can come
            continue
    return None


class _ByState:
    """Pickles as its exception, without calling the exception's __init__ when it is loaded."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore_exception, (type(self.error), self.error.args, self.error.__dict__))


def _restore_exception(
    cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]
) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


def _load_causes(causes: bytes | None) -> BaseException | None:
    loaded: list[BaseException] = []
    if causes is not None:
        for one in pickle.loads(causes):
            try:
                error = pickle.load(io.BytesIO(one))
            except Exception:
                break
            if not isinstance(error, BaseException):
                break
            if loaded and loaded[-1].__cause__ is None:
                loaded[-1].__cause__ = error
            loaded.append(error)
    return loaded[0] if loaded else None
