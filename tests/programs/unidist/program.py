"""unidist on its backend for Ray Core, in a process of its own, beside its sequential backend."""

import subprocess
import sys
from pathlib import Path


def main() -> None:
    ours, expected = (run(backend) for backend in ("Ray", "PySeq"))
    assert ours.stdout == expected.stdout, (ours.stdout, expected.stdout)
    assert "2 [{'CPU': 2" in ours.stderr, ours.stderr
    print("same:", len(ours.stdout.splitlines()), "lines")


def run(backend: str) -> subprocess.CompletedProcess[str]:
    steps = Path(__file__).with_name("steps.py")
    return subprocess.run(
        [sys.executable, steps, backend], check=True, text=True, capture_output=True, timeout=100
    )


if __name__ == "__main__":
    main()
