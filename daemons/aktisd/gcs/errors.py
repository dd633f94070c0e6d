"""How a manager refuses a request: a gRPC status code and a sentence for the caller."""

from enum import IntEnum


class Status(IntEnum):
    """gRPC status codes, as numbers: they also travel in relayed replies."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


class RequestError(Exception):
    """A request that cannot be served; the caller gets the status and the message, the daemon goes on."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def invalid(message: str) -> RequestError:
    """Return the error for a request that is wrong in itself, so that repeating it is of no use."""
    return RequestError(Status.INVALID_ARGUMENT, message)
