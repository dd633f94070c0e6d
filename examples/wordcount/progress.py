"""The actor that collects progress from all tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAP = "map"
SHUFFLE = "shuffle"
REDUCE = "reduce"


@dataclass(frozen=True, slots=True)
class StageProgress:
    """What the tasks of one stage have done so far. ``busy_s`` is their working time, added up."""

    tasks: int = 0
    documents: int = 0
    size_bytes: int = 0
    words: int = 0
    busy_s: float = 0.0
    in_place: int = 0

    def plus(self, other: StageProgress) -> StageProgress:
        return StageProgress(
            self.tasks + other.tasks,
            self.documents + other.documents,
            self.size_bytes + other.size_bytes,
            self.words + other.words,
            self.busy_s + other.busy_s,
            self.in_place + other.in_place,
        )


Snapshot = dict[str, StageProgress]


class ProgressBoard:
    """Adds up reports by stage. An actor: its calls run one at a time, so it needs no lock."""

    def __init__(self) -> None:
        self._stages: Snapshot = {}

    def add(self, stage: str, done: StageProgress) -> None:
        self._stages[stage] = self._stages.get(stage, StageProgress()).plus(done)

    def snapshot(self) -> Snapshot:
        return {stage: replace(done) for stage, done in self._stages.items()}
