"""mpi4py: two processes under ``mpirun``, which do what two actors do."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from aktis._microbenchmark.model import Load, NotOfferedError
from aktis._microbenchmark.rows.collectives import (
    LARGE,
    LARGE_BYTES,
    LARGE_PER_STEP,
    MEMBERS,
    SMALL,
    SMALL_BYTES,
    SMALL_PER_STEP,
)

from benchmarks.protocol import Reporter

READY = b"ready\n"
END_TIMEOUT_S = 20


def measure(reporter: Reporter) -> None:
    reporter.attempt_load(LARGE, lambda: _allreduce(LARGE_BYTES, LARGE_PER_STEP, LARGE_BYTES / 1e9))
    reporter.attempt_load(SMALL, lambda: _allreduce(SMALL_BYTES, SMALL_PER_STEP, 1))


def _allreduce(size_bytes: int, count: int, amount: float) -> Load:
    """A line to rank 0 starts so many operations in both; a line back says that they are done."""
    folder = Path(sys.executable).parent
    launcher = folder / "mpirun"
    if not launcher.exists():
        raise NotOfferedError(f"there is no MPI in {folder.parent}")
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}",
        # The members are as many as the processors may be few, and the tests' containers run as root.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    }
    member = [sys.executable, "-m", "benchmarks.rows.mpi_member", str(size_bytes), str(count)]
    process = subprocess.Popen(
        [launcher, "--oversubscribe", "-n", str(MEMBERS), *member],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    requests, answers = process.stdin, process.stdout

    def wait() -> None:
        line = answers.readline()
        if line != READY:
            close()
            status = process.returncode
            raise ConnectionError(
                f"mpirun's processes said {line!r} instead of {READY!r}, exit status {status}"
            )

    def step() -> None:
        requests.write(b"go\n")
        requests.flush()
        wait()

    def close() -> None:
        with contextlib.suppress(BrokenPipeError), requests:
            requests.write(b"end\n")  # mpirun does not pass on that its input is closed
        with answers:
            _wait_or_kill(process)

    wait()
    return Load(step, amount=count * amount, close=close)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(END_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.terminate()  # which mpirun passes on to the members
        try:
            process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
