"""Process trees and memory from /proc."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.procfs import (
    descendants,
    descendants_of,
    name_of,
    parse_parent,
    parse_pss_kib,
    pss_mib,
    wait_gone,
)

SLEEPER = [sys.executable, "-c", "import sys; sys.stdin.read()"]


def test_pss_is_read_from_its_own_line() -> None:
    assert parse_pss_kib("00400000-7fff rollup\nRss: 9 kB\nPss:      1234 kB\nPss_Dirty: 7 kB\n") == 1234


def test_text_without_pss_is_an_error() -> None:
    with pytest.raises(ValueError, match="Pss"):
        parse_pss_kib("Rss: 9 kB\n")


def test_parent_of_a_process_with_a_hostile_name() -> None:
    assert parse_parent("42 (a) S 7) R) S 17 42 42 0") == 17


def test_descendants_are_transitive_and_exclude_the_root() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 9: 8}
    assert descendants_of(2, parents) == {3, 4}
    assert descendants_of(7, parents) == set()


def test_a_child_is_seen_until_it_exits() -> None:
    with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE) as child:
        assert child.pid in descendants(os.getpid())
        assert pss_mib([child.pid]) > 0
        assert child.stdin is not None
        child.stdin.close()
        child.wait()
    assert child.pid not in descendants(os.getpid())
    assert pss_mib([child.pid]) == 0
    assert name_of(child.pid) == "?"


def test_waiting_ends_with_the_last_descendant() -> None:
    with subprocess.Popen(SLEEPER, stdin=subprocess.PIPE) as child:
        assert wait_gone(os.getpid(), timeout_s=0.0) >= {child.pid}
        assert wait_gone(child.pid, timeout_s=5.0) == set()  # it has no children
        assert child.stdin is not None
        child.stdin.close()
