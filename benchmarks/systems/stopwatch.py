"""Times an import. Imports nothing but the clock itself, so that it takes no cost away from what it times."""

import importlib
import time
from types import ModuleType


def import_timed(name: str) -> tuple[ModuleType, float]:
    """Imports a module; returns it and how many seconds that took."""
    start = time.perf_counter()
    module = importlib.import_module(name)
    return module, time.perf_counter() - start
