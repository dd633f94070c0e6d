"""Verdicts on the numbers to reach."""

from __future__ import annotations

from benchmarks import catalogue, floors
from benchmarks.catalogue import RowInfo
from benchmarks.floors import Below, Floor, Times, Verdict, check
from benchmarks.results import Results

RATE = RowInfo("rate", "calls/s", True)
OTHER = RowInfo("other", "calls/s", True)
COST = RowInfo("cost", "s", False)


def results(**values: float) -> Results:
    """Results of one round, from ``row_system=value``."""
    found = Results([RATE, OTHER, COST], ["aktis", "ray", "limit"])
    for key, value in values.items():
        row, system = key.split("_")
        found.samples.setdefault(row, {}).setdefault(system, {})[1] = value
    return found


def verdict(found: Results, floor: Floor) -> Verdict:
    (finding,) = check(found, [floor])
    return finding.verdict


def test_ratio_at_the_floor_passes_and_under_it_fails() -> None:
    floor = Floor("rate", (Times("ray", 10),))
    assert verdict(results(rate_aktis=100, rate_ray=10), floor) is Verdict.PASS
    assert verdict(results(rate_aktis=99, rate_ray=10), floor) is Verdict.FAIL


def test_one_of_several_conditions_is_enough() -> None:
    floor = Floor("rate", (Times("ray", 3), Times("limit", 0.9)))
    assert verdict(results(rate_aktis=95, rate_ray=80, rate_limit=100), floor) is Verdict.PASS
    assert verdict(results(rate_aktis=80, rate_ray=70, rate_limit=100), floor) is Verdict.FAIL


def test_an_unmeasured_condition_does_not_decide() -> None:
    floor = Floor("rate", (Times("ray", 3), Times("limit", 0.9)))
    assert verdict(results(rate_aktis=95, rate_limit=100), floor) is Verdict.PASS
    assert verdict(results(rate_aktis=95), floor) is Verdict.NO_DATA


def test_a_peer_without_the_row_is_measured_by_another_of_its_rows() -> None:
    floor = Floor("rate", (Times("ray", 1, their_row="other"),))
    assert str(floor) == ">= 1 x ray (other)"
    assert verdict(results(rate_aktis=11, rate_ray=99, other_ray=10, other_aktis=1), floor) is Verdict.PASS
    assert verdict(results(rate_aktis=9, other_ray=10), floor) is Verdict.FAIL
    assert verdict(results(rate_aktis=9, rate_ray=1), floor) is Verdict.NO_DATA
    assert check(results(rate_aktis=9), [Floor("rate", (Times("ray", 1, their_row="not asked for"),))]) == []


def test_limit_of_a_value_is_exclusive() -> None:
    floor = Floor("cost", (Below(1.0),))
    assert verdict(results(cost_aktis=0.99), floor) is Verdict.PASS
    assert verdict(results(cost_aktis=1.0), floor) is Verdict.FAIL
    assert verdict(results(), floor) is Verdict.NO_DATA


def test_rows_that_were_not_asked_for_are_not_judged() -> None:
    assert check(results(), [Floor("another", (Below(1),))]) == []


def test_every_floor_names_a_row_of_the_table() -> None:
    units = {row.name: row.unit for row in catalogue.CATALOGUE}
    for floor in floors.FLOORS:
        assert len({units[row] for row in floor.rows}) == 1, floor
