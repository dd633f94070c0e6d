"""Identities as raw bytes, with the lengths of cpp/wire/ids.h.

An id that could come back from the dead is random and never reused, so that the id itself is the epoch: a
restarted process has a new WorkerId, a node on fresh state a new NodeId.
"""

import os
from typing import Final, NewType

WorkerId = NewType("WorkerId", bytes)
"""A process: worker, actor or driver."""
NodeId = NewType("NodeId", bytes)
JobId = NewType("JobId", bytes)
ActorId = NewType("ActorId", bytes)
TaskId = NewType("TaskId", bytes)
ObjectId = NewType("ObjectId", bytes)
FunctionId = NewType("FunctionId", bytes)
"""Content hash of an exported function or class."""
ClusterId = NewType("ClusterId", bytes)

WORKER_ID_BYTES: Final = 16
NODE_ID_BYTES: Final = 16
JOB_ID_BYTES: Final = 4
ACTOR_ID_BYTES: Final = 16
TASK_ID_BYTES: Final = 16
OBJECT_ID_BYTES: Final = 20
FUNCTION_ID_BYTES: Final = 16
CLUSTER_ID_BYTES: Final = 16
PLACEMENT_GROUP_ID_BYTES: Final = 16


def random_worker_id() -> WorkerId:
    """Return a new id for the calling process."""
    return WorkerId(os.urandom(WORKER_ID_BYTES))


def random_node_id() -> NodeId:
    """Return a new id for a node that starts on fresh state."""
    return NodeId(os.urandom(NODE_ID_BYTES))


def random_job_id() -> JobId:
    """Return a random job id; the GCS makes sure that it is unique in the cluster."""
    return JobId(os.urandom(JOB_ID_BYTES))


def random_actor_id() -> ActorId:
    """Return a new actor id."""
    return ActorId(os.urandom(ACTOR_ID_BYTES))


def random_cluster_id() -> ClusterId:
    """Return a new cluster id."""
    return ClusterId(os.urandom(CLUSTER_ID_BYTES))


def parse_hex(text: str, length_bytes: int, what: str) -> bytes:
    """Return the bytes of an id written in hexadecimal.

    Raises:
        ValueError: ``text`` is not hexadecimal or has another length; names ``what`` and the length expected.
    """
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise ValueError(f"{what} must be {2 * length_bytes} hexadecimal digits, got {text!r}") from None
    check_length(raw, length_bytes, what)
    return raw


def check_length(raw: bytes, length_bytes: int, what: str) -> None:
    """Raise ValueError unless ``raw`` has the length of such an id; for bytes that came from a peer."""
    if len(raw) != length_bytes:
        raise ValueError(f"{what} must have {length_bytes} bytes, got {len(raw)}")


def short(raw: bytes) -> str:
    """Return the first 8 hexadecimal digits: enough to recognise an id in a log line."""
    return raw[:4].hex()
