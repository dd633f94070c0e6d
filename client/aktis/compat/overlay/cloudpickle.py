"""The pickler that functions and values travel with: the published package of this name."""

from cloudpickle import *  # type: ignore[import-untyped]  # noqa: F403
from cloudpickle import CloudPickler, dump, dumps, load, loads

Pickler = CloudPickler

__all__ = ["CloudPickler", "Pickler", "dump", "dumps", "load", "loads"]
