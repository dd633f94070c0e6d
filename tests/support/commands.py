"""The command ``aktis`` as a user runs it, and clusters that it leaves running."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from tests.support.sandbox import Sandbox

SMALL: Final = (
    *("--num-cpus", "1"),
    *("--object-store-memory", "64 MiB"),
    *("--set", "raylet.workers.prestart=1"),
)
COMMAND_TIMEOUT_S: Final = 50.0


def aktis_command(sandbox: Sandbox, *arguments: str, code: int = 0) -> str:
    """Run a command; return what it prints, errors included."""
    result = subprocess.run(
        [sys.executable, "-m", "aktis.cli.main", *arguments],
        env=sandbox.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    assert result.returncode == code, result.stdout
    return result.stdout


def start_cluster(sandbox: Sandbox, *more: str, port: int = 0) -> dict[str, Any]:
    """Start a small cluster that goes on without us; return what ``aktis start`` reports."""
    arguments = ("start", "--head", "--port", str(port), "--json", *SMALL, *more)
    return dict(json.loads(aktis_command(sandbox, *arguments)))


@contextmanager
def started_cluster(sandbox: Sandbox, *more: str, port: int = 0) -> Iterator[dict[str, Any]]:
    """A cluster of ``aktis start`` for the length of a block; nothing of it may be left afterwards."""
    report = start_cluster(sandbox, *more, port=port)
    try:
        yield report
    finally:
        aktis_command(sandbox, "stop")
    sandbox.assert_clean(0)
