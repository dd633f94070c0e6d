"""Classes whose instances are actors: what ``@aktis.remote`` makes of a class. Also get_actor, kill."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar

from aktis._core import ObjectRef, Task, TaskTemplate
from aktis._proto import gcs_pb2
from aktis._runtime import current
from aktis._runtime.actor_handle import ActorHandle, check_session
from aktis._runtime.actor_shape import ActorShape, shape_of
from aktis._runtime.control import ControlError
from aktis._runtime.execution import current_task
from aktis._runtime.functions import Exported
from aktis._runtime.options import ACTOR_OPTIONS, actor_demands, check_actor_combination, check_options
from aktis._runtime.pickling import NotPicklableError, unpicklable_arguments
from aktis._runtime.signatures import CallCheck
from aktis.exceptions import ActorAlreadyExistsError, AktisError, SessionEndedError

if TYPE_CHECKING:
    from typing import Unpack

    from aktis._runtime.option_types import ActorOptions
    from aktis._runtime.session import Session
    from aktis.dag.class_node import ClassNode

T = TypeVar("T")

_Creation = tuple[gcs_pb2.ActorSpec, list[ObjectRef[Any]]]
"""What creates an actor, and the references that it needs as long as it may be started again."""
_UNBOUND: Final = object()


class ActorClass(Generic[T]):
    """A class whose instances live in processes of their own.

    Example:
        >>> @aktis.remote
        ... class Counter:
        ...     def __init__(self):
        ...         self.value = 0
        ...     def increment(self):
        ...         self.value += 1
        ...         return self.value
        >>> counter = Counter.remote()
        >>> aktis.get([counter.increment.remote() for _ in range(3)])
        [1, 2, 3]
    """

    def __init__(self, cls: type[T], options: Mapping[str, Any]) -> None:
        """Wrap ``cls``; ``options`` as in the decorator.

        Raises:
            TypeError, ValueError: an option is unknown or its value is not valid.
        """
        self._class = cls
        self._options = check_options(ACTOR_OPTIONS, "actors", options)
        check_actor_combination(self._options)
        self.unbind()
        self._look()

    def _look(self) -> None:
        """Take note of what the class is like."""
        cls = self._class
        self._shape = shape_of(cls, self._options)
        self._check = CallCheck(cls, cls.__qualname__)
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__module__ = cls.__module__
        self.__doc__ = cls.__doc__
        self._is_whole = True

    def unbind(self) -> None:
        """Forget the session for which the template and the spec hold; the next creation makes new ones."""
        self._session: object = _UNBOUND
        self._captured: bytes | None = None
        self._group = b""

    def remote(self, *args: Any, **kwargs: Any) -> ActorHandle[T]:
        """Create an actor; return a handle at once.

        Raises:
            TypeError: the constructor cannot be called like this, or an argument cannot be pickled.
            ActorAlreadyExistsError: the name is taken.
        """
        if not self._is_whole:
            self._look()
        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        session = current.session or current.require()
        if self._session is not session or self._captured != current.captured:
            self._bind(session)
        if self._group:
            session.groups.confirm(self._group)  # the GCS refuses an actor whose group it does not know
        actor_id = os.urandom(16)
        parent = current_task()
        made = None
        if all(type(arg) is not ObjectRef or session.core.is_ready(arg) for arg in (*args, *kwargs.values())):
            made = self._creation(session, actor_id, args, kwargs, parent)
        if made is None:
            # What is not a reference is copied now: the caller may change it before the creation is sent.
            args = tuple(_stored(session, arg) for arg in args)
            kwargs = {name: _stored(session, arg) for name, arg in kwargs.items()}
        if self._options.get("name"):
            return self._create_named(session, actor_id, made, args, kwargs, parent)
        life = session.actors.new_life(actor_id, detached=self._detached)
        handle: ActorHandle[T] = self._handle(session, actor_id, life)
        if made is not None:
            session.actors.create(*made)
        else:
            self._create_when_ready(session, actor_id, args, kwargs, parent)
        return handle

    def options(self, **options: "Unpack[ActorOptions]") -> "ActorClass[T]":
        """Return the same class with other options.

        Raises:
            TypeError, ValueError: an option is unknown or its value is not valid.
        """
        return ActorClass(self._class, {**self._options, **options})

    def bind(self, *args: Any, **kwargs: Any) -> "ClassNode":
        """Describe an actor as a step of a function graph (see `aktis.dag`); arguments may be other steps.

        Raises:
            TypeError: the constructor cannot be called like this.
            ValueError: an argument is the graph's input.
        """
        from aktis.dag.class_node import ClassNode

        if not self._is_whole:
            self._look()
        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        return ClassNode(self, args, kwargs, self._options)

    def method_names(self) -> frozenset[str]:
        """Return the names of the methods that a handle has."""
        if not self._is_whole:
            self._look()
        return frozenset(self._shape.methods)

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            name = self._class.__qualname__
            raise TypeError(
                f"actors cannot be made by a direct call: use {name}.remote() instead of {name}()"
            )

    def __mro_entries__(self, bases: tuple[Any, ...]) -> NoReturn:
        raise TypeError(
            f"cannot inherit from the actor class {self._class.__qualname__}: inherit from a class without "
            "the decorator, and decorate the one that inherits"
        )

    @property
    def _detached(self) -> bool:
        return self._options.get("lifetime") == "detached"

    def _handle(self, session: "Session", actor_id: bytes, life: ObjectRef[Any] | None) -> ActorHandle[T]:
        session.actors.track(actor_id, life, created_here=True)
        return ActorHandle(session, actor_id, self._shape, life)

    def _create_when_ready(
        self,
        session: "Session",
        actor_id: bytes,
        args: tuple[ObjectRef[Any], ...],
        kwargs: dict[str, ObjectRef[Any]],
        parent: Task | None,
    ) -> None:
        """Create the actor as soon as its arguments exist, however long that takes; no thread waits."""

        def again() -> None:
            self._create_when_ready(session, actor_id, args, kwargs, parent)

        made = None
        while made is None:
            try:
                # One at a time: `again` is to be called once.
                there = all(
                    session.watchers.add(arg, again, value=False) for arg in (*args, *kwargs.values())
                )
            except SessionEndedError:
                return
            if not there:
                return
            try:
                made = self._creation(session, actor_id, args, kwargs, parent)
            except Exception as error:  # nobody else would hear of it
                session.actors.fail_creation(actor_id, error)
                return
        session.actors.create(*made)

    def _create_named(
        self,
        session: "Session",
        actor_id: bytes,
        made: _Creation | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Task | None,
    ) -> ActorHandle[T]:
        """Take the name at once, whether the arguments are there or not."""
        spec, held = made or (self._spec(actor_id), [])
        spec.awaits_arguments = made is None
        life = None if self._detached else session.actors.new_life(actor_id)
        handle: ActorHandle[T] = self._handle(session, actor_id, life)
        get_if_exists = self._options.get("get_if_exists", False)
        result = session.actors.create_named(spec, held, get_if_exists=get_if_exists)
        if result.error:
            raise ActorAlreadyExistsError(
                f"{result.error}. Choose another name, or use get_actor({spec.name!r}) or get_if_exists=True."
            )
        if result.existed:
            return handle_to(session, result.actor)
        if made is None:
            self._create_when_ready(session, actor_id, args, kwargs, parent)
        return handle

    def _bind(self, session: "Session") -> None:
        """Export the class to the session's cluster and make what all its actors have in common."""
        name = self._class.__qualname__
        function_id = session.functions.export(Exported(self._class), f"the class {name}")
        from aktis._common.resources import ResourceSet
        from aktis._runtime.strategies import strategy_of

        held, placement = actor_demands(self._options)
        captured = current.captured
        strategy = strategy_of(self._options, captured, f"the actor {name}", ResourceSet.of(held))
        if strategy.group:
            placement = held  # it is placed in a bundle, which need not have a CPU
        options, shape = self._options, self._shape
        self._template = TaskTemplate(
            class_key=0, function_id=function_id, name=f"{name}.__init__", num_returns=0, creation=True
        )
        self._common_spec = gcs_pb2.ActorSpec(
            job_id=session.job_id,
            name=options.get("name", ""),
            namespace=options.get("namespace") or session.namespace,
            class_name=name,
            resources=ResourceSet.of(held).to_proto(),
            placement_resources=ResourceSet.of(placement).to_proto(),
            max_restarts=options.get("max_restarts", 0),
            detached=self._detached,
            owner=session.process_address(),
            max_concurrency=shape.max_concurrency,
            max_task_retries=shape.max_task_retries,
            is_async=shape.is_async,
            max_pending_calls=shape.max_pending_calls,
            handle=shape.encode(),
            label_selector=dict(strategy.labels),
            strategy=strategy.to_proto(),
            runtime_env_hash=session.environments.resolve(options.get("runtime_env")),
        )
        self._group = strategy.group
        self._session, self._captured = session, captured
        session.bound.add(self)

    def _spec(self, actor_id: bytes) -> gcs_pb2.ActorSpec:
        spec = gcs_pb2.ActorSpec()
        spec.CopyFrom(self._common_spec)
        spec.actor_id = actor_id
        return spec

    def _creation(
        self,
        session: "Session",
        actor_id: bytes,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        parent: Task | None,
    ) -> _Creation | None:
        """Make what creates the actor; None when an argument is not there (any more)."""
        try:
            encoded = session.core.encode_creation(self._template, actor_id, args, kwargs or None, parent)
        except NotPicklableError as error:
            raise unpicklable_arguments(self._check.name, args, kwargs, error) from error
        if encoded is None:
            return None
        spec = self._spec(actor_id)
        spec.creation_task, held = encoded
        return spec, held

    def __getstate__(self) -> dict[str, Any]:
        return {"class": self._class, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Two steps, because a class may refer to this object from the globals of its methods. These are
        # loaded before it has any members: it is looked at again when it is needed.
        ActorClass.__init__(self, state["class"], state["options"])
        self._is_whole = False

    def __repr__(self) -> str:
        return f"ActorClass({self._class.__qualname__})"


def _stored(session: "Session", value: Any) -> Any:
    return value if type(value) is ObjectRef else session.core.put(value)


def handle_to(session: "Session", actor: gcs_pb2.Actor) -> ActorHandle[Any]:
    """Return a handle that does not keep the actor alive."""
    # Also asks how it is: what was published between the GCS's answer and now has been left out.
    session.actors.track(actor.spec.actor_id)
    session.actors.heard(actor)
    return ActorHandle(session, actor.spec.actor_id, ActorShape.decode(actor.spec.handle), None)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle[Any]:
    """Return a handle to a named actor; it does not keep the actor alive.

    Raises:
        ValueError: no living actor of the namespace has this name.
        TypeError: ``name`` is not a str.
    """
    for what, value in (("name", name), ("namespace", namespace or "")):
        if type(value) is not str:
            raise TypeError(f"get_actor() takes a str as {what}, got {type(value).__name__} {value!r}")
    if not name:
        raise ValueError("get_actor() needs a name that is not empty")
    session = current.require()
    where = namespace or session.namespace
    request = gcs_pb2.GetActorRequest(name=name, namespace=where)
    reply = session.control.gcs("GetActor", request, gcs_pb2.GetActorReply)
    if not reply.found or reply.actor.state == gcs_pb2.Actor.DEAD:
        raise ValueError(
            f"no actor named {name!r} lives in namespace {where!r}: it may have died, never have been "
            "created, or be in another namespace (see init(namespace=...) and get_actor(namespace=...))"
        )
    return handle_to(session, reply.actor)


def kill(actor: ActorHandle[Any], *, no_restart: bool = True) -> None:
    """End an actor at once, whatever it is doing; calls under way fail with ActorDiedError.

    Args:
        actor: A handle.
        no_restart: Dead for good; False: it is restarted if ``max_restarts`` allows.

    Raises:
        ValueError: not a handle.
        ActorHandleNotFoundError: the handle belongs to a session that has ended.
    """
    if not isinstance(actor, ActorHandle):
        raise ValueError(
            f"kill() takes an actor's handle, got {type(actor).__name__} {actor!r}; cancel() is for tasks"
        )
    check_session(actor._life, repr(actor))
    session = current.require()
    try:
        session.actors.kill(actor._actor_id, no_restart=no_restart)
    except ControlError as error:
        raise AktisError(f"actor {actor!r} could not be killed: {error}") from error
