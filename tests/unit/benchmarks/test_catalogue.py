"""Choosing rows by name."""

from __future__ import annotations

import pytest

from benchmarks.catalogue import CATALOGUE, select


def test_names_are_unique() -> None:
    names = [row.name for row in CATALOGUE]
    assert len(set(names)) == len(names)


def test_no_pattern_chooses_everything() -> None:
    assert select([]) == list(CATALOGUE)


def test_a_part_of_a_name_chooses_all_that_contain_it() -> None:
    assert [row.name for row in select(["TASKS, "])] == [
        "tasks, synchronous",
        "tasks, asynchronous",
        "tasks, several clients",
        "tasks, a tree of waiting ones",
    ]


def test_a_whole_name_chooses_only_itself() -> None:
    assert [row.name for row in select(["wait on 1 000 references"])] == ["wait on 1 000 references"]


def test_an_unknown_pattern_names_the_rows() -> None:
    with pytest.raises(ValueError, match="no row matches 'nonsense'; the rows are: get of a stored object;"):
        select(["nonsense"])
