"""Handles: how a program calls an actor, in whatever process."""

import contextlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from aktis import _core
from aktis._core import ObjectRef, TaskTemplate
from aktis._runtime import current, generators
from aktis._runtime.actor_shape import SPECIAL_NAMES, ActorShape, MethodShape
from aktis._runtime.options import METHOD_OPTIONS, check_options
from aktis._runtime.pickling import NotPicklableError, unpicklable_arguments
from aktis._runtime.remote_function import retry_number
from aktis.exceptions import ActorHandleNotFoundError, PendingCallsLimitExceeded, SessionEndedError

if TYPE_CHECKING:
    from aktis._runtime.session import Session
    from aktis.dag.class_node import ClassMethodNode

T = TypeVar("T", covariant=True)

_NO_FUNCTION = bytes(16)


class _HandleLife:
    """Shared by a handle and its methods; tells the session when the last of them goes.

    Methods hold this and not their handle, so that the handle can keep its methods without a cycle: an actor
    ends when its last handle is dropped, not when the garbage collector comes by.
    """

    __slots__ = ("actor_id", "life", "session")

    def __init__(self, session: "Session", actor_id: bytes, life: ObjectRef[Any] | None) -> None:
        self.session = session
        self.actor_id = actor_id
        self.life = life

    def __del__(self) -> None:
        # Any thread, at any time: only an event is queued.
        with contextlib.suppress(Exception):  # the session has ended, and the actor with it
            self.session.core.post_event((current.EVENT_HANDLE_DROPPED, self.actor_id, self.life))


def check_session(life: _HandleLife, what: str) -> None:
    """Raise ActorHandleNotFoundError for a handle of a session that has ended."""
    if life.session is current.session:
        return
    current.check_not_detached()
    raise ActorHandleNotFoundError(
        f"{what} belongs to a session of this process that has ended, and its actor with it unless it is "
        "detached: make another actor, or get_actor() a detached one by its name"
    )


