"""Two functions for type checkers. When a program runs they return what they are given."""

from typing import TypeVar, cast

from aktis._core import ObjectRef
from aktis._runtime.actor_handle import ActorHandle

T = TypeVar("T")


def typed_handle(handle: ActorHandle[T]) -> type[T]:
    """Return a handle as what type checkers know the methods of.

    They take it for the class, whose methods with ``@aktis.method`` have a ``remote`` that checks its
    arguments and says what it refers to. Methods without that decorator have none for them.

    Args:
        handle: A handle to an actor of class ``T``.

    Example:
        >>> class Counter:
        ...     def __init__(self) -> None:
        ...         self.value = 0
        ...     @aktis.method
        ...     def add(self, by: int) -> int:
        ...         self.value += by
        ...         return self.value
        >>> counter = typed_handle(aktis.remote(Counter).remote())
        >>> aktis.get(counter.add.remote(2))
        2
    """
    return cast("type[T]", handle)


def as_argument(ref: ObjectRef[T]) -> T:
    """Return a reference as what type checkers take for its value, to be an argument of ``.remote()``.

    Needed where a reference is passed by name or after the sixth argument, which they cannot know to be
    resolved before the function runs.

    Args:
        ref: A reference.

    Example:
        >>> @aktis.remote
        ... def scale(value: int, *, factor: int) -> int:
        ...     return value * factor
        >>> aktis.get(scale.remote(2, factor=as_argument(aktis.put(3))))
        6
    """
    return cast(T, ref)
