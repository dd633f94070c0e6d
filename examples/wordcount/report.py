"""What the user sees: live bars while it runs, tables at the end, and the same as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from .corpus import Corpus
from .index import InvertedIndex
from .job import JobResult, Times
from .progress import MAP, REDUCE, SHUFFLE, Snapshot, StageProgress

TOP_WORDS = 10
SEARCH = (b"asyncio", b"socket", b"timeout")
SHOWN_DOCUMENTS = 3


@dataclass(frozen=True, slots=True)
class Facts:
    """What the run was."""

    system: str
    corpus: Corpus
    maps: int
    partitions: int
    times: Times
    result: JobResult
    timeline: Path

    @property
    def throughput_mb_s(self) -> float:
        return self.corpus.size_bytes / 1e6 / self.times.job_s

    @property
    def speedup(self) -> float:
        """Against the single process that checked the result."""
        return self.times.steps["single process"] / self.times.job_s


@contextmanager
def live_bars(
    console: Console, size_bytes: int, maps: int, partitions: int
) -> Iterator[Callable[[Snapshot], None]]:
    """Yields what takes a snapshot and moves the bars."""
    columns = (SpinnerColumn(), TextColumn("{task.description:>8}"), BarColumn(bar_width=50))
    with Progress(*columns, TextColumn("{task.fields[note]}"), TimeElapsedColumn(), console=console) as bars:
        totals = {MAP: size_bytes, SHUFFLE: maps, REDUCE: partitions}
        tasks = {stage: bars.add_task(stage, total=total, note="") for stage, total in totals.items()}

        def show(snapshot: Snapshot) -> None:
            for stage, task in tasks.items():
                done = snapshot.get(stage, StageProgress())
                amount = done.size_bytes if stage == MAP else done.tasks
                bars.update(task, completed=amount, note=_note(stage, done))

        yield show


def _note(stage: str, done: StageProgress) -> str:
    if stage == MAP:
        return f"{done.documents} files, {done.size_bytes / 1e6:.1f} MB"
    return f"{done.tasks} tasks, {done.words} distinct words"


def print_report(console: Console, facts: Facts) -> None:
    """The tables and the closing lines."""
    console.print(_steps_table(facts), _words_table(facts.result.index), sep="\n")
    index, corpus = facts.result.index, facts.corpus
    found = index.search(*SEARCH)
    names = ", ".join(corpus.names[int(number)] for number in found[:SHOWN_DOCUMENTS])
    query = " and ".join(word.decode() for word in SEARCH)
    mapped = facts.result.progress[MAP]
    words_s = index.total_words / facts.times.job_s
    lines = (
        f"files with {query}: {len(found)}" + (f" ({names}, ...)" if len(found) else ""),
        f"corpus shared without a copy: {mapped.in_place} of {mapped.tasks} map tasks read it in place",
        f"result equals the single process: {index.distinct_words} words, {index.total_words} occurrences",
        f"throughput: {facts.throughput_mb_s:.1f} MB/s, {words_s:,.0f} words/s, "
        f"{facts.speedup:.2f} x the plain loop in one process",
        f"timeline: {facts.timeline} (open in https://ui.perfetto.dev)",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _steps_table(facts: Facts) -> Table:
    corpus = facts.corpus
    title = f"{len(corpus.names)} files, {corpus.size_bytes / 1e6:.1f} MB, on {facts.system}"
    table = Table("step", title=title)
    for heading in ("wall s", "MB/s", "busy s in workers"):
        table.add_column(heading, justify="right")
    progress = facts.result.progress
    busy = {
        "map and shuffle": f"{progress[MAP].busy_s:.2f} map + {progress[SHUFFLE].busy_s:.2f} shuffle",
        "reduce": f"{progress[REDUCE].busy_s:.2f}",
    }
    for step, seconds in facts.times.steps.items():
        rate = f"{corpus.size_bytes / 1e6 / seconds:,.1f}" if seconds > 0 and step != "start" else ""
        table.add_row(step, f"{seconds:.3f}", rate, busy.get(step, ""))
    return table


def _words_table(index: InvertedIndex) -> Table:
    table = Table("word", title="most frequent")
    table.add_column("count", justify="right")
    table.add_column("files", justify="right")
    for word, count in index.top(TOP_WORDS):
        table.add_row(word.decode(), f"{count}", f"{len(index.documents(word))}")
    return table


def to_document(facts: Facts) -> dict[str, Any]:
    """The same as data."""
    index = facts.result.index
    return {
        "system": facts.system,
        "files": len(facts.corpus.names),
        "size_bytes": facts.corpus.size_bytes,
        "maps": facts.maps,
        "partitions": facts.partitions,
        "steps_s": facts.times.steps,
        "job_s": facts.times.job_s,
        "throughput_mb_s": facts.throughput_mb_s,
        "speedup": facts.speedup,
        "progress": {stage: asdict(done) for stage, done in facts.result.progress.items()},
        "distinct_words": index.distinct_words,
        "total_words": index.total_words,
        "top": [[word.decode(), count] for word, count in index.top(TOP_WORDS)],
        "timeline": str(facts.timeline),
    }
