"""Aktis: tasks, actors and shared objects for Python, on one machine or on a cluster.

Importing this is cheap: what a name needs is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from aktis._core import __version__

if TYPE_CHECKING:
    from aktis import dag, exceptions, util
    from aktis._core import ObjectRef
    from aktis._runtime.actor_class import ActorClass, get_actor, kill
    from aktis._runtime.actor_handle import ActorHandle
    from aktis._runtime.actor_shape import method
    from aktis._runtime.decorator import remote
    from aktis._runtime.generators import DynamicObjectRefGenerator, ObjectRefGenerator
    from aktis._runtime.ids import (
        ActorClassID,
        ActorID,
        ClusterID,
        FunctionID,
        JobID,
        NodeID,
        ObjectID,
        PlacementGroupID,
        TaskID,
        UniqueID,
        WorkerID,
    )
    from aktis._runtime.lifecycle import Context, init, is_initialized, shutdown
    from aktis._runtime.logging_config import LoggingConfig
    from aktis._runtime.objects import cancel, free, get, put, wait
    from aktis._runtime.remote_function import RemoteFunction
    from aktis._runtime.runtime_context import get_gpu_ids, get_runtime_context
    from aktis._runtime.state import available_resources, cluster_resources, nodes, timeline
    from aktis._worker.exit import exit_actor

_HOME = {
    "Context": "aktis._runtime.lifecycle",
    "ActorClass": "aktis._runtime.actor_class",
    "ActorClassID": "aktis._runtime.ids",
    "ActorHandle": "aktis._runtime.actor_handle",
    "ActorID": "aktis._runtime.ids",
    "ClusterID": "aktis._runtime.ids",
    "FunctionID": "aktis._runtime.ids",
    "JobID": "aktis._runtime.ids",
    "NodeID": "aktis._runtime.ids",
    "LoggingConfig": "aktis._runtime.logging_config",
    "ObjectID": "aktis._runtime.ids",
    "DynamicObjectRefGenerator": "aktis._runtime.generators",
    "ObjectRef": "aktis._runtime.refs",
    "ObjectRefGenerator": "aktis._runtime.generators",
    "PlacementGroupID": "aktis._runtime.ids",
    "RemoteFunction": "aktis._runtime.remote_function",
    "TaskID": "aktis._runtime.ids",
    "UniqueID": "aktis._runtime.ids",
    "WorkerID": "aktis._runtime.ids",
    "available_resources": "aktis._runtime.state",
    "cancel": "aktis._runtime.objects",
    "cluster_resources": "aktis._runtime.state",
    "exit_actor": "aktis._worker.exit",
    "free": "aktis._runtime.objects",
    "get": "aktis._runtime.objects",
    "get_actor": "aktis._runtime.actor_class",
    "get_gpu_ids": "aktis._runtime.runtime_context",
    "get_runtime_context": "aktis._runtime.runtime_context",
    "init": "aktis._runtime.lifecycle",
    "is_initialized": "aktis._runtime.lifecycle",
    "kill": "aktis._runtime.actor_class",
    "method": "aktis._runtime.actor_shape",
    "nodes": "aktis._runtime.state",
    "put": "aktis._runtime.objects",
    "remote": "aktis._runtime.decorator",
    "shutdown": "aktis._runtime.lifecycle",
    "timeline": "aktis._runtime.state",
    "wait": "aktis._runtime.objects",
}
_MODULES = ("actor", "compat", "dag", "exceptions", "runtime_context", "runtime_env", "util")

__all__ = [
    "ActorClass",
    "ActorClassID",
    "ActorHandle",
    "ActorID",
    "ClusterID",
    "Context",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "LoggingConfig",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "PlacementGroupID",
    "RemoteFunction",
    "TaskID",
    "UniqueID",
    "WorkerID",
    "__version__",
    "available_resources",
    "cancel",
    "cluster_resources",
    "dag",
    "exceptions",
    "exit_actor",
    "free",
    "get",
    "get_actor",
    "get_gpu_ids",
    "get_runtime_context",
    "init",
    "is_initialized",
    "kill",
    "method",
    "nodes",
    "put",
    "remote",
    "shutdown",
    "timeline",
    "util",
    "wait",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value  # the next use does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_MODULES})
