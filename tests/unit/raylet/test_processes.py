"""Watching and ending real processes."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

from aktisd.raylet.processes import Ended, Processes, kill_sessions, read_tail

from tests.support.sandbox import wait_for_exit


def start(script: str) -> subprocess.Popen[bytes]:
    """A process in a session of its own that prints one line when it is ready."""
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


async def ended(watch: "Watch") -> Ended:
    async with asyncio.timeout(10):
        return await watch.ends.get()


class Watch:
    """Processes with a queue of their ends."""

    def __init__(self) -> None:
        self.ends: asyncio.Queue[Ended] = asyncio.Queue()
        self.processes = Processes(self.ends.put_nowait)


def test_reported_status_is_used_and_the_whole_group_ends() -> None:
    async def body() -> None:
        watch = Watch()
        with start("sleep 1000 & echo $!; wait") as process:
            watch.processes.watch(1, process.pid)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            assert watch.processes.exited(process.pid, 0, 9)
            assert (await ended(watch)).signal == 9
            await watch.processes.wait_all_gone()

    asyncio.run(body())


def test_death_is_seen_even_when_nobody_reports_it() -> None:
    async def body() -> None:
        watch = Watch()
        with start("echo; exec sleep 1000") as process:
            watch.processes.watch(1, process.pid)
            watch.processes.kill(1)
            end = await ended(watch)
            assert (end.pid, end.known) == (process.pid, False)

    asyncio.run(body())


def test_a_process_that_is_gone_already_is_reported_too() -> None:
    async def body() -> None:
        watch = Watch()
        with start("echo") as process:
            process.wait()
        watch.processes.watch(1, process.pid)
        assert not (await ended(watch)).known

    asyncio.run(body())


def test_terminate_turns_into_kill_for_those_that_do_not_listen() -> None:
    async def body() -> None:
        watch = Watch()
        with start("trap '' TERM; echo; while :; do sleep 1000; done") as process:
            watch.processes.watch(1, process.pid)
            watch.processes.terminate(1, term_after_s=0.0, kill_after_s=0.1)
            await ended(watch)
            assert process.wait() == -signal.SIGKILL

    asyncio.run(body())


def test_a_spared_process_lives_on() -> None:
    async def body() -> None:
        watch = Watch()
        with start("echo; while :; do sleep 1000; done") as process:
            watch.processes.watch(1, process.pid)
            watch.processes.terminate(1, term_after_s=0.05, kill_after_s=0.1)
            watch.processes.spare(1)
            watch.processes.terminate(1, term_after_s=1000.0, kill_after_s=1000.0)  # asked anew
            assert not wait_for_exit(process.pid, 0.3)
            watch.processes.kill(1)
            await ended(watch)

    asyncio.run(body())


def test_sessions_are_swept_whatever_group_a_process_is_in() -> None:
    with start("set -m; sleep 1000 & echo $!; wait") as process:
        assert process.stdout is not None
        kill_sessions({process.pid})
        assert wait_for_exit(process.pid, 5.0)


def test_tail_starts_at_a_line(tmp_path: Path) -> None:
    file = tmp_path / "err"
    file.write_text("first line\nsecond\nthird\n")
    assert read_tail(str(file), 15) == "second\nthird\n"
    assert read_tail(str(file), 1000).startswith("first")
    assert read_tail(str(tmp_path / "none"), 10) == ""
