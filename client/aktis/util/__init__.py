"""Tools on top of tasks, actors and objects.

Importing this is cheap: what a name needs is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

# At once: importing the module later would put it where the function of the same name belongs.
from aktis.util.placement_group import (
    get_current_placement_group,
    get_placement_group,
    placement_group,
    placement_group_table,
    remove_placement_group,
)

if TYPE_CHECKING:
    from aktis.util.actor_pool import ActorPool
    from aktis.util.check_serialize import inspect_serializability
    from aktis.util.completion import as_completed, map_unordered
    from aktis.util.debug import disable_log_once_globally, enable_periodic_logging, log_once
    from aktis.util.named_actors import list_named_actors
    from aktis.util.node import get_node_instance_id, get_node_ip_address
    from aktis.util.serialization import deregister_serializer, register_serializer
    from aktis.util.typed import as_argument, typed_handle

_HOME = {
    "ActorPool": "actor_pool",
    "as_argument": "typed",
    "as_completed": "completion",
    "deregister_serializer": "serialization",
    "disable_log_once_globally": "debug",
    "enable_periodic_logging": "debug",
    "get_node_instance_id": "node",
    "get_node_ip_address": "node",
    "inspect_serializability": "check_serialize",
    "list_named_actors": "named_actors",
    "log_once": "debug",
    "map_unordered": "completion",
    "register_serializer": "serialization",
    "typed_handle": "typed",
}
_MODULES = (
    "accelerators",
    "collective",
    "dask",
    "joblib",
    "metrics",
    "multiprocessing",
    "profiling",
    "progress",
    "queue",
    "scheduling_strategies",
    "state",
    "tracing",
)

__all__ = [
    "ActorPool",
    "as_argument",
    "as_completed",
    "deregister_serializer",
    "disable_log_once_globally",
    "enable_periodic_logging",
    "get_current_placement_group",
    "get_node_instance_id",
    "get_node_ip_address",
    "get_placement_group",
    "inspect_serializability",
    "list_named_actors",
    "log_once",
    "map_unordered",
    "placement_group",
    "placement_group_table",
    "register_serializer",
    "remove_placement_group",
    "typed_handle",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
