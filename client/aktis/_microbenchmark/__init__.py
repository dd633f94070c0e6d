"""Throughput of the public API on this machine: what ``aktis microbenchmark`` runs.

The rows are pure functions of an *api module*, so ``benchmarks/`` runs the very same code against other
systems that offer the same calls.
"""

from .main import main
from .model import Api, Load, NotOfferedError, Row, Sample
from .rows import ROWS, select_rows

__all__ = ["ROWS", "Api", "Load", "NotOfferedError", "Row", "Sample", "main", "select_rows"]
