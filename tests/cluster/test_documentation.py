"""The examples of the pages and of the docstrings do what they say; pages name files that exist."""

import ast
import doctest
import importlib
import re

import aktis
import pytest

from tests.support.clients import ROOT, embedded, run_program
from tests.support.sandbox import Sandbox

pytestmark = pytest.mark.xdist_group("documentation")

NOT_IN_THE_REPOSITORY = {"client/aktis/_proto", "docs/decisions/NNNN-name.md"}
"""Appears when building; a pattern."""

ALONE = ("aktis._runtime.lifecycle", "aktis.compat")
"""Their examples start and end sessions."""


def modules_with_examples() -> list[str]:
    """Names of modules with examples in their docstrings that run in the session of the test."""
    client = ROOT / "client"
    paths = [path for path in (client / "aktis").rglob("*.py") if ">>>" in path.read_text()]
    names = [".".join(path.relative_to(client).with_suffix("").parts) for path in paths]
    return sorted({name.removesuffix(".__init__") for name in names} - set(ALONE))


PAGES = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TOP_FOLDERS = (
    "client",
    "daemons",
    "cpp",
    "proto",
    "tests",
    "docs",
    "examples",
    "benchmarks",
    "tools",
    "cmake",
)


def strict(source: str) -> str:
    """Make an example that expects an exception fail when there is none."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and node.handlers and not node.orelse:
            node.orelse = ast.parse("raise AssertionError('nothing was raised')").body
    return ast.unparse(tree)


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        "docs/actors.md",
        "docs/api.md",
        "docs/collective.md",
        "docs/driver.md",
        "docs/objects.md",
        "docs/placement_groups.md",
        "docs/programs.md",
        "docs/runtime_env.md",
        "docs/state.md",
        "docs/tasks.md",
        "docs/tracing.md",
        "docs/util.md",
    ],
)
def test_a_page_runs_from_top_to_bottom(sandbox: Sandbox, page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    finished = run_program(sandbox, strict("\n".join(blocks)))
    assert finished.returncode == 0, finished.stderr


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_files_that_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    named = [name for name in re.findall(r"`([\w.]+/[\w./-]+)`", text) if name.startswith(TOP_FOLDERS)]
    linked = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s:]+)\)", text)]
    missing = {name for name in named if not (ROOT / name).exists()}
    missing |= {target for target in linked if target and not ((ROOT / page).parent / target).exists()}
    assert not missing - NOT_IN_THE_REPOSITORY


def test_the_examples_of_docstrings() -> None:
    with embedded(num_cpus=1):
        for name in modules_with_examples():
            module = importlib.import_module(name)
            names = {**vars(module), "aktis": aktis}
            results = doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS)
            assert results.attempted, name
            assert results.failed == 0, name


def test_the_examples_that_need_a_process_of_their_own(sandbox: Sandbox) -> None:
    for name in ALONE:
        program = (
            "import doctest, importlib, sys, aktis\n"
            f"module = importlib.import_module({name!r})\n"
            "results = doctest.testmod(module)\n"
            "sys.exit(1 if results.failed or not results.attempted else 0)"
        )
        finished = run_program(sandbox, program)
        assert finished.returncode == 0, finished.stdout + finished.stderr
