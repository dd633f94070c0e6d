"""Published libraries that drive Ray Core, unchanged, with Aktis in its place; `make programs`.

Each program compares what it computes with the same computation without a cluster, and says so. They need the
network once, for their packages, and are no part of the default run.
"""

import subprocess
from pathlib import Path

import pytest

from tests.programs.environments import PROGRAMS, UV, prepare
from tests.support.clients import output
from tests.support.sandbox import Sandbox

TIMEOUT_S = 400
RAN_THROUGH_ALIAS = ("datatrove", "flwr", "hamilton", "modin", "pymoo", "sklearn", "torch")
RAN_AFTER_INSTALL = ("unidist",)

pytestmark = [pytest.mark.timeout(2400), pytest.mark.xdist_group("programs")]


@pytest.fixture
def python(name: str) -> Path:
    """The interpreter of a program's environment. Before the sandbox, as what builds leaves files."""
    return prepare(name)


@pytest.mark.parametrize("name", RAN_THROUGH_ALIAS)
def test_runs_through_the_alias(name: str, python: Path, sandbox: Sandbox) -> None:
    assert run(sandbox, python, "-c", "import ray").returncode == 1, "the real package is installed"
    printed = output(run(sandbox, python, "-m", "aktis.compat", PROGRAMS / name / "program.py"))
    assert "same:" in printed
    sandbox.assert_clean()


@pytest.mark.parametrize("name", RAN_AFTER_INSTALL)
def test_runs_in_an_environment_with_the_alias_installed(name: str, python: Path, sandbox: Sandbox) -> None:
    """Child processes import it as well, and pip finds nothing missing."""
    output(run(sandbox, python, "-m", "aktis.compat", "--install"))
    try:
        subprocess.run([UV, "pip", "check", "--python", python], check=True, timeout=TIMEOUT_S)
        assert "same:" in output(run(sandbox, python, PROGRAMS / name / "program.py"))
    finally:
        output(run(sandbox, python, "-m", "aktis.compat", "--uninstall"))
    assert run(sandbox, python, "-c", "import ray").returncode == 1
    sandbox.assert_clean()


def run(sandbox: Sandbox, python: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, *map(str, arguments)],
        env=sandbox.env,
        cwd=sandbox.base,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
