"""Marks of stability that libraries put on what they add; they change nothing."""

from collections.abc import Callable
from typing import Any, TypeVar

_Thing = TypeVar("_Thing")


class RayDeprecationWarning(DeprecationWarning):
    """A category for filters; nothing here warns with it."""


def _mark(*args: Any, **_: Any) -> Any:
    """Return what is marked as it is, with or without arguments of the mark."""
    if len(args) == 1 and callable(args[0]):
        return args[0]
    unmarked: Callable[[_Thing], _Thing] = lambda thing: thing  # noqa: E731
    return unmarked


PublicAPI = DeveloperAPI = Deprecated = _mark

__all__ = ["Deprecated", "DeveloperAPI", "PublicAPI", "RayDeprecationWarning"]
