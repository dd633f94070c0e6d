"""What all nodes have in common, and how a graph is run."""

from collections.abc import Iterator, Mapping
from typing import Any


class Execution:
    """One run of a graph: what was put in, and what each node has given so far."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Begin with an input."""
        self.args = args
        self.kwargs = kwargs
        self._results: dict[DAGNode, Any] = {}

    def run(self, last: "DAGNode") -> Any:
        """Run every node that ``last`` needs, each once, those that others need first."""
        unfinished = [last]  # not recursive: a graph may be as deep as it likes
        while unfinished:
            node = unfinished[-1]
            missing = [child for child in node.upstream() if child not in self._results]
            if missing:
                unfinished.extend(reversed(missing))
                continue
            unfinished.pop()
            if node not in self._results:
                self._results[node] = node.run(self)
        return self._results[last]

    def value(self, argument: Any) -> Any:
        """Return an argument with the results of nodes in their places, in containers as well."""
        if isinstance(argument, DAGNode):
            return self._results[argument]
        if isinstance(argument, list):
            return [self.value(item) for item in argument]
        if type(argument) is tuple:
            return tuple(self.value(item) for item in argument)
        if isinstance(argument, dict):
            return {key: self.value(item) for key, item in argument.items()}
        return argument


class DAGNode:
    """A step of a graph. Equal to itself only."""

    def __init__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any] | None = None
    ) -> None:
        """Made by ``bind``."""
        self._bound_args = args
        self._bound_kwargs = kwargs
        self._bound_options = dict(options or {})
        self._upstream = tuple(dict.fromkeys(_nodes_in((args, kwargs))))

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph that ends here; return at once.

        Args:
            args: What `InputNode` stands for: the value, if it is the only argument. Else the nodes pick
                theirs by ``inp[0]`` and ``inp.name``.
            kwargs: See ``args``.

        Returns:
            What ``.remote()`` of this step returns: a reference, a list of them, or an actor's handle.
        """
        return Execution(args, kwargs).run(self)

    def get_args(self) -> tuple[Any, ...]:
        """Return the positional arguments of ``bind``."""
        return self._bound_args

    def get_kwargs(self) -> dict[str, Any]:
        """Return a copy of the keyword arguments of ``bind``."""
        return dict(self._bound_kwargs)

    def get_options(self) -> dict[str, Any]:
        """Return a copy of the options that the step runs with."""
        return dict(self._bound_options)

    def upstream(self) -> tuple["DAGNode", ...]:
        """The nodes that must run before this one."""
        return self._upstream

    def run(self, execution: Execution) -> Any:
        """Do this step; the nodes of `upstream` have been run."""
        raise NotImplementedError

    def _arguments(self, execution: Execution) -> tuple[list[Any], dict[str, Any]]:
        args = [execution.value(argument) for argument in self._bound_args]
        return args, {name: execution.value(argument) for name, argument in self._bound_kwargs.items()}


def _nodes_in(argument: Any) -> Iterator[DAGNode]:
    """The nodes in an argument, also in lists, tuples and dicts."""
    if isinstance(argument, DAGNode):
        yield argument
    elif isinstance(argument, list) or type(argument) is tuple:
        for item in argument:
            yield from _nodes_in(item)
    elif isinstance(argument, dict):
        for item in argument.values():
            yield from _nodes_in(item)
