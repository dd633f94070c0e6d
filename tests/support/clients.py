"""An embedded cluster for the tests of one module, and programs that are drivers of their own."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aktis

from tests.support.sandbox import Sandbox, new_sandbox

ROOT = Path(__file__).resolve().parents[2]
PROGRAM_TIMEOUT_S = 50.0


@contextmanager
def environment(sandbox: Sandbox) -> Iterator[None]:
    """Let clusters of this process live in the sandbox."""
    before, inside = dict(os.environ), sandbox.env
    os.environ.clear()
    os.environ.update(inside)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def embedded(*, num_cpus: float = 2, **options: object) -> Iterator[aktis.Context]:
    """Run an embedded cluster that this process is the driver of; fail if it leaves anything behind."""
    with new_sandbox() as sandbox, environment(sandbox):
        context = aktis.init(address="local", num_cpus=num_cpus, **options)  # type: ignore[arg-type]
        try:
            yield context
        finally:
            aktis.shutdown()


def run_program(
    sandbox: Sandbox, source: str, *arguments: str, timeout_s: float = PROGRAM_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run a program in the sandbox and wait for its end."""
    return subprocess.run(
        [sys.executable, "-c", source, *arguments],
        env=sandbox.env,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def output(finished: subprocess.CompletedProcess[str]) -> str:
    """Return what a program that must succeed has printed."""
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def start_program(sandbox: Sandbox, source: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a program in the sandbox whose output the caller reads."""
    return subprocess.Popen(
        [sys.executable, "-u", "-c", source, *arguments],
        env=sandbox.env,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