class ActorMethod:
    """A method of an actor, called by ``.remote()``."""

    __slots__ = ("_actor_id", "_check", "_life", "_name", "_shape", "_submit", "_template")

    def __init__(
        self, life: _HandleLife, shape: ActorShape, name: str, options: Mapping[str, Any] | None = None
    ) -> None:
        """Made by handles."""
        known = shape.methods.get(name, _SPECIAL)
        merged = {**known.options, **(options or {})}
        retry = merged.get("retry_exceptions", False)
        group = merged.get("concurrency_group", "")
        if group and group not in shape.concurrency_groups:
            raise ValueError(
                f"actor class {shape.class_name} has no concurrency group {group!r}; "
                f"it has {sorted(shape.concurrency_groups)}"
            )
        returns = merged.get("num_returns", known.returns)
        self._life = life
        self._shape = shape
        self._name = name
        self._actor_id = life.actor_id
        self._check = known.check
        self._template = TaskTemplate(
            class_key=0,
            function_id=_NO_FUNCTION,
            name=merged.get("name") or f"{shape.class_name}.{name}",
            method=name,
            max_retries=merged.get("max_task_retries", shape.max_task_retries),
            flags=(_core.TASK_RETRY_ON_ERROR if retry else 0) | generators.FLAGS.get(returns, 0),
            concurrency_group=group,
            **generators.template_returns(returns, merged),
            retry_key=retry_number(life.session, retry),
        )
        self._submit: Callable[..., Any] = life.session.core.submit_actor
        if shape.max_pending_calls > 0:
            self._submit = _limited(life, shape, self._submit)
        if returns == "streaming":
            self._submit = generators.returning_generators(self._submit)

    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method; return a reference to its result at once.

        Calls of one caller to one actor run in the order in which they are made, unless the actor is
        threaded, async, or allows another order.

        Returns:
            An ObjectRef; with ``num_returns`` of 2 or more a list of them, with 0 None. Of a generator, an
            ObjectRefGenerator.

        Raises:
            TypeError: the method cannot be called like this, or an argument cannot be pickled.
            PendingCallsLimitExceeded: ``max_pending_calls`` of this process are waiting.
            ActorHandleNotFoundError: the handle belongs to a session that has ended.
        """
        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        try:
            return self._submit(self._actor_id, self._template, args, kwargs or None)
        except NotPicklableError as error:
            raise unpicklable_arguments(self._check.name, args, kwargs, error) from error
        except SessionEndedError:
            check_session(self._life, repr(self))
            raise  # it is about an argument

    def options(self, **options: Any) -> "ActorMethod":
        """Return the same method with other options.

        Raises:
            TypeError, ValueError: an option is unknown or its value is not valid.
        """
        checked = check_options(METHOD_OPTIONS, "actor methods", options)
        return ActorMethod(self._life, self._shape, self._name, checked)

    def bind(self, *args: Any, **kwargs: Any) -> "ClassMethodNode":
        """Describe a call as a step of a function graph (see `aktis.dag`); arguments may be other steps.

        Raises:
            TypeError: the method cannot be called like this.
        """
        from aktis.dag.class_node import ClassMethodNode

        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        return ClassMethodNode(self, self._name, args, kwargs, {})

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "methods of actors cannot be called directly: "
            f"use .{self._name}.remote() instead of .{self._name}()"
        )

    def __repr__(self) -> str:
        return f"ActorMethod({self._shape.class_name}.{self._name})"


class ActorHandle(Generic[T]):
    """Refers to an actor. Can be passed to tasks and actors; equal to every other handle of the actor.

    The actor ends with its last handle, unless it is detached; a handle from ``get_actor`` does not count.
    """

    def __init__(
        self, session: "Session", actor_id: bytes, shape: ActorShape, life: ObjectRef[Any] | None
    ) -> None:
        """Made by ActorClass.remote(), get_actor() and unpickling. The actor must be tracked already."""
        self._actor_id = actor_id
        self._shape = shape
        self._life = _HandleLife(session, actor_id, life)
        if shape.out_of_order:
            session.core.actor_set(actor_id, shape.out_of_order)

    def __getattr__(self, name: str) -> ActorMethod:
        # Only the first time: the method then is an attribute of the handle.
        shape: ActorShape = self.__dict__["_shape"]
        if name not in shape.methods and name not in SPECIAL_NAMES:
            raise AttributeError(
                f"actor class {shape.class_name} has no method {name!r}; it has {sorted(shape.methods)}. "
                "Attributes of an actor can only be read by its methods."
            )
        method = ActorMethod(self._life, shape, name)
        self.__dict__[name] = method
        return method

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._shape.methods})

    def __reduce__(self) -> tuple[Any, ...]:
        check_session(self._life, repr(self))
        return (rebuild_handle, (self._actor_id, self._shape, self._life.life))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and self._actor_id == other._actor_id

    def __hash__(self) -> int:
        return hash(self._actor_id)

    def __repr__(self) -> str:
        return f"Actor({self._shape.class_name}, {self._actor_id.hex()})"


def rebuild_handle(actor_id: bytes, shape: ActorShape, life: ObjectRef[Any] | None) -> ActorHandle[Any]:
    """What a pickled handle loads as."""
    session = current.require()
    session.actors.track(actor_id, life)
    return ActorHandle(session, actor_id, shape, life)


def _limited(life: _HandleLife, shape: ActorShape, submit: Callable[..., Any]) -> Callable[..., Any]:
    core, limit = life.session.core, shape.max_pending_calls

    def submit_limited(actor_id: bytes, *call: Any) -> Any:
        waiting = core.actor_pending_calls(actor_id)
        if waiting >= limit:
            raise PendingCallsLimitExceeded(
                f"{waiting} calls to actor {shape.class_name} are waiting, and max_pending_calls is {limit}: "
                "get() some results before calling again"
            )
        return submit(actor_id, *call)

    return submit_limited


def _accept_anything(*args: Any, **kwargs: Any) -> None:
    del args, kwargs


def _special_shape() -> MethodShape:
    from aktis._runtime.signatures import CallCheck

    return MethodShape({}, CallCheck(_accept_anything, "method"))


_SPECIAL = _special_shape()
