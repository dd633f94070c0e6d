"""Statistics of a run. Pure: numbers in, numbers out.

Machines are noisy, so a system's value is the median of its rounds, and a comparison is the median of the
ratios *within* each round: both sides of a ratio then saw the same weather.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

Samples = Mapping[int, float]
"""One system's values of one row, by round number."""


@dataclass(frozen=True, slots=True)
class Summary:
    """Median and range of some values."""

    median: float
    lowest: float
    highest: float
    count: int


def summarize(values: list[float]) -> Summary | None:
    """The summary, or None when there is nothing to summarize."""
    if not values:
        return None
    return Summary(statistics.median(values), min(values), max(values), len(values))


def paired_ratio(ours: Samples, theirs: Samples, higher_is_better: bool) -> Summary | None:
    """How many times better ``ours`` is than ``theirs``, over the rounds in which both were measured.

    Above 1 means better, whichever direction the row has. None when no round has both. A round with a
    value that is not positive is left out, as no ratio exists there.
    """
    ratios: list[float] = []
    for round_number, our_value in ours.items():
        their_value = theirs.get(round_number)
        if their_value is None or our_value <= 0 or their_value <= 0:
            continue
        ratios.append(our_value / their_value if higher_is_better else their_value / our_value)
    return summarize(ratios)
