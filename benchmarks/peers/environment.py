"""Makes the peers' environment, once: ``python -m benchmarks.peers.environment`` prints its interpreter."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements.txt"
OVERRIDE = "AKTIS_BENCH_PEERS"
PACKAGES = ("ray", "joblib", "distributed", "numpy", "mpi4py", "openmpi")


def location() -> Path:
    """Where the environment is or will be: ``AKTIS_BENCH_PEERS``, else ``build/peers``."""
    override = os.environ.get(OVERRIDE)
    return Path(override) if override else HERE.parent.parent / "build" / "peers"


def ensure() -> Path:
    """The interpreter of the peers' environment, made or renewed when the requirements have changed.

    An environment named by ``AKTIS_BENCH_PEERS`` is used as it is. Raises ``FileNotFoundError`` when that
    has no interpreter, and ``subprocess.CalledProcessError`` when pip fails (its output is on stderr).
    """
    folder = location()
    python = folder / "bin" / "python"
    if OVERRIDE in os.environ:
        if not python.exists():
            raise FileNotFoundError(f"{OVERRIDE} names {folder}, which has no bin/python")
        return python
    stamp = folder / "requirements.sha256"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making the peers' environment in {folder} (once)", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    pip: list[Path | str] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", REQUIREMENTS], check=True)
    stamp.write_text(wanted)
    return python


if __name__ == "__main__":
    print(ensure())
