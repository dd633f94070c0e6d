"""Pickling what users hand over, and saying which part of it cannot be pickled."""

import functools
import types
from collections.abc import Callable, Iterator
from typing import Any, Final

from aktis._core import collect_references

_MAX_DEPTH: Final = 8
_MAX_MEMBERS_TRIED: Final = 2_000


def dumps(value: object) -> bytes:
    """Pickle by value what other processes cannot import, without out-of-band buffers."""
    from aktis._runtime import pickler

    return pickler.dumps(value)


def dump_buffers(value: object, buffer_callback: Callable[[Any], Any]) -> bytes:
    """Pickle with large buffers handed to ``buffer_callback`` instead of copied."""
    from aktis._runtime import pickler

    return pickler.dumps(value, buffer_callback)


class NotPicklableError(TypeError):
    """A value cannot be pickled; ``value`` is all of it and ``reason`` what pickle said."""

    def __init__(self, message: str, value: object = None, reason: str = "") -> None:
        """See `unpicklable`."""
        super().__init__(message)
        self.value = value
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.args[0], None, self.reason))  # the value is what cannot be pickled


def unpicklable(what: str, value: object, reason: BaseException | str) -> NotPicklableError:
    """Return the TypeError for a value that cannot be pickled; it names the member at fault.

    Args:
        what: What the value is to the user, for example ``"argument 1 of f()"``.
        reason: What pickle raised, or its message.
    """
    said = str(reason) or type(reason).__name__
    path, culprit = find_culprit(value)
    where = f"{path} is the member at fault: {_short(culprit)}" if path else f"it is {_short(value)}"
    return NotPicklableError(
        f"cannot serialize {what}: {said}; {where}. "
        "Make it inside of the task or actor instead, or leave it out with __getstate__ or __reduce__.",
        value,
        said,
    )


def unpicklable_arguments(
    function: str, args: tuple[Any, ...], kwargs: dict[str, Any], error: NotPicklableError
) -> NotPicklableError:
    """Return the error for a call of which an argument cannot be pickled; it names the argument."""
    named = [*((str(index), item) for index, item in enumerate(args)), *kwargs.items()]
    for name, item in named:
        if not is_picklable(item):
            return unpicklable(f"argument {name} of {function}()", item, error.reason)
    return error


def find_culprit(value: object) -> tuple[str, object]:
    """Walk into a value that cannot be pickled, to the innermost member that cannot.

    Returns its path, such as ``.engine['lock']`` (empty: the value itself), and the member.
    """
    path = ""
    seen: set[int] = set()
    budget = _MAX_MEMBERS_TRIED
    for _ in range(_MAX_DEPTH):
        seen.add(id(value))
        for step, member in members(value):
            budget -= 1
            if budget < 0 or id(member) in seen or is_picklable(member):
                continue
            path, value = path + step, member
            break
        else:
            break
    return path, value


def is_picklable(value: object) -> bool:
    """Whether a value can be sent to other processes."""
    try:
        collect_references(lambda: dumps(value))  # nobody keeps this pickle: it must not keep references
    except Exception:
        return False
    return True


def members(value: object) -> Iterator[tuple[str, object]]:
    """Yield what pickling would go on with, each with the expression that leads there."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"[{_short(key)}]", item
            yield f".key({_short(key)})", key
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, functools.partial):
        yield from (
            (".func", value.func),
            *((f".args[{index}]", item) for index, item in enumerate(value.args)),
            *((f".keywords[{key!r}]", item) for key, item in value.keywords.items()),
        )
    elif isinstance(value, types.MethodType):
        yield ".__self__", value.__self__
    elif isinstance(value, types.FunctionType):
        yield from _function_members(value)
    elif isinstance(value, type):
        yield from ((f".{name}", item) for name, item in vars(value).items() if not name.startswith("__"))
        for name in ("__init__", "__call__", "__enter__", "__exit__"):
            if name in vars(value):
                yield f".{name}", vars(value)[name]
    else:
        for name in _attributes(value):
            yield f".{name}", getattr(value, name, None)


def _function_members(function: types.FunctionType) -> Iterator[tuple[str, object]]:
    """The variables that a function brings along."""
    code = function.__code__
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" -> variable {name!r} that {function.__name__} closes over", cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    for name in code.co_names:
        if name in function.__globals__:
            yield f" -> global {name!r} that {function.__name__} uses", function.__globals__[name]
    for index, item in enumerate(function.__defaults__ or ()):
        yield f" -> default {index} of {function.__name__}", item


def _attributes(value: object) -> list[str]:
    names = list(getattr(value, "__dict__", {}))
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        names.extend([slots] if isinstance(slots, str) else slots)
    return names


def _short(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 80 else f"{text[:77]}..."
