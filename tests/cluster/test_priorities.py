"""priority: of the tasks that wait for the one CPU, those of higher priority go first."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest

from tests.support.clients import embedded

pytestmark = pytest.mark.xdist_group("priorities")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=1):
        yield


class Course:
    """A file that tasks write their names to, and a task that holds the CPU until it is let go."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "names"
        self.began, self.end = directory / "began", directory / "end"
        os.mkfifo(self.began)
        os.mkfifo(self.end)

    def occupy(self, function: Any) -> None:
        """Have a task of ``function`` hold the CPU."""
        self.holder = function.remote(self, "")
        self.began.read_text()  # until it runs

    def run(self) -> None:
        """The task itself: no wait that the runtime knows of, which would lend the CPU out."""
        self.began.write_text("")
        self.end.read_text()

    def note(self, name: str) -> None:
        with self.path.open("a") as file:
            file.write(name)

    def finish(self, refs: list[Any]) -> str:
        """Let the holder go, wait for the others; return the names in the order in which they ran."""
        self.end.write_text("")
        aktis.get([self.holder, *refs], timeout=60)
        return self.path.read_text()


def step(course: Course, name: str) -> None:
    """Note a name; without one hold the CPU."""
    if name:
        course.note(name)
    else:
        course.run()


@aktis.remote
def one(course: Course, name: str) -> None:
    """Be one scheduling class."""
    step(course, name)


@aktis.remote
def two(course: Course, name: str) -> None:
    """Be another one."""
    step(course, name)


@aktis.remote
def three(course: Course, name: str) -> None:
    """And a third."""
    step(course, name)


def test_tasks_of_one_function(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.occupy(one)
    order = [(0, "d"), (2, "b"), (-1, "f"), (1, "c"), (0, "e"), (7, "a")]
    refs = [one.options(priority=p).remote(course, name) for p, name in order]
    assert course.finish(refs) == "abcdef"


def test_another_function_takes_the_cpu_over(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.occupy(one)
    refs = [one.remote(course, name) for name in "cde"]
    refs += [two.options(priority=1).remote(course, name) for name in "ab"]
    assert course.finish(refs) == "abcde"


def test_requests_that_wait_at_the_raylet(tmp_path: Path) -> None:
    course = Course(tmp_path)
    course.occupy(three)
    refs = [one.options(priority=-3).remote(course, name) for name in "cd"]
    refs += [two.remote(course, name) for name in "ab"]
    assert course.finish(refs) == "abcd"
