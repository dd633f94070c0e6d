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


def aktis_dask_get(dsk: Any, keys: Any, **kwargs: Any) -> Any:
    """Compute keys of a Dask graph on the cluster; for ``compute(scheduler=aktis_dask_get)``.

    Args:
        dsk: The graph.
        keys: One key, or lists of keys in lists.
        kwargs: ``remote_args`` (or ``ray_remote_args``): options of the tasks, for example
            ``{"num_cpus": 0.5}``. Others, which Dask passes to every scheduler, are ignored.

    Returns:
        The values, in lists as the keys are.

    Raises:
        TypeError: the options were given by both names.
        TaskError: a node failed; an instance of its exception's type as well.
    """
    options: Mapping[str, Any] = under_either_name(kwargs, "remote_args", "ray_remote_args") or {}
    run = _run.options(**options) if options else _run
    mapping = dsk if isinstance(dsk, Mapping) else dsk.__dask_graph__()  # an expression of newer releases
    references = _submit(convert_legacy_graph(ensure_dict(mapping)), run)
    wanted = list(_leaves(keys))
    distinct = list(dict.fromkeys(wanted))
    kept = [references[key] for key in distinct]
    references.clear()
    values = dict(zip(distinct, aktis.get(kept), strict=True))
    return _fill(keys, values)


def _submit(graph: Mapping[Any, Any], run: Any) -> dict[Any, aktis.ObjectRef[Any]]:
    references: dict[Any, aktis.ObjectRef[Any]] = {}
    for key in TopologicalSorter({key: node.dependencies for key, node in graph.items()}).static_order():
        node = graph[key]
        if isinstance(node, Alias):
            references[key] = references[node.target]
        elif isinstance(node, DataNode):
            references[key] = aktis.put(node.value)
        else:
            needed = list(node.dependencies)
            references[key] = run.remote(node, needed, *[references[other] for other in needed])
    return references


@aktis.remote
def _run(node: Callable[[Mapping[Any, Any]], Any], needed: Sequence[Any], *values: Any) -> Any:
    return node(dict(zip(needed, values, strict=True)))


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
