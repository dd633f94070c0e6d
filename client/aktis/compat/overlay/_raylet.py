"""Types that programs import from the extension module, mostly for ``isinstance``."""

from aktis import (
    ActorID,
    DynamicObjectRefGenerator,
    FunctionID,
    JobID,
    NodeID,
    ObjectID,
    ObjectRef,
    ObjectRefGenerator,
    TaskID,
    WorkerID,
)

StreamingObjectRefGenerator = ObjectRefGenerator

__all__ = [
    "ActorID",
    "DynamicObjectRefGenerator",
    "FunctionID",
    "JobID",
    "NodeID",
    "ObjectID",
    "ObjectRef",
    "ObjectRefGenerator",
    "StreamingObjectRefGenerator",
    "TaskID",
    "WorkerID",
]
