"""What the calling code is part of."""

from aktis._runtime.runtime_context import RuntimeContext, get_runtime_context

__all__ = ["RuntimeContext", "get_runtime_context"]
