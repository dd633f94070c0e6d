"""What type checkers see of ``.remote()``: the parameters of the function, and a reference to its result.

Nothing here exists when a program runs: the decorators return what they get. An argument is checked against
its parameter, or, as a reference, by the type of its value. The type system has no way to say "every
parameter, or a reference to it", so this is spelt out for references among the first positional arguments;
elsewhere `aktis.util.as_argument` makes the reference pass for its value. Pyright checks the references' own
types; mypy takes any reference there.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Never, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from typing import Unpack

    from aktis._core import ObjectRef
    from aktis._runtime.generators import ObjectRefGenerator
    from aktis._runtime.option_types import MethodOptions, TaskOptions
    from aktis._runtime.remote_function import RemoteFunction
    from aktis.dag.class_node import ClassMethodNode
    from aktis.dag.function_node import FunctionNode

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
Out_co = TypeVar("Out_co", covariant=True)
T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
F = TypeVar("F")


class Call(Generic[P, Out_co]):
    """``remote`` of a function with parameters ``P``; returns ``Out_co``.

    After the last reference the arguments are as the function has them, by position or by name. Not a
    Protocol: mypy would compare the overloads of two calls pair by pair, again and again, for minutes.
    """

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, Q], Out_co]", a: "ObjectRef[A]", /, *args: Q.args, **kwargs: Q.kwargs
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, Q], Out_co]",
        a: A,
        b: "ObjectRef[B]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, Q], Out_co]",
        a: "ObjectRef[A]",
        b: "ObjectRef[B]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, Q], Out_co]",
        a: A,
        b: B,
        c: "ObjectRef[C]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, Q], Out_co]",
        a: A,
        b: "ObjectRef[B]",
        c: "ObjectRef[C]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, Q], Out_co]",
        a: "ObjectRef[A]",
        b: B,
        c: "ObjectRef[C]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, Q], Out_co]",
        a: "ObjectRef[A]",
        b: "ObjectRef[B]",
        c: "ObjectRef[C]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    # Further on only the last reference is checked.
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, D, Q], Out_co]",
        a: Any,
        b: Any,
        c: Any,
        d: "ObjectRef[D]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, D, E, Q], Out_co]",
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        e: "ObjectRef[E]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    @overload
    def __call__(
        self: "Call[Concatenate[A, B, C, D, E, F, Q], Out_co]",
        a: Any,
        b: Any,
        c: Any,
        d: Any,
        e: Any,
        f: "ObjectRef[F]",
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> Out_co: ...
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any: ...  # type: ignore[misc]


class CallOfFunction:
    """``remote`` of a `RemoteFunction`: what it returns follows from what the function returns."""

    # A function that never returns would be taken for one that returns an iterator.
    @overload
    def __get__(
        self, function: "RemoteFunction[P, Never]", owner: Any = None
    ) -> "Call[P, ObjectRef[Never]]": ...
    @overload
    def __get__(
        self, function: "RemoteFunction[P, Iterator[T]]", owner: Any = None
    ) -> "Call[P, ObjectRefGenerator[T]]": ...
    @overload
    def __get__(self, function: "RemoteFunction[P, R]", owner: Any = None) -> "Call[P, ObjectRef[R]]": ...
    def __get__(self, function: Any, owner: Any = None) -> Any: ...


class FunctionReturning(Protocol[P, Out_co]):
    """A `RemoteFunction` with ``num_returns``, which says what ``remote`` returns."""

    @property
    def remote(self) -> Call[P, Out_co]:
        """Run the function as a task."""

    def options(self, **options: "Unpack[TaskOptions]") -> "FunctionReturning[P, Out_co]":
        """Return the same function with other options."""

    def bind(self, *args: Any, **kwargs: Any) -> "FunctionNode":
        """Describe a call as a step of a function graph."""


class TypedMethod(Protocol[P, Out_co]):
    """A method of an actor, as `aktis.util.typed_handle` shows it."""

    @property
    def remote(self) -> Call[P, Out_co]:
        """Call the method; return a reference to its result at once."""

    def options(self, **options: "Unpack[MethodOptions]") -> "TypedMethod[P, Out_co]":
        """Return the same method with other options."""

    def bind(self, *args: Any, **kwargs: Any) -> "ClassMethodNode":
        """Describe a call as a step of a function graph."""


class MethodOfClass(Generic[P, R_co]):
    """A method with ``@aktis.method``: what a handle has, seen on the class; on an instance a plain one."""

    @overload
    def __get__(
        self: "MethodOfClass[P, Never]", instance: None, owner: Any = None
    ) -> "TypedMethod[P, ObjectRef[Never]]": ...
    @overload
    def __get__(
        self: "MethodOfClass[P, Coroutine[Any, Any, T]]", instance: None, owner: Any = None
    ) -> "TypedMethod[P, ObjectRef[T]]": ...
    @overload
    def __get__(
        self: "MethodOfClass[P, Iterator[T]]", instance: None, owner: Any = None
    ) -> "TypedMethod[P, ObjectRefGenerator[T]]": ...
    @overload
    def __get__(
        self: "MethodOfClass[P, AsyncIterator[T]]", instance: None, owner: Any = None
    ) -> "TypedMethod[P, ObjectRefGenerator[T]]": ...
    @overload
    def __get__(self, instance: None, owner: Any = None) -> "TypedMethod[P, ObjectRef[R_co]]": ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Callable[P, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any: ...


class ManyOfClass(Generic[P, R_co, Out_co]):
    """The same with ``num_returns``."""

    @overload
    def __get__(self, instance: None, owner: Any = None) -> "TypedMethod[P, Out_co]": ...
    @overload
    def __get__(self, instance: object, owner: Any = None) -> Callable[P, R_co]: ...
    def __get__(self, instance: Any, owner: Any = None) -> Any: ...


if TYPE_CHECKING:

    def call_of_function(function: Callable[..., Any]) -> CallOfFunction:
        """Show a method as ``remote`` of a function."""
else:

    def call_of_function(function):
        """Return the method."""
        return function
