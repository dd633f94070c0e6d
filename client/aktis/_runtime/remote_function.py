"""Functions that run as tasks: what ``@aktis.remote`` makes of a function."""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

from aktis import _core
from aktis._core import TaskTemplate
from aktis._runtime import current, generators
from aktis._runtime.execution import placement_for
from aktis._runtime.options import TASK_OPTIONS, check_options, demand, quantile_of, returns_of
from aktis._runtime.pickling import NotPicklableError, unpicklable_arguments
from aktis._runtime.signatures import CallCheck
from aktis._runtime.typed import call_of_function
from aktis.exceptions import SessionEndedError

if TYPE_CHECKING:
    from typing import Unpack

    from aktis._common.resources import ResourceSet
    from aktis._core import ObjectRef
    from aktis._runtime.option_types import TaskOptions
    from aktis._runtime.session import Session
    from aktis._runtime.strategies import Strategy
    from aktis._runtime.typed import FunctionReturning
    from aktis.dag.function_node import FunctionNode

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")

DEFAULT_MAX_RETRIES: Final = 3
_Exports = dict[int, tuple[object, bytes]]  # session and function id by max_calls
_UNBOUND: Final = object()


class RemoteFunction(Generic[P, R]):
    """A function that runs as a task when called by ``.remote()``.

    Example:
        >>> @aktis.remote
        ... def add(a: int, b: int) -> int:
        ...     return a + b
        >>> aktis.get(add.remote(1, 2))
        3
    """

    def __init__(
        self, function: Callable[P, R], options: Mapping[str, Any], exports: "_Exports | None" = None
    ) -> None:
        """Wrap ``function``; ``options`` as in the decorator.

        Args:
            exports: Of the same function with other options, which is not pickled again for each of them.

        Raises:
            TypeError, ValueError: an option is unknown or its value is not valid.
        """
        self._function = function
        self._options = check_options(TASK_OPTIONS, "tasks", options)
        self._exports: _Exports = {}
        self.unbind()
        if exports is not None:
            self._exports = exports
        self._look()

    def _look(self) -> None:
        """Take note of what the function is like."""
        self._quantile = quantile_of(self._function, self._options)
        self._check = CallCheck(self._function, _name_of(self._function))
        functools.update_wrapper(self, self._function)  # type: ignore[arg-type]
        self._is_whole = True

    def unbind(self) -> None:
        """Forget the session for which the template and the submission hold; the next call makes new ones.

        They also hold for one placement group only that captures what the caller submits.
        """
        self._session: object = _UNBOUND
        self._captured: bytes | None = None
        self._exports.clear()
        self._submit: Callable[..., Any] = _never
        self._template: TaskTemplate | None = None

    @call_of_function
    def remote(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function as a task; return a reference to its result at once.

        Arguments that are references are resolved before the function runs; references nested in other
        arguments are passed on as they are.

        Returns:
            An ObjectRef; with ``num_returns`` of 2 or more a list of them, with 0 None. Of a generator, an
            ObjectRefGenerator.

        Raises:
            TypeError: the function cannot be called like this, or an argument cannot be pickled.
        """
        if self._session is not current.session or self._captured != current.captured:
            self._bind()
        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        try:
            return self._submit(self._template, args, kwargs or None)
        except NotPicklableError as error:
            raise unpicklable_arguments(_name_of(self._function), args, kwargs, error) from error

    @overload
    def options(  # type: ignore[overload-overlap]
        self, *, num_returns: Literal[1] | None = ..., **options: "Unpack[TaskOptions]"
    ) -> "RemoteFunction[P, R]": ...
    @overload
    def options(
        self: "RemoteFunction[P, Iterator[T]]",
        *,
        num_returns: Literal["streaming"],
        **options: "Unpack[TaskOptions]",
    ) -> "RemoteFunction[P, Iterator[T]]": ...
    @overload
    def options(
        self: "RemoteFunction[P, Iterator[T]]",
        *,
        num_returns: Literal["dynamic"],
        **options: "Unpack[TaskOptions]",
    ) -> "FunctionReturning[P, ObjectRef[generators.DynamicObjectRefGenerator[T]]]": ...
    @overload
    def options(  # type: ignore[overload-overlap]
        self, *, num_returns: Literal[0], **options: "Unpack[TaskOptions]"
    ) -> "FunctionReturning[P, None]": ...
    @overload
    def options(
        self, *, num_returns: int, **options: "Unpack[TaskOptions]"
    ) -> "FunctionReturning[P, list[ObjectRef[Any]]]": ...
    def options(self, **options: Any) -> Any:
        """Return the same function with other options.

        Raises:
            TypeError, ValueError: an option is unknown or its value is not valid.
        """
        return RemoteFunction(self._function, {**self._options, **options}, self._exports)

    def bind(self, *args: Any, **kwargs: Any) -> "FunctionNode":
        """Describe a call as a step of a function graph (see `aktis.dag`); arguments may be other steps.

        Raises:
            TypeError: the function cannot be called like this.
        """
        from aktis.dag.function_node import FunctionNode

        if not self._is_whole:
            self._look()
        check = self._check
        if kwargs or not check.minimum <= len(args) <= check.maximum:
            check.check(args, kwargs)
        return FunctionNode(self, args, kwargs, self._options)

    if not TYPE_CHECKING:  # type checkers say so themselves

        def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
            name = _name_of(self._function)
            raise TypeError(
                f"remote functions cannot be called directly: use {name}.remote() instead of {name}()"
            )

    def _bind(self) -> None:
        """Export the function to the session's cluster and make the template that its calls share."""
        from aktis._common.resources import ResourceSet
        from aktis._runtime.strategies import strategy_of

        if not self._is_whole:
            self._look()
        session = current.require()
        captured, options = current.captured, self._options
        wanted = ResourceSet.of(demand(options, default_cpus=1))
        strategy = strategy_of(options, captured, f"the function {_name_of(self._function)}", wanted)
        retry = options.get("retry_exceptions", False)
        returns = returns_of(self._function, options)
        self._template = TaskTemplate(
            class_key=self._class_key(session, wanted, strategy),
            function_id=self._export(session),
            name=options.get("name") or _name_of(self._function),
            max_retries=options.get("max_retries", DEFAULT_MAX_RETRIES),
            flags=(_core.TASK_RETRY_ON_ERROR if retry else 0) | generators.FLAGS.get(returns, 0),
            retry_key=retry_number(session, retry),
            max_calls=options.get("max_calls", 0),
            timeout_ms=math.ceil(options.get("timeout_s", 0) * 1000),
            priority=options.get("priority", 0),
            speculative=self._quantile,
            placement=placement_for(strategy.group, captures=strategy.captures, resources=wanted),
            **generators.template_returns(returns, options),
        )
        self._submit = session.core.submit
        if returns == "streaming":
            self._submit = generators.returning_generators(self._submit)
        self._session, self._captured = session, captured
        session.bound.add(self)

    def _export(self, session: "Session") -> bytes:
        max_calls = self._options.get("max_calls", 0)
        exported_in, function_id = self._exports.get(max_calls, (None, b""))
        if exported_in is not session:
            from aktis._runtime.functions import Exported

            exported = Exported(self._function, max_calls)
            function_id = session.functions.export(exported, f"the function {_name_of(self._function)}")
            self._exports[max_calls] = (session, function_id)
        return function_id

    def _class_key(self, session: "Session", wanted: "ResourceSet", strategy: "Strategy") -> int:
        number = session.classes.key(
            session.service.leases,
            self._export(session),
            _name_of(self._function),
            wanted,
            strategy,
            session.environments.resolve(self._options.get("runtime_env")),
        )
        if strategy.group:
            session.groups.use(strategy.group, number)
        return number

    def __getstate__(self) -> dict[str, Any]:
        return {"function": self._function, "options": self._options}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Two steps, because a recursive function refers to this object from its own globals. These are loaded
        # before its defaults: it is looked at again when it is needed.
        RemoteFunction.__init__(self, state["function"], state["options"])
        self._is_whole = False

    def __repr__(self) -> str:
        return f"RemoteFunction({_name_of(self._function)})"


def retry_number(session: "Session", retry: Any) -> int:
    """Return the number of a list of exceptions that may be retried; 0 for True and False."""
    return session.service.retry_lists.number(tuple(retry)) if retry and not isinstance(retry, bool) else 0


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", None) or type(function).__qualname__


def _never(*_: Any) -> NoReturn:
    raise SessionEndedError("another thread has called aktis.shutdown(): the task is not submitted")
