"""What is available is the least of the machine's memory and every control group's room."""

from pathlib import Path

import psutil
import pytest
from aktisd.plasma import memory


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    return tmp_path


def limit(directory: Path, maximum: str, current: int) -> None:
    (directory / "memory.max").write_text(maximum + "\n")
    (directory / "memory.current").write_text(f"{current}\n")


def test_limits_of_all_parents_count(groups: Path) -> None:
    limit(groups / "a" / "b", "max", 10)
    limit(groups / "a", "1000", 300)
    assert list(memory.group_rooms(groups, "/a/b")) == [700]


def test_a_group_beyond_its_limit_has_no_room(groups: Path) -> None:
    limit(groups / "a", "100", 300)
    assert list(memory.group_rooms(groups, "/a")) == [0]


def test_without_the_controller_there_is_no_limit(groups: Path) -> None:
    assert list(memory.group_rooms(groups, "/a/b")) == []
    assert list(memory.group_rooms(groups, "")) == []


def test_never_more_than_the_machine_has() -> None:
    assert 0 < memory.available_bytes() <= psutil.virtual_memory().total
