"""Serializers of the program's own for classes that pickle cannot handle, or not well enough."""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def register_serializer(
    cls: type[T], *, serializer: Callable[[T], Any], deserializer: Callable[[Any], T]
) -> None:
    """Make this process serialize the instances of a class by a function of its own.

    Subclasses are not meant. The deserializer travels with each value, so that other processes can read it
    without more; one that is to send instances on registers the class too. A later registration of a class
    replaces the earlier one.

    Args:
        cls: The class.
        serializer: Takes an instance, returns something that can be serialized.
        deserializer: Takes what the serializer returned, returns an instance.

    Raises:
        TypeError: not a class, or not callables.

    Example:
        >>> import threading
        >>> class Guarded:
        ...     def __init__(self, value):
        ...         self.value, self.lock = value, threading.Lock()
        >>> register_serializer(Guarded, serializer=lambda it: it.value, deserializer=Guarded)
        >>> aktis.get(aktis.put(Guarded(3))).value
        3
        >>> deregister_serializer(Guarded)
    """
    from aktis._runtime import pickler

    _check_class("register_serializer", cls)
    for name, function in (("serializer", serializer), ("deserializer", deserializer)):
        if not callable(function):
            raise TypeError(f"{name} must be callable, got {type(function).__name__} {function!r}")
    pickler.custom_reducers[cls] = lambda value: (deserializer, (serializer(value),))


def deregister_serializer(cls: type) -> None:
    """Undo `register_serializer`; a class without one stays as it is.

    Raises:
        TypeError: not a class.
    """
    from aktis._runtime import pickler

    _check_class("deregister_serializer", cls)
    pickler.custom_reducers.pop(cls, None)


def _check_class(function: str, cls: object) -> None:
    if not isinstance(cls, type):
        raise TypeError(f"{function}() takes a class, got {type(cls).__name__} {cls!r}")
