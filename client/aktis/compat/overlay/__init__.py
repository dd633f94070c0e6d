"""What programs look for in the package ``ray`` itself and ``aktis`` does not have."""

from typing import Any, Final

from aktis.compat import claimed_version

SCRIPT_MODE: Final = 0
WORKER_MODE: Final = 1
"""What `ray._private.worker.global_worker.mode` is in a driver, and in a worker."""

__all__ = ["SCRIPT_MODE", "WORKER_MODE"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return claimed_version()
    raise AttributeError(name)
