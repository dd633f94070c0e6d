"""The two systems that the same tests run on, and a small cluster of the chosen one."""

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.sandbox import new_sandbox

AKTIS = "aktis"
RAY = "ray"
SYSTEMS = (AKTIS, RAY)


def choose(system: str) -> None:
    """Make ``import ray`` give the system; in the process that starts the clusters, once."""
    if system == AKTIS:
        importlib.import_module("aktis.compat").install_as_ray()
    else:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    assert is_ray() == (system == RAY), f"the module ray is not that of {system}"


def is_ray() -> bool:
    """Whether the tests run on the real one."""
    home: str = importlib.import_module("ray.exceptions").RayError.__module__
    return not home.startswith("aktis.")


@contextmanager
def running_cluster(*, num_cpus: float = 2, **options: Any) -> Iterator[Any]:
    """Run a cluster of this process's own for a module; yield what ``init`` returned."""
    import ray

    ray_only: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False} if is_ray() else {}
    with _surroundings():
        context = ray.init(address="local", num_cpus=num_cpus, **{**ray_only, **options})
        try:
            yield context
        finally:
            ray.shutdown()


@contextmanager
def _surroundings() -> Iterator[None]:
    """Prove that a cluster of Aktis leaves nothing behind; a peer's is not ours to judge."""
    if is_ray():
        yield
        return
    alias = "AKTIS_COMPAT_RAY"
    with new_sandbox() as sandbox:
        before = dict(os.environ)
        inside = {**sandbox.env, alias: before[alias]}
        os.environ.clear()
        os.environ.update(inside)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
