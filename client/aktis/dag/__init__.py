"""Function graphs: calls of remote functions and actors that are described first and run later, often.

``bind`` describes a call, whose arguments may be other nodes; ``execute`` of the last node runs the graph.

Example:
    >>> @aktis.remote
    ... def add(a, b):
    ...     return a + b
    >>> with InputNode() as number:
    ...     twice = add.bind(number, number)
    ...     graph = MultiOutputNode([add.bind(twice, 1), add.bind(twice, 2)])
    >>> aktis.get(graph.execute(10))
    [21, 22]
"""

from aktis.dag.class_node import ClassMethodNode, ClassNode
from aktis.dag.dag_node import DAGNode
from aktis.dag.function_node import FunctionNode
from aktis.dag.input_node import DAGInputData, InputAttributeNode, InputNode
from aktis.dag.output_node import MultiOutputNode

__all__ = [
    "ClassMethodNode",
    "ClassNode",
    "DAGInputData",
    "DAGNode",
    "FunctionNode",
    "InputAttributeNode",
    "InputNode",
    "MultiOutputNode",
]
