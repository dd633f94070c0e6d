"""One task per node of a graph; what a node needs of others goes to it as references.

Values stay where they were made, and go as soon as nobody needs them: this process holds references to the
results that were asked for, and to the others only while it submits.
"""

from collections.abc import Callable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import aktis
from aktis.util.aliases import under_either_name

try:
    import dask
    from dask._task_spec import Alias, DataNode, convert_legacy_graph
    from dask.utils import ensure_dict
except ImportError as error:
    raise ImportError(f"aktis.util.dask needs the package dask, 2024.12 or later: {error}") from error

from aktis.util.dask.callbacks import Watcher, watching  # imports Dask as well
from aktis.util.dask.hooks import Hooks, hooking
from aktis.util.dask.nodes import with_values


def aktis_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute keys of a Dask graph on the cluster; for ``compute(scheduler=aktis_dask_get)``.

    Args:
        dsk: The graph.
        keys: One key, or lists of keys in lists.
        kwargs: ``remote_args`` (or ``ray_remote_args``): options of the tasks, for example
            ``{"num_cpus": 0.5}``; ``callbacks``: Dask's, instead of those that are registered;
            ``aktis_callbacks`` (``ray_callbacks``): the same of `AktisDaskCallback`; ``aktis_persist``
            (``ray_persist``): return references. Others, which Dask passes to every scheduler, are ignored.

    Returns:
        The values, in lists as the keys are.

    Raises:
        TypeError: the options were given by both names.
        TaskError: a node failed; an instance of its exception's type as well.
    """
    options: Mapping[str, Any] = under_either_name(kwargs, "remote_args", "ray_remote_args") or {}
    mapping = dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__()  # an expression of newer releases
    graph = dict(ensure_dict(mapping))  # a copy: callbacks may put values in that they have already
    wanted = list(_leaves(keys))
    distinct = list(dict.fromkeys(wanted))
    hooked = under_either_name(kwargs, "aktis_callbacks", "ray_callbacks")
    persist = under_either_name(kwargs, "aktis_persist", "ray_persist")
    with watching(graph, kwargs.get("callbacks")) as watcher, hooking(hooked) as hooks:
        submission = _Submission(options, watcher, hooks)
        submission.submit(convert_legacy_graph(graph))
        kept = {key: submission.references[key] for key in distinct}
        submission.references.clear()
        hooks.tell("postsubmit_all", _fill(keys, kept), graph)
        if watcher is not None:
            watcher.follow()
        values = kept if persist else dict(zip(distinct, aktis.get(list(kept.values())), strict=True))
        result = _fill(keys, values)
        hooks.tell("finish", result)
    return result


class _Submission:
    """The tasks of one computation. For one thread."""

    def __init__(self, options: Mapping[str, Any], watcher: Watcher | None, hooks: Hooks) -> None:
        run = _run_and_tell if watcher is not None else _run
        self._remote: Any = run.options(**options) if options else run
        self._watcher = watcher
        self._hooks = hooks
        self.references: dict[Any, aktis.ObjectRef[Any]] = {}

    def submit(self, graph: Mapping[Any, Any]) -> None:
        if self._watcher is not None:
            self._watcher.begin(
                {key: node for key, node in graph.items() if not isinstance(node, Alias | DataNode)}
            )
        order = TopologicalSorter({key: node.dependencies for key, node in graph.items()}).static_order()
        for key in order:
            self.references[key] = self._reference(key, graph[key])

    def _reference(self, key: Any, node: Any) -> aktis.ObjectRef[Any]:
        if isinstance(node, Alias):
            return self.references[node.target]
        if isinstance(node, DataNode):
            return _put(node.value)
        if self._watcher is not None:
            self._watcher.submitting(key)
        value, *ends = self._start(key, node)
        if self._watcher is not None:
            end = ends[0] if ends else aktis.put(aktis.get_runtime_context().get_worker_id())
            self._watcher.submitted(key, value, end)
        return value

    def _start(self, key: Any, node: Any) -> list[aktis.ObjectRef[Any]]:
        """Return what the task returns, or one reference to what a hook gave instead of it."""
        needed = {other: self.references[other] for other in node.dependencies}
        value = self._hooks.value_instead(node, key, needed)
        if value is not None:
            return [_put(value)]
        deps = dict(needed)
        runs = self._hooks.surround(with_values(node, needed), key, needed)
        started = self._remote.remote(runs, list(needed), *needed.values())
        references: list[aktis.ObjectRef[Any]] = started if isinstance(started, list) else [started]
        self._hooks.tell("postsubmit", node, key, deps, references[0])
        return references


def _put(value: Any) -> aktis.ObjectRef[Any]:
    """Return where a value is: that of a persisted collection is in the cluster already."""
    reference: aktis.ObjectRef[Any] = value if isinstance(value, aktis.ObjectRef) else aktis.put(value)
    return reference


@aktis.remote
def _run(node: Callable[[Mapping[Any, Any]], Any], needed: Sequence[Any], *values: Any) -> Any:
    return node(dict(zip(needed, values, strict=True)))


@aktis.remote(num_returns=2)
def _run_and_tell(
    node: Callable[[Mapping[Any, Any]], Any], needed: Sequence[Any], *values: Any
) -> tuple[Any, str]:
    """As `_run`; the second value tells of the end without moving the first one."""
    return node(dict(zip(needed, values, strict=True))), aktis.get_runtime_context().get_worker_id()


def _leaves(keys: Any) -> Any:
    if isinstance(keys, list):
        for one in keys:
            yield from _leaves(one)
    else:
        yield keys


def _fill(keys: Any, values: Mapping[Any, Any]) -> Any:
    return [_fill(one, values) for one in keys] if isinstance(keys, list) else values[keys]


def aktis_dask_persist(*collections: Any, **kwargs: Any) -> Any:
    """Compute collections on the cluster and leave their values there; return collections that have them.

    Does not wait for the values. They go with the collections. An error is raised by whoever needs the value.

    Args:
        collections: Those of Dask.
        kwargs: As for `aktis_dask_get`, and of ``dask.persist``.
    """
    options = {"scheduler": aktis_dask_get, **kwargs, "aktis_persist": True}
    return dask.base.persist(*collections, **options)


def enable_dask_on_aktis(shuffle: str | None = "tasks") -> Any:
    """Let Dask compute on the cluster from now on, or in the ``with`` block that this is used for.

    Args:
        shuffle: How data frames are shuffled: "tasks", because "p2p" needs Dask's own cluster.
    """
    return dask.config.set({"scheduler": aktis_dask_get, "dataframe.shuffle.method": shuffle})


def disable_dask_on_aktis() -> Any:
    """Let Dask choose its own scheduler again."""
    return dask.config.set({"scheduler": None, "dataframe.shuffle.method": None})


# As programs for another runtime call them.
ray_dask_get = ray_dask_get_sync = aktis_dask_get
ray_dask_persist = aktis_dask_persist
enable_dask_on_ray = enable_dask_on_aktis
disable_dask_on_ray = disable_dask_on_aktis
