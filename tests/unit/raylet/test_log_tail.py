"""Following files: lines as they come, the last one without an end, rotation."""

import asyncio
from pathlib import Path

import pytest
from aktisd.raylet import log_tail
from aktisd.raylet.log_tail import LogTail


class Follower:
    """Collects lines and lets a test wait for a number of them."""

    def __init__(self, directory: Path, rotate_bytes: int = 1 << 20, keep: int = 2) -> None:
        self.out, self.err = directory / "w.out", directory / "w.err"
        self.out.touch()
        self.err.touch()
        self.lines: list[tuple[int, bool, str]] = []
        self._changed = asyncio.Event()
        self.tail = LogTail(directory, rotate_bytes, keep, self._on_lines)
        self.tail.follow(5, str(self.out), str(self.err))

    def _on_lines(self, token: int, is_stderr: bool, lines: list[str]) -> None:
        self.lines.extend((token, is_stderr, line) for line in lines)
        self._changed.set()

    async def wait_for(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.lines) < count:
                self._changed.clear()
                await self._changed.wait()

    def write(self, text: str) -> None:
        with self.out.open("a") as file:
            file.write(text)


def test_lines_come_whole_and_in_order(tmp_path: Path) -> None:
    async def body() -> None:
        follower = Follower(tmp_path)
        follower.write("one\ntw")
        await follower.wait_for(1)
        follower.write("o\nthree")
        follower.err.write_text("error\n")
        await follower.wait_for(3)
        follower.tail.finish(str(follower.out), str(follower.err))
        follower.tail.close()
        assert [line for line in follower.lines if not line[1]] == [
            (5, False, "one"),
            (5, False, "two"),
            (5, False, "three"),
        ]
        assert (5, True, "error") in follower.lines

    asyncio.run(body())


def test_empty_lines_are_lines(tmp_path: Path) -> None:
    async def body() -> None:
        follower = Follower(tmp_path)
        for number, text in enumerate(("\n", "a\n", "\nb\n")):
            follower.write(text)
            await follower.wait_for(number + 1)
        await follower.wait_for(4)
        follower.tail.close()
        assert [line for _, _, line in follower.lines] == ["", "a", "", "b"]

    asyncio.run(body())


def test_what_was_written_before_is_not_missed(tmp_path: Path) -> None:
    async def body() -> None:
        (tmp_path / "w.out").write_text("early\n")
        follower = Follower(tmp_path)
        await follower.wait_for(1)
        follower.tail.close()
        assert follower.lines == [(5, False, "early")]

    asyncio.run(body())


def test_rotation_keeps_files_and_loses_no_line(tmp_path: Path) -> None:
    async def body() -> None:
        follower = Follower(tmp_path, rotate_bytes=10, keep=2)
        for number in range(4):
            follower.write(f"line {number} is long enough\n")
            await follower.wait_for(number + 1)
        follower.tail.close()
        assert [text for _, _, text in follower.lines] == [f"line {n} is long enough" for n in range(4)]
        assert follower.out.stat().st_size == 0
        assert (tmp_path / "w.out.1").read_text() == "line 3 is long enough\n"
        assert (tmp_path / "w.out.2").read_text() == "line 2 is long enough\n"
        assert not (tmp_path / "w.out.3").exists()

    asyncio.run(body())


def test_a_long_text_is_read_in_full(tmp_path: Path) -> None:
    async def body() -> None:
        follower = Follower(tmp_path)
        follower.write("".join(f"{n:07d}\n" for n in range(100_000)))
        await follower.wait_for(100_000)
        follower.tail.close()
        assert follower.lines[-1] == (5, False, "0099999")

    asyncio.run(body())


def lines_of_a_bar(tmp_path: Path, *writes: str) -> list[str]:
    """Write one after the other, each one read before the next."""

    async def body() -> list[str]:
        follower = Follower(tmp_path)
        for text in writes:
            follower.write(text)
            follower.tail.read_now({5})
        follower.tail.catch_up({5, 6})
        follower.tail.close()
        return [text for _, _, text in follower.lines]

    return asyncio.run(body())


def test_what_a_carriage_return_overwrites_is_not_seen(tmp_path: Path) -> None:
    assert lines_of_a_bar(tmp_path, "\r 1/2\r 2/2\nnext\r\n") == [" 2/2", "next"]


def test_a_progress_bar_is_passed_on_while_it_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_tail, "REWRITTEN_S", 0.0)
    assert lines_of_a_bar(tmp_path, "\r 1/3", "\r 2/3", "", "\r 3/3", "\n", "next\n") == [
        " 1/3",
        " 2/3",
        " 3/3",
        "next",
    ]


def test_a_progress_bar_that_moves_quickly_is_passed_on_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_tail, "REWRITTEN_S", 3600.0)
    assert lines_of_a_bar(tmp_path, "\r 1/3", "\r 2/3", "\r 3/3") == [" 1/3", " 3/3"]


def test_catching_up_passes_on_lines_without_an_end(tmp_path: Path) -> None:
    assert lines_of_a_bar(tmp_path, "one\ntw", "o") == ["one", "two"]
