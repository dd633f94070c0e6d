"""The examples of docs/api.md and of the docstrings do what they say."""

import doctest
import importlib
import re

import aktis
import pytest

from tests.support.clients import ROOT, embedded, run_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("documentation")

MODULES = (
    "aktis._runtime.actor_class",
    "aktis._runtime.actor_shape",
    "aktis._runtime.decorator",
    "aktis._runtime.objects",
    "aktis._runtime.remote_function",
    "aktis.util.profiling",
)


def test_the_page_runs_from_top_to_bottom(sandbox: Sandbox) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert len(blocks) > 5
    finished = run_program(sandbox, "\n".join(blocks))
    assert finished.returncode == 0, finished.stderr


def test_the_examples_of_docstrings() -> None:
    attempted = 0
    with embedded(num_cpus=1):
        for name in MODULES:
            module = importlib.import_module(name)
            names = {**vars(module), "aktis": aktis}
            results = doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS)
            assert results.failed == 0, name
            attempted += results.attempted
    assert attempted > 10


def test_the_examples_that_need_a_process_of_their_own(sandbox: Sandbox) -> None:
    for name in ("aktis._runtime.lifecycle", "aktis.compat"):
        program = (
            "import doctest, importlib, sys, aktis\n"
            f"module = importlib.import_module({name!r})\n"
            "results = doctest.testmod(module)\n"
            "sys.exit(1 if results.failed or not results.attempted else 0)"
        )
        finished = run_program(sandbox, program)
        assert finished.returncode == 0, finished.stdout + finished.stderr
