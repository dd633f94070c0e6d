"""What programs call by ``ray.internal``."""

from aktis._runtime.objects import free

__all__ = ["free"]
