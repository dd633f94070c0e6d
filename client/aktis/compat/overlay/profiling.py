"""Spans of user code in the timeline, where programs look for them."""

from aktis.util.profiling import profile

__all__ = ["profile"]
