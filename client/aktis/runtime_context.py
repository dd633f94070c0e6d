"""The runtime context at the place where programs look for it."""

from aktis._runtime.runtime_context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
