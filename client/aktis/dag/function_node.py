"""Tasks as steps of a graph."""

from collections.abc import Mapping
from typing import Any

from aktis.dag.dag_node import DAGNode, Execution


class FunctionNode(DAGNode):
    """A call of a remote function."""

    def __init__(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], options: Mapping[str, Any]
    ) -> None:
        """Made by ``bind`` of remote functions."""
        super().__init__(args, kwargs, options)
        self._function = function

    def run(self, execution: Execution) -> Any:
        """Submit the task."""
        args, kwargs = self._arguments(execution)
        return self._function.remote(*args, **kwargs)

    def __repr__(self) -> str:
        return f"FunctionNode({self._function!r})"
