"""Aktis: tasks, actors and shared objects for Python, on one machine or on a cluster."""

from aktis._core import __version__

__all__ = ["__version__"]
