"""Names of exceptions that only exist under the alias; programs name them in ``except``."""

from aktis.exceptions import ActorError, AktisError, TaskError

RayError = AktisError
RayTaskError = TaskError
RayActorError = ActorError


class RaySystemError(AktisError):
    """Never raised: what fails inside of the runtime is one of the more precise errors."""


__all__ = ["RayActorError", "RayError", "RaySystemError", "RayTaskError"]
