"""Run programs that were written for another runtime with this interface: ``import ray`` gets Aktis.

`install_as_ray` makes ``import ray`` and its submodules resolve to our modules for the rest of the process
and for the workers of its jobs; ``python -m aktis.compat prog.py args...`` does so and runs a program;
``python -m aktis.compat --install`` does it for every process of the virtual environment.

What of that interface has no other place here is in `aktis.compat.overlay`, in modules of the same names.
"""

import os
import sys
from typing import Final

from aktis.compat.alias import ALIAS, Alias, Finder

COMPATIBLE_VERSION: Final = "2.60.0"
"""The release whose interface is followed, and that programs are told they run with."""

INSTALL_VARIABLE: Final = "AKTIS_COMPAT_RAY"
"""The release to be, in the environment of a process that has installed the alias, and of its children."""


def install_as_ray(version: str | None = None) -> None:
    """Make ``import ray`` give Aktis in this process and in the workers of its jobs.

    Call it before ``init``, which tells the workers. A second call only sets the version, if it names one.

    Args:
        version: What ``ray.__version__`` and the metadata of the distribution say; for a library that refuses
            other releases than those it knows. Default: the release whose interface is followed.

    Raises:
        ImportError: the real package has been imported already.

    Example:
        >>> import aktis.compat
        >>> aktis.compat.install_as_ray()
        >>> import ray
        >>> ray.get(ray.put(1))
        1
    """
    present = sys.modules.get(ALIAS)
    if present is not None and not isinstance(present, Alias):
        raise ImportError(f"the package {ALIAS!r} has been imported already: install the alias before that")
    os.environ[INSTALL_VARIABLE] = version or os.environ.get(INSTALL_VARIABLE) or COMPATIBLE_VERSION
    if present is not None:
        present.__dict__.pop("__version__", None)  # asked for again, it is looked up again
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, Finder(claimed_version))


def claimed_version() -> str:
    """Return the release that programs are told they run with."""
    return os.environ.get(INSTALL_VARIABLE) or COMPATIBLE_VERSION
