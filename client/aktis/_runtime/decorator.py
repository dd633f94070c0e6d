"""``@aktis.remote``: with and without options, on functions and on classes."""

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Protocol, TypeVar, overload

from aktis._runtime.actor_class import ActorClass
from aktis._runtime.options import ACTOR_OPTIONS, TASK_OPTIONS, unknown_option
from aktis._runtime.remote_function import RemoteFunction

if TYPE_CHECKING:
    from typing import Unpack

    from aktis._core import ObjectRef
    from aktis._runtime.generators import DynamicObjectRefGenerator
    from aktis._runtime.option_types import DecoratorOptions, TaskOptions
    from aktis._runtime.typed import FunctionReturning

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Out_co = TypeVar("Out_co", covariant=True)


class RemoteDecorator(Protocol):
    """What ``remote(num_cpus=1)`` returns."""

    @overload
    def __call__(self, target: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, target: Callable[P, R], /) -> RemoteFunction[P, R]: ...


class DynamicDecorator(Protocol):
    """What ``remote(num_returns="dynamic")`` returns."""

    def __call__(
        self, target: Callable[P, Iterator[T]], /
    ) -> "FunctionReturning[P, ObjectRef[DynamicObjectRefGenerator[T]]]":
        """Make a function remote."""


class SeveralDecorator(Protocol[Out_co]):
    """What ``remote(num_returns=2)`` returns."""

    def __call__(self, target: Callable[P, Any], /) -> "FunctionReturning[P, Out_co]":
        """Make a function remote."""


@overload
def remote(target: type[T], /) -> ActorClass[T]: ...  # type: ignore[overload-overlap]
@overload
def remote(target: Callable[P, R], /) -> RemoteFunction[P, R]: ...
@overload
def remote(
    *, num_returns: Literal[1, "streaming"] | None = ..., **options: "Unpack[DecoratorOptions]"
) -> RemoteDecorator: ...
@overload
def remote(*, num_returns: Literal["dynamic"], **options: "Unpack[TaskOptions]") -> DynamicDecorator: ...
@overload
def remote(  # type: ignore[overload-overlap]
    *, num_returns: Literal[0], **options: "Unpack[TaskOptions]"
) -> SeveralDecorator[None]: ...
@overload
def remote(
    *, num_returns: int, **options: "Unpack[TaskOptions]"
) -> "SeveralDecorator[list[ObjectRef[Any]]]": ...
def remote(*targets: Any, **options: Any) -> Any:
    """Make a function run as tasks, or the instances of a class as actors.

    Used as ``@remote``, as ``@remote(num_cpus=2)``, or as a function: ``remote(f)``.

    Args:
        targets: The function or class.
        options: For both: ``num_cpus``, ``num_gpus``, ``memory`` (bytes), ``resources``,
            ``accelerator_type``, ``name``, ``label_selector``, ``fallback_strategy``,
            ``scheduling_strategy``, ``placement_group``, ``placement_group_bundle_index``,
            ``placement_group_capture_child_tasks``, ``runtime_env``. For tasks: ``num_returns`` (1),
            ``max_retries`` (3), ``retry_exceptions`` (False), ``max_calls``, ``timeout_s``, ``priority`` (0),
            ``speculative`` (False).
            For actors: ``max_restarts`` (0), ``max_task_retries`` (0), ``max_pending_calls``,
            ``max_concurrency`` (1, async 1000), ``concurrency_groups``, ``lifetime``, ``namespace``,
            ``get_if_exists``, ``allow_out_of_order_execution``, ``checkpoint``.

    Raises:
        TypeError: not a function or class, or an option of the wrong type.
        ValueError: an unknown option or a value that it does not accept.

    Example:
        >>> @aktis.remote(num_returns=2)
        ... def divide(a, b):
        ...     return a // b, a % b
        >>> quotient, rest = divide.remote(7, 2)
        >>> aktis.get([quotient, rest])
        [3, 1]
    """
    if len(targets) == 1 and not options:
        return _make(targets[0], {})
    if targets or not options:
        raise TypeError(
            "remote() is used as @remote, as @remote(option=value, ...), or as remote(function_or_class)"
        )
    for name in options:
        if name not in TASK_OPTIONS and name not in ACTOR_OPTIONS:
            raise unknown_option(name, "", {*TASK_OPTIONS, *ACTOR_OPTIONS})
    return lambda target: _make(target, options)


def _make(target: Any, options: dict[str, Any]) -> Any:
    if isinstance(target, RemoteFunction | ActorClass):
        raise TypeError(f"{target!r} is remote already: use .options() to change its options")
    if inspect.isclass(target):
        return ActorClass(target, options)
    if callable(target):
        return RemoteFunction(target, options)
    raise TypeError(f"remote() takes a function or a class, got {type(target).__name__} {target!r}")
