"""What the decorator makes of a function."""

from aktis._runtime.remote_function import RemoteFunction

__all__ = ["RemoteFunction"]
