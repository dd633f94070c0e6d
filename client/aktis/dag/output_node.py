"""Several results of one graph."""

from collections.abc import Sequence
from typing import Any

from aktis.dag.dag_node import DAGNode, Execution


class MultiOutputNode(DAGNode):
    """The end of a graph with several results; ``execute`` returns their references as a list."""

    def __init__(self, args: Sequence[Any]) -> None:
        """End with these nodes.

        Raises:
            ValueError: not a list or tuple.
        """
        if not isinstance(args, list | tuple):
            raise ValueError(f"MultiOutputNode() takes a list of nodes, got {type(args).__name__} {args!r}")
        super().__init__(tuple(args), {})

    def run(self, execution: Execution) -> list[Any]:
        """Return what the nodes gave."""
        return self._arguments(execution)[0]

    def __repr__(self) -> str:
        return f"MultiOutputNode({list(self._bound_args)!r})"
