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


def aktis_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute keys of a Dask graph on the cluster; for ``compute(scheduler=aktis_dask_get)``.

    Args:
        dsk: The graph.
        keys: One key, or lists of keys in lists.
        kwargs: ``remote_args`` (or ``ray_remote_args``): options of the tasks, for example
            ``{"num_cpus": 0.5}``; ``callbacks``: Dask's, instead of those that are registered. Others, which
            Dask passes to every scheduler, are ignored.

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
    with watching(graph, kwargs.get("callbacks")) as watcher:
        references = _submit(convert_legacy_graph(graph), options, watcher)
        kept = [references[key] for key in distinct]
        references.clear()
        if watcher is not None:
            watcher.follow()
        values = dict(zip(distinct, aktis.get(kept), strict=True))
    return _fill(keys, values)


def _submit(
    graph: Mapping[Any, Any], options: Mapping[str, Any], watcher: Watcher | None
) -> dict[Any, aktis.ObjectRef[Any]]:
    run = _run_and_tell if watcher is not None else _run
    remote: Any = run.options(**options) if options else run
    if watcher is not None:
        watcher.begin({key: node for key, node in graph.items() if not isinstance(node, Alias | DataNode)})
    references: dict[Any, aktis.ObjectRef[Any]] = {}
    for key in TopologicalSorter({key: node.dependencies for key, node in graph.items()}).static_order():
        node = graph[key]
        if isinstance(node, Alias):
            references[key] = references[node.target]
            continue
        if isinstance(node, DataNode):
            references[key] = aktis.put(node.value)
            continue
        needed = list(node.dependencies)
        arguments = (node, needed, *[references[other] for other in needed])
        if watcher is None:
            references[key] = remote.remote(*arguments)
        else:
            watcher.submitting(key)
            references[key], end = remote.remote(*arguments)
            watcher.submitted(key, references[key], end)
    return references


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
ray_dask_get = aktis_dask_get
enable_dask_on_ray = enable_dask_on_aktis
disable_dask_on_ray = disable_dask_on_aktis
