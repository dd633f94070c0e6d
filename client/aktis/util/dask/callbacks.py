"""Dask's callbacks on the cluster: its progress bars and profilers see tasks as they end."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from dask.callbacks import local_callbacks, unpack_callbacks

import aktis
from aktis.util.completion import as_completed


class Watcher:
    """Tells callbacks of every node that is submitted and of every one that has ended. For one thread."""

    def __init__(self, graph: dict[Any, Any], callbacks: Any) -> None:
        """Watch a graph for callbacks, which are tuples as Dask keeps them."""
        self._graph = graph
        _, self._start_state, self._pretask, self._posttask, _ = unpack_callbacks(callbacks)
        self._ends: dict[aktis.ObjectRef[str], tuple[Any, aktis.ObjectRef[Any]]] = {}
        self.state: dict[str, Any] = {}

    def begin(self, tasks: Mapping[Any, Any]) -> None:
        """Take note of the nodes that become tasks, by key."""
        dependencies = {key: set(node.dependencies) for key, node in tasks.items()}
        dependents: dict[Any, set[Any]] = {key: set() for key in dependencies}
        for key, needed in dependencies.items():
            for other in needed:
                dependents.setdefault(other, set()).add(key)
        self.state = {
            "dependencies": dependencies,
            "dependents": dependents,
            "waiting": dict(dependencies),
            "ready": [],
            "running": set(),
            "finished": set(),
            "released": set(),
        }
        for call in self._start_state:
            call(self._graph, self.state)

    def submitting(self, key: Any) -> None:
        """Tell that a node is about to go to the cluster."""
        del self.state["waiting"][key]
        self.state["running"].add(key)
        for call in self._pretask:
            call(key, self._graph, self.state)

    def submitted(self, key: Any, value: aktis.ObjectRef[Any], end: aktis.ObjectRef[str]) -> None:
        """Keep what tells when a node has ended, and its value if somebody looks at it."""
        self._ends[end] = (key, value)

    def follow(self) -> None:
        """Tell of every end, in the order of the ends; raises what the first node that failed raised."""
        for end in as_completed(list(self._ends), yield_obj_refs=True):
            key, value = self._ends.pop(end)
            worker_id = aktis.get(end)
            self.state["running"].discard(key)
            self.state["finished"].add(key)
            if self._posttask:
                result = aktis.get(value)
                for call in self._posttask:
                    call(key, result, self._graph, self.state, worker_id)


@contextmanager
def watching(graph: dict[Any, Any], callbacks: Any = None) -> Iterator[Watcher | None]:
    """Run the block for the callbacks that are registered, or those given; None if there are none."""
    with local_callbacks(callbacks) as registered:
        active = [one for one in registered if any(one)]
        if not active:
            yield None
            return
        watcher, started, failed = Watcher(graph, active), [], True
        try:
            for callback in active:
                if callback[0]:
                    callback[0](graph)
                started.append(callback)
            yield watcher
            failed = False
        finally:
            for callback in started:
                if callback[4]:
                    callback[4](graph, watcher.state, failed)
