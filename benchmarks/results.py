"""The result of a run, and its JSON form."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.catalogue import RowInfo
from benchmarks.harness import Outcome
from benchmarks.summary import Summary, paired_ratio, summarize

SCHEMA = 1


@dataclass(slots=True)
class Results:
    """Everything measured in one run.

    samples: row name -> system -> round -> value.
    failures: system -> row name -> the last error; a system that crashed has the row name "".
    """

    rows: list[RowInfo]
    systems: list[str]
    samples: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)
    absent: dict[str, dict[str, str]] = field(default_factory=dict)
    left_behind: dict[str, list[str]] = field(default_factory=dict)

    def add(self, system: str, round_number: int, outcome: Outcome) -> None:
        """Takes in what one process measured."""
        for row, value in outcome.values.items():
            self.samples.setdefault(row, {}).setdefault(system, {})[round_number] = value
        failures = outcome.failures if outcome.crash is None else {**outcome.failures, "": outcome.crash}
        if failures:
            self.failures.setdefault(system, {}).update(failures)
        if outcome.absent:
            self.absent.setdefault(system, {}).update(outcome.absent)
        if outcome.left_behind:
            self.left_behind[system] = outcome.left_behind

    def rounds_of(self, row: str, system: str) -> dict[int, float]:
        return self.samples.get(row, {}).get(system, {})

    def summary(self, row: str, system: str) -> Summary | None:
        return summarize(list(self.rounds_of(row, system).values()))

    def ratio(self, row: RowInfo, ours: str, theirs: str, their_row: str | None = None) -> Summary | None:
        """How many times better ``ours`` is than ``theirs`` (see ``paired_ratio``) in this or another row."""
        return paired_ratio(
            self.rounds_of(row.name, ours),
            self.rounds_of(their_row or row.name, theirs),
            row.higher_is_better,
        )

    def has_failures(self) -> bool:
        return bool(self.failures)

    def to_document(self, settings: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
        """The JSON document: facts, then one entry per row with samples, summaries and ratios."""
        return {
            "schema": SCHEMA,
            "machine": machine,
            "settings": settings,
            "rows": [self._row_document(row) for row in self.rows],
            "failures": self.failures,
            "absent": self.absent,
            "left_behind": self.left_behind,
        }

    def _row_document(self, row: RowInfo) -> dict[str, Any]:
        measured = [name for name in self.systems if self.rounds_of(row.name, name)]
        return {
            "name": row.name,
            "unit": row.unit,
            "higher_is_better": row.higher_is_better,
            "systems": {
                name: {
                    "rounds": self.rounds_of(row.name, name),
                    **_summary_document(self.summary(row.name, name)),
                }
                for name in measured
            },
            "aktis_is_better_by": {
                name: _summary_document(ratio)
                for name in measured
                if name != "aktis" and (ratio := self.ratio(row, "aktis", name)) is not None
            },
        }


def _summary_document(summary: Summary | None) -> dict[str, Any]:
    return asdict(summary) if summary is not None else {}


def from_document(document: dict[str, Any]) -> Results:
    """Results read back from a JSON document; ``ValueError`` for another schema."""
    if document.get("schema") != SCHEMA:
        raise ValueError(f"the file has schema {document.get('schema')!r}, this program reads {SCHEMA}")
    rows = [RowInfo(row["name"], row["unit"], row["higher_is_better"]) for row in document["rows"]]
    results = Results(rows, list(document["settings"]["systems"]))
    for row in document["rows"]:
        for system, found in row["systems"].items():
            rounds = {int(number): value for number, value in found["rounds"].items()}
            results.samples.setdefault(row["name"], {})[system] = rounds
    results.failures = document["failures"]
    results.absent = document["absent"]
    results.left_behind = document["left_behind"]
    return results
