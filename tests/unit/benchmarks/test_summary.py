"""Medians and paired ratios."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.summary import Summary, paired_ratio, summarize

positive = st.floats(min_value=1e-3, max_value=1e6)


def test_summary_has_median_and_range() -> None:
    assert summarize([3.0, 1.0, 10.0]) == Summary(median=3.0, lowest=1.0, highest=10.0, count=3)


def test_nothing_has_no_summary() -> None:
    assert summarize([]) is None


def test_ratio_pairs_rounds_not_medians() -> None:
    # Machine ten times slower in round 2: the ratio is the same in both, the medians would mix them.
    ours = {1: 100.0, 2: 10.0, 3: 100.0}
    theirs = {1: 10.0, 2: 1.0}
    assert paired_ratio(ours, theirs, higher_is_better=True) == Summary(10.0, 10.0, 10.0, 2)


def test_ratio_of_a_row_where_less_is_better_is_inverted() -> None:
    ratio = paired_ratio({1: 0.5}, {1: 2.0}, higher_is_better=False)
    assert ratio is not None
    assert ratio.median == pytest.approx(4.0)


def test_no_common_round_has_no_ratio() -> None:
    assert paired_ratio({1: 1.0}, {2: 1.0}, higher_is_better=True) is None


@pytest.mark.parametrize(("ours", "theirs"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_a_value_that_is_not_positive_has_no_ratio(ours: float, theirs: float) -> None:
    assert paired_ratio({1: ours}, {1: theirs}, higher_is_better=True) is None


@given(st.dictionaries(st.integers(1, 9), st.tuples(positive, positive), min_size=1))
def test_swapping_sides_inverts_every_ratio(rounds: dict[int, tuple[float, float]]) -> None:
    ours = {number: pair[0] for number, pair in rounds.items()}
    theirs = {number: pair[1] for number, pair in rounds.items()}
    forth = paired_ratio(ours, theirs, higher_is_better=True)
    back = paired_ratio(ours, theirs, higher_is_better=False)
    assert forth is not None
    assert back is not None
    assert forth.highest == pytest.approx(1 / back.lowest)
    assert forth.lowest <= forth.median <= forth.highest
