"""Benchmarks of Aktis against its peers. Start with ``python -m benchmarks.run --help``.

The rows are defined in ``client/aktis/_microbenchmark``. A peer's environment has no Aktis installed; there,
importing this package makes that one subpackage importable without running ``aktis/__init__.py``.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

if importlib.util.find_spec("aktis") is None:
    _shell = ModuleType(
        "aktis", "Holds the row definitions of the benchmark; Aktis itself is not installed here."
    )
    _shell.__path__ = [str(Path(__file__).resolve().parent.parent / "client" / "aktis")]
    sys.modules["aktis"] = _shell
