"""What is only known when a graph is run."""

from typing import Any, Self

from aktis.dag.dag_node import DAGNode, Execution


class DAGInputData:
    """Several inputs of one run: by position and by name."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Hold the arguments of ``execute``."""
        self._args = args
        self._kwargs = kwargs

    def pick(self, key: int | str) -> Any:
        """Return one of them.

        Raises:
            ValueError: ``execute`` was not given it.
        """
        try:
            return self._args[key] if isinstance(key, int) else self._kwargs[key]
        except (IndexError, KeyError):
            raise ValueError(
                f"the graph needs input {key!r}, but execute() was given {len(self._args)} arguments "
                f"and the names {sorted(self._kwargs)}"
            ) from None


class InputNode(DAGNode):
    """Stands for the arguments of ``execute``; used in ``with``.

    ``inp`` is the only argument itself; ``inp[0]``, ``inp["key"]`` and ``inp.name`` are one of several
    arguments, or an item or attribute of the only one.
    """

    def __init__(self) -> None:
        """Stand for the input of the graph that uses it."""
        super().__init__((), {})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing ends: the node goes on to stand for the input."""

    def __getattr__(self, name: str) -> "InputAttributeNode":
        if name.startswith("_"):
            raise AttributeError(name)
        return InputAttributeNode(self, name, attribute=True)

    def __getitem__(self, key: int | str) -> "InputAttributeNode":
        return InputAttributeNode(self, key, attribute=False)

    def run(self, execution: Execution) -> Any:
        """Return the input: the only argument, or all of them as `DAGInputData`."""
        if len(execution.args) == 1 and not execution.kwargs:
            return execution.args[0]
        return DAGInputData(execution.args, execution.kwargs)

    def __repr__(self) -> str:
        return "InputNode()"


class InputAttributeNode(DAGNode):
    """A part of the input."""

    def __init__(self, whole: InputNode, key: int | str, *, attribute: bool) -> None:
        """Made by `InputNode`."""
        super().__init__((whole,), {})
        self._key = key
        self._attribute = attribute

    def run(self, execution: Execution) -> Any:
        """Pick the part."""
        whole = execution.value(self._bound_args[0])
        if isinstance(whole, DAGInputData):
            return whole.pick(self._key)
        return getattr(whole, str(self._key)) if self._attribute else whole[self._key]

    def __repr__(self) -> str:
        return f"InputNode().{self._key}" if self._attribute else f"InputNode()[{self._key!r}]"
