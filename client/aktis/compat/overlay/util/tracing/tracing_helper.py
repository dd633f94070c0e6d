"""Whether tasks are traced, under the name that programs ask for it by."""

from aktis.util.tracing import is_enabled as _is_tracing_enabled

is_tracing_enabled = _is_tracing_enabled

__all__ = ["_is_tracing_enabled", "is_tracing_enabled"]
