"""What mypy and pyright say of programs that use the public interface: tests/typing says where they must."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_type_hints

import aktis
import pytest
from aktis._runtime.option_types import ActorOptions, DecoratorOptions, MethodOptions, TaskOptions
from aktis._runtime.options import ACTOR_OPTIONS, METHOD_OPTIONS, TASK_OPTIONS

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = sorted((ROOT / "tests" / "typing").glob("*.py"))
TIMEOUT_S = 300

# Both take long on a busy machine; beside each other they would only take longer.
pytestmark = [pytest.mark.timeout(TIMEOUT_S), pytest.mark.xdist_group("types")]

Findings = set[tuple[str, int]]
"""Files and lines."""


def expected(*marks: str) -> Findings:
    return {
        (program.name, number)
        for program in PROGRAMS
        for number, line in enumerate(program.read_text().splitlines(), 1)
        if line.endswith(tuple(f"  # {mark}" for mark in marks))
    }


def run(*command: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert finished.returncode in (0, 1), finished.stdout + finished.stderr
    return finished.stdout


def found_by_mypy() -> Findings:
    text = run("mypy", "--no-pretty", "--no-color-output", *map(str, PROGRAMS))
    findings = re.findall(r"^(\S+?):(\d+): error: ", text, re.MULTILINE)
    assert findings, text
    return {(Path(name).name, int(line)) for name, line in findings}


def found_by_pyright() -> Findings:
    report = json.loads(run("pyright", "--outputjson", "-p", "tests/typing", "--pythonpath", sys.executable))
    assert report["summary"]["filesAnalyzed"] == len(PROGRAMS), report["summary"]
    return {
        (Path(item["file"]).name, item["range"]["start"]["line"] + 1)
        for item in report["generalDiagnostics"]
        if item["severity"] == "error"
    }


@pytest.mark.parametrize(
    ("checker", "marks"),
    [(found_by_mypy, ("wrong",)), (found_by_pyright, ("wrong", "wrong for pyright"))],
    ids=["mypy", "pyright"],
)
def test_a_checker_finds_what_is_wrong_and_nothing_else(
    checker: Callable[[], Findings], marks: tuple[str, ...]
) -> None:
    assert sorted(checker()) == sorted(expected(*marks))


@pytest.mark.parametrize(
    ("types", "table"),
    [
        (TaskOptions, TASK_OPTIONS),
        (ActorOptions, ACTOR_OPTIONS),
        (DecoratorOptions, {**TASK_OPTIONS, **ACTOR_OPTIONS}),
        (MethodOptions, METHOD_OPTIONS),
    ],
)
def test_checkers_know_the_options_that_there_are(types: type, table: Mapping[str, object]) -> None:
    known = set(get_type_hints(types))
    assert known | {"num_returns"} == set(table) | {"num_returns"}  # an argument of its own


def test_method_is_a_decorator_with_and_without_options() -> None:
    class Some:
        @aktis.method
        def plain(self) -> int:
            return 1

        @aktis.method(num_returns=2)
        def pair(self) -> tuple[int, int]:
            return 1, 2

    assert Some().plain() == 1
    assert Some().pair() == (1, 2)
    for arguments, options in (((len, len), {}), ((len,), {"name": "x"}), ((1,), {})):
        with pytest.raises(TypeError, match="used as @method"):
            aktis.method(*arguments, **options)
