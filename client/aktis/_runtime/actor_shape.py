"""What a handle and an executor must know of an actor's class.

Travels inside of handles and of actor specs.
"""

import asyncio
import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Concatenate, Final, Literal, ParamSpec, Protocol, TypeVar, overload

from aktis._runtime.options import DEFAULT_ASYNC_CONCURRENCY, METHOD_OPTIONS, check_options, returns_of
from aktis._runtime.pickling import dumps
from aktis._runtime.signatures import CallCheck
from aktis._runtime.typed import ManyOfClass, MethodOfClass

if TYPE_CHECKING:
    from typing import Unpack

    from aktis._core import ObjectRef
    from aktis._runtime.generators import DynamicObjectRefGenerator
    from aktis._runtime.option_types import MethodOptions
    from aktis.checkpoint import Checkpoint

METHOD_ATTRIBUTE: Final = "__aktis_method__"

# Methods that every actor has, under our name and under the one that programs written for Ray use.
READY_NAMES: Final = frozenset({"__aktis_ready__", "__ray_ready__"})
CALL_NAMES: Final = frozenset({"__aktis_call__", "__ray_call__"})
TERMINATE_NAMES: Final = frozenset({"__aktis_terminate__", "__ray_terminate__"})
SPECIAL_NAMES: Final = READY_NAMES | CALL_NAMES | TERMINATE_NAMES

P = ParamSpec("P")
R = TypeVar("R")
Out_co = TypeVar("Out_co", covariant=True)


class MethodDecorator(Protocol):
    """What ``method(name=...)`` returns."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> MethodOfClass[P, R]:
        """Keep the options with the method."""


class SeveralReturns(Protocol[Out_co]):
    """What ``method(num_returns=2)`` returns."""

    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> ManyOfClass[P, R, Out_co]:
        """Keep the options with the method."""


@overload
def method(function: Callable[Concatenate[Any, P], R], /) -> MethodOfClass[P, R]: ...
@overload
def method(  # type: ignore[overload-overlap]
    *, num_returns: Literal[1, "streaming"] | None = ..., **options: "Unpack[MethodOptions]"
) -> MethodDecorator: ...
@overload
def method(  # type: ignore[overload-overlap]
    *, num_returns: Literal[0], **options: "Unpack[MethodOptions]"
) -> SeveralReturns[None]: ...
@overload
def method(
    *, num_returns: Literal["dynamic"], **options: "Unpack[MethodOptions]"
) -> "SeveralReturns[ObjectRef[DynamicObjectRefGenerator[Any]]]": ...
@overload
def method(
    *, num_returns: int, **options: "Unpack[MethodOptions]"
) -> "SeveralReturns[list[ObjectRef[Any]]]": ...
def method(*functions: Any, **options: Any) -> Any:
    """Set options of one method of an actor class, and let type checkers know the method.

    Used as ``@method`` or as ``@method(num_returns=2)``; see `aktis.util.typed_handle` for the former.

    Args:
        functions: The method.
        options: ``num_returns``, ``max_task_retries``, ``retry_exceptions``, ``concurrency_group``, ``name``.

    Raises:
        TypeError, ValueError: an option is unknown or its value is not valid.

    Example:
        >>> @aktis.remote
        ... class Splitter:
        ...     @aktis.method(num_returns=2)
        ...     def split(self, pair):
        ...         return pair
        >>> aktis.get(Splitter.remote().split.remote((1, 2)))
        [1, 2]
    """
    if functions and (options or len(functions) > 1 or not callable(functions[0])):
        raise TypeError("method() is used as @method, or as @method(option=value, ...)")
    checked = check_options(METHOD_OPTIONS, "actor methods", options)

    def annotate(function: Any) -> Any:
        setattr(function, METHOD_ATTRIBUTE, checked)
        return function

    return annotate(functions[0]) if functions else annotate


@dataclass(frozen=True)
class MethodShape:
    """One method."""

    options: Mapping[str, Any]
    check: CallCheck
    returns: int | str = 1


@dataclass(frozen=True)
class ActorShape:
    """See the module."""

    class_name: str
    methods: Mapping[str, MethodShape]
    is_async: bool
    max_concurrency: int
    concurrency_groups: Mapping[str, int] = field(default_factory=dict)
    max_task_retries: int = 0
    max_pending_calls: int = -1
    out_of_order: bool = False
    name: str = ""
    checkpoint: "Checkpoint | None" = None

    def encode(self) -> bytes:
        """Serialize; read by `decode` in processes of the same job, or by who gets the actor by its name."""
        return dumps(self)

    @classmethod
    def decode(cls, data: bytes) -> "ActorShape":
        """Load what `encode` made.

        Raises:
            TypeError: it is something else.
        """
        shape = pickle.loads(data)
        if not isinstance(shape, cls):
            raise TypeError(f"an actor's shape is needed, got {type(shape).__name__}")
        return shape


def shape_of(cls: type, options: Mapping[str, Any]) -> ActorShape:
    """Look at a class.

    Raises:
        ValueError: a method names a concurrency group that the class does not declare.
    """
    functions = inspect.getmembers(cls, inspect.isroutine)
    methods = {name: _method_shape(cls, name, f) for name, f in functions if not name.startswith("__")}
    if "__call__" in vars(cls):
        methods["__call__"] = _method_shape(cls, "__call__", cls.__call__)
    is_async = any(is_async_function(f) for _, f in functions)
    groups = options.get("concurrency_groups", {})
    for name, shape in methods.items():
        group = shape.options.get("concurrency_group", "")
        if group and group not in groups:
            raise ValueError(
                f"method {cls.__name__}.{name} is in concurrency group {group!r}, "
                f"which is not one of {sorted(groups)}"
            )
    return ActorShape(
        class_name=cls.__qualname__,
        methods=methods,
        is_async=is_async,
        max_concurrency=options.get("max_concurrency", DEFAULT_ASYNC_CONCURRENCY if is_async else 1),
        concurrency_groups=dict(groups),
        max_task_retries=options.get("max_task_retries", 0),
        max_pending_calls=options.get("max_pending_calls", -1),
        out_of_order=options.get("allow_out_of_order_execution", False),
        name=options.get("name", ""),
        checkpoint=_checkpoint_of(cls, options, is_async=is_async),
    )


def _checkpoint_of(cls: type, options: Mapping[str, Any], *, is_async: bool) -> "Checkpoint | None":
    policy: Checkpoint | None = options.get("checkpoint")
    threaded = options.get("max_concurrency", 1) > 1 or bool(options.get("concurrency_groups"))
    if policy is None or is_async or not threaded:
        return policy
    if policy.every_calls is not None or policy.every_s is not None:
        raise ValueError(
            f"option 'checkpoint' of {cls.__qualname__} must not have every_calls or every_s, because its "
            "calls change the state in several threads while it is saved: call aktis.checkpoint.save()"
        )
    return policy


def is_async_function(function: object) -> bool:
    """Whether calling it makes a coroutine or an asynchronous generator."""
    return asyncio.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _method_shape(cls: type, name: str, function: Callable[..., Any]) -> MethodShape:
    static = isinstance(inspect.getattr_static(cls, name), staticmethod | classmethod)
    check = CallCheck(function, f"{cls.__qualname__}.{name}", skip_first=not static)
    options = dict(getattr(function, METHOD_ATTRIBUTE, {}))
    return MethodShape(options, check, returns_of(function, options))
