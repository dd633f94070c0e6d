"""What strace prints, understood."""

from __future__ import annotations

from benchmarks.syscalls import attached_pids, parse_counts

COUNTS = """\
    calls syscall
--------- ----------------
     2050 sendmsg
     1999 recvmsg
        3 futex
--------- ----------------
     4052 total
"""


def test_counts_without_the_total() -> None:
    assert parse_counts(COUNTS) == {"sendmsg": 2050, "recvmsg": 1999, "futex": 3}


def test_nothing_traced_is_no_counts() -> None:
    assert parse_counts("") == {}


def test_several_summaries_add_up() -> None:
    assert parse_counts(COUNTS + COUNTS)["futex"] == 6


def test_attached_processes_are_those_with_and_without_threads_and_those_gone() -> None:
    messages = (
        "strace: Process 17 attached with 6 threads\n"
        "strace: Process 18 attached\n"
        "strace: attach: ptrace(PTRACE_SEIZE, 19): No such process\n"
        "strace: something else about 20\n"
    )
    assert attached_pids(messages) == {17, 18, 19}


def test_a_message_cut_in_the_middle_names_nobody() -> None:
    assert attached_pids("strace: Process 17 atta") == set()
