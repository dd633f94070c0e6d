"""What workers print, from their files to the drivers that want it. Belongs to the loop."""

import asyncio
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import Final

from aktis._common.config.schema import WorkerLogsSection
from aktis._proto import raylet_pb2

from aktisd.raylet.log_lines import LineSource, LogLines
from aktisd.raylet.log_tail import LogTail

COLLECT_S: Final = 0.05
"""Lines are sent together with what comes within this time."""

Send = Callable[[raylet_pb2.LogBatch], None]


class WorkerOutput:
    """The pure parts, a timer, and what they need to know of the node.

    ``sources(token, is_stderr)`` says who printed; ``reader(job_id)`` how to reach a driver that listens.
    """

    def __init__(
        self,
        directory: Path,
        settings: WorkerLogsSection,
        sources: Callable[[int, bool], Iterable[LineSource]],
        reader: Callable[[bytes], Send | None],
    ) -> None:
        self.lines = LogLines(
            settings.forward_lines_per_s,
            settings.repeat_window_ms / 1000,
            lambda job_id: reader(job_id) is not None,
        )
        self.tail = LogTail(directory, settings.rotate_bytes, settings.rotate_keep, self._on_lines)
        self._sources = sources
        self._reader = reader
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def finish_job(self, job_id: bytes, tokens: Set[int]) -> None:
        """Send all that the workers ``tokens`` of a job have printed until now, and how often."""
        self.tail.catch_up(tokens)
        self.lines.end_windows(job_id, self._loop.time())
        self._send()

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        self.tail.close()

    def _on_lines(self, token: int, is_stderr: bool, texts: list[str]) -> None:
        now = self._loop.time()
        for source in self._sources(token, is_stderr):
            self.lines.add(source, texts, now)
        if self._timer is None:
            self._timer = self._loop.call_later(COLLECT_S, self._send)

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now = self._loop.time()
        for job_id, batch in self.lines.take(now):
            send = self._reader(job_id)
            if send is not None:
                send(batch)
        due = self.lines.next_deadline(now)
        if due is not None:
            self._timer = self._loop.call_at(max(due, now + COLLECT_S), self._send)
