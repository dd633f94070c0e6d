"""Actors and calls of their methods as steps of a graph."""

from collections.abc import Mapping
from typing import Any, NoReturn

from aktis.dag.dag_node import DAGNode, Execution
from aktis.dag.input_node import InputNode


class ClassNode(DAGNode):
    """An actor that every run of the graph creates anew; it ends when the calls of the run are done.

    Methods are bound as attributes: ``node.method.bind(...)``. The calls that were bound before one on the
    same node are made before it, so that the actor's state does not depend on which step is asked for.
    """

    def __init__(
        self, actor_class: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> None:
        """Made by ``bind`` of actor classes.

        Raises:
            ValueError: the constructor would need the input of the graph.
        """
        super().__init__(args, kwargs, options)
        self._actor_class = actor_class
        self._last_call: ClassMethodNode | None = None
        if any(_needs_input(node) for node in self.upstream()):
            raise ValueError(
                f"the constructor of {actor_class!r} cannot take the graph's input: pass it to a method"
            )

    def __getattr__(self, name: str) -> "UnboundMethod":
        if name.startswith("_") or name not in self._actor_class.method_names():
            raise AttributeError(f"{self._actor_class!r} has no method {name!r}")
        return UnboundMethod(self, name, {})

    def run(self, execution: Execution) -> Any:
        """Create the actor."""
        args, kwargs = self._arguments(execution)
        return self._actor_class.remote(*args, **kwargs)

    def __repr__(self) -> str:
        return f"ClassNode({self._actor_class!r})"


class UnboundMethod:
    """A method of a `ClassNode`, to be bound to arguments."""

    def __init__(self, node: ClassNode, name: str, options: Mapping[str, Any]) -> None:
        """Made by nodes."""
        self._node = node
        self._name = name
        self._options = options

    def bind(self, *args: Any, **kwargs: Any) -> "ClassMethodNode":
        """Describe a call of the method; returns the node."""
        call = ClassMethodNode(self._node, self._name, args, kwargs, self._options)
        self._node._last_call = call
        return call

    def options(self, **options: Any) -> "UnboundMethod":
        """Return the same method with other options."""
        return UnboundMethod(self._node, self._name, {**self._options, **options})

    def remote(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not for nodes: there is no actor yet."""
        del args, kwargs
        raise AttributeError(f".remote() is for actors; use .{self._name}.bind() to describe a call")


class ClassMethodNode(DAGNode):
    """A call of a method, of a `ClassNode` or of an actor that exists."""

    def __init__(
        self,
        target: Any,
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Mapping[str, Any],
    ) -> None:
        """Made by ``bind``; ``target`` is the ClassNode, or what has ``remote`` of a method."""
        super().__init__(args, kwargs, options)
        self._target = target
        self._name = name
        before: list[DAGNode] = []
        if isinstance(target, ClassNode):
            before = [target] if target._last_call is None else [target, target._last_call]
        self._upstream = tuple(dict.fromkeys([*before, *self._upstream]))

    def run(self, execution: Execution) -> Any:
        """Call the method."""
        args, kwargs = self._arguments(execution)
        method = self._target
        if isinstance(method, ClassNode):
            method = getattr(execution.value(method), self._name)
            if self._bound_options:
                method = method.options(**self._bound_options)
        return method.remote(*args, **kwargs)

    def __repr__(self) -> str:
        return f"ClassMethodNode({self._name} of {self._target!r})"


def _needs_input(node: DAGNode) -> bool:
    pending, seen = [node], {node}
    while pending:
        one = pending.pop()
        if isinstance(one, InputNode):
            return True
        fresh = [other for other in one.upstream() if other not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return False
