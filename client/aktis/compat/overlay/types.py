"""Types for annotations."""

from aktis import ObjectRef

__all__ = ["ObjectRef"]
