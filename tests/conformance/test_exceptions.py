"""The tree of exceptions: who derives from whom, what they carry, how they travel."""

import pickle
from typing import Any

import pytest
import ray
from ray import exceptions

TREE = {
    "RayError": "Exception",
    "RayTaskError": "RayError",
    "TaskCancelledError": "RayError",
    "WorkerCrashedError": "RayError",
    "NodeDiedError": "RayError",
    "LocalRayletDiedError": "RayError",
    "RayActorError": "RayError",
    "ActorDiedError": "RayActorError",
    "ActorUnavailableError": "RayActorError",
    "ObjectStoreFullError": "RayError",
    "OutOfDiskError": "RayError",
    "OutOfMemoryError": "RayError",
    "ObjectLostError": "RayError",
    "ObjectFetchTimedOutError": "ObjectLostError",
    "ObjectFreedError": "ObjectLostError",
    "OwnerDiedError": "ObjectLostError",
    "ObjectReconstructionFailedError": "ObjectLostError",
    "GetTimeoutError": "RayError",
    "RuntimeEnvSetupError": "RayError",
    "TaskUnschedulableError": "RayError",
    "ActorUnschedulableError": "RayError",
    "TaskPlacementGroupRemoved": "RayError",
    "ActorPlacementGroupRemoved": "RayError",
    "PendingCallsLimitExceeded": "RayError",
    "AuthenticationError": "RayError",
    "ActorHandleNotFoundError": "RayError",
    "ActorAlreadyExistsError": "RayError",
}
ALSO = {
    "GetTimeoutError": TimeoutError,
    "ActorAlreadyExistsError": ValueError,
    "ActorHandleNotFoundError": ValueError,
}


@pytest.mark.parametrize(("name", "base"), TREE.items(), ids=TREE)
def test_tree(name: str, base: str) -> None:
    exception = getattr(exceptions, name)
    expected = getattr(exceptions, base, Exception)
    assert issubclass(exception, expected)
    assert exception is not expected
    if name in ALSO:
        assert issubclass(exception, ALSO[name])


def make(name: str) -> Any:
    """An instance as a program may make one."""
    exception = getattr(exceptions, name)
    arguments: dict[str, tuple[Any, ...]] = {
        "ObjectLostError": ("ab" * 28, None, ""),
    }
    return exception(*arguments.get(name, ("what happened",)))


@pytest.mark.parametrize(
    "name",
    [
        "RayError",
        "GetTimeoutError",
        "WorkerCrashedError",
        "ObjectStoreFullError",
        "OutOfMemoryError",
        "RuntimeEnvSetupError",
        "PendingCallsLimitExceeded",
        "TaskUnschedulableError",
        "ActorUnschedulableError",
        "LocalRayletDiedError",
    ],
)
def test_copies_are_the_same(name: str) -> None:
    error = make(name)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)


def test_the_message_of_what_a_program_makes() -> None:
    assert "what happened" in str(make("RuntimeEnvSetupError"))
    assert "what happened" in str(make("TaskUnschedulableError"))
    assert "what happened" in str(make("ActorUnschedulableError"))
    assert "what happened" in str(make("GetTimeoutError"))


def test_a_cancelled_task_is_named() -> None:
    assert "01ab" in str(exceptions.TaskCancelledError("01ab"))
    assert exceptions.TaskCancelledError().task_id is None


def test_an_actor_error_has_a_default_message() -> None:
    error = exceptions.RayActorError()
    assert "actor" in str(error)
    assert isinstance(pickle.loads(pickle.dumps(error)), exceptions.RayActorError)


def test_modules_have_the_names() -> None:
    assert ray.exceptions is exceptions
    assert set(TREE) <= set(dir(exceptions)) | {"RayError", "RayTaskError", "RayActorError"}
