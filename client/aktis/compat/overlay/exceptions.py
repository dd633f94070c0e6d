"""Names of exceptions that only exist under the alias; programs name them in ``except``."""

from typing import Final

from aktis.exceptions import ActorError, AktisError, TaskError

RayError = AktisError
RayTaskError = TaskError
RayActorError = ActorError

NEVER_RAISED: Final = (
    "AsyncioActorExit",
    "CrossLanguageError",
    "ObjectRefStreamEndOfStreamError",
    "OufOfBandObjectRefSerializationException",
    "PlasmaObjectNotAvailable",
    "RayCgraphCapacityExceeded",
    "RayChannelError",
    "RayChannelTimeoutError",
    "RayDirectTransportError",
    "RaySystemError",
    "ReferenceCountingAssertionError",
    "RpcError",
    "StreamingGeneratorReplayInconsistentError",
    "UnserializableException",
    "UserCodeException",
)
"""What they tell of does not happen here, or is one of the more precise errors."""

for _name in NEVER_RAISED:
    globals()[_name] = type(_name, (AktisError,), {"__module__": __name__, "__doc__": "Never raised."})

__all__ = ["RayActorError", "RayError", "RayTaskError", *NEVER_RAISED]
