"""The whole job on the spot, without a cluster: stages, progress, times and report."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from examples.wordcount import baseline, corpus, job, report
from examples.wordcount.progress import MAP, REDUCE, SHUFFLE, Snapshot
from examples.wordcount.stages import reads_in_place
from tests.unit.microbenchmark.local_api import LocalApi


@pytest.fixture
def text(tmp_path: Path) -> corpus.Corpus:
    for number in range(9):
        (tmp_path / f"{number}.py").write_text(f"import asyncio, socket\ntimeout = {'x ' * number}\n")
    return corpus.read(tmp_path)


@pytest.mark.parametrize("partitions", [1, 3])
def test_job_gives_the_right_index_and_counts_everything(text: corpus.Corpus, partitions: int) -> None:
    shown: list[Snapshot] = []
    times = job.Times()
    result = job.run(LocalApi(), text, 4, partitions, times, shown.append)
    baseline.verify(result.index, baseline.compute(text))
    progress = result.progress
    assert progress == shown[-1]
    assert progress[MAP].tasks == progress[SHUFFLE].tasks == 4
    assert progress[MAP].documents == 9
    assert progress[MAP].size_bytes == text.size_bytes
    assert progress[MAP].words == result.index.total_words
    assert progress[REDUCE].tasks == partitions
    assert progress[REDUCE].words == result.index.distinct_words
    assert list(times.steps) == ["share", "map and shuffle", "reduce", "collect"]
    assert times.job_s == pytest.approx(sum(times.steps.values()))


def test_report_says_what_was_done(text: corpus.Corpus, tmp_path: Path) -> None:
    times = job.Times()
    result = job.run(LocalApi(), text, 4, 3, times, lambda snapshot: None)
    times.steps["single process"] = 2 * times.job_s
    facts = report.Facts("local", text, 4, 3, times, result, tmp_path / "timeline.json")
    console = Console(width=120, record=True, file=io.StringIO())
    report.print_report(console, facts)
    printed = console.export_text()
    assert "files with asyncio and socket and timeout: 9 (0.py, 1.py, 2.py, ...)" in printed
    assert "4 of 4 map tasks read it in place" in printed
    assert "2.00 x the plain loop in one process" in printed
    assert str(tmp_path / "timeline.json") in printed
    document = json.loads(json.dumps(report.to_document(facts)))
    assert document["speedup"] == pytest.approx(2)
    assert document["total_words"] == result.index.total_words
    assert document["top"][0] == ["x", 36]


def test_bars_follow_the_snapshots(text: corpus.Corpus) -> None:
    console = Console(width=120, record=True, file=io.StringIO(), force_terminal=True)
    with report.live_bars(console, text.size_bytes, 4, 3) as show:
        job.run(LocalApi(), text, 4, 3, job.Times(), show)
    printed = console.export_text()
    assert "9 files" in printed
    assert "4 tasks" in printed
    assert "3 tasks" in printed


def test_only_a_read_only_view_counts_as_in_place() -> None:
    own = np.zeros(4, dtype=np.uint8)
    view = own[:]
    view.flags.writeable = False
    assert reads_in_place(view)
    assert not reads_in_place(own)
    assert not reads_in_place(own[:])
    assert not reads_in_place(view.copy())
