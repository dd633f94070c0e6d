"""Cost per item: how growth is judged, and that every load does as many items as it says."""

from __future__ import annotations

import pytest

from benchmarks.growth import FACTORS, growth, main
from benchmarks.rows.growth import GROWTH_ROWS, GrowthRow
from tests.unit.microbenchmark.local_api import LocalApi


def test_flat_cost_has_growth_one() -> None:
    assert growth({1: 3.0, 10: 3.0, 100: 3.0}) == 1.0


def test_growth_is_against_the_cheapest_smaller_size() -> None:
    # 1x carries the fixed cost of a call; from 10x to 100x an item became three times as dear.
    assert growth({1: 100.0, 10: 5.0, 100: 15.0}) == 3.0


@pytest.mark.parametrize("row", GROWTH_ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("factor", FACTORS)
def test_a_step_handles_as_many_items_as_it_says(row: GrowthRow, factor: int) -> None:
    api = LocalApi()
    load = row.prepare(api, row.base * factor)
    assert load.amount == row.base * factor
    load.step()
    load.close()
    assert api.alive == []


def test_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "nonsense"]) == 2
    assert "no row matches 'nonsense'; the rows are: tasks in flight" in capsys.readouterr().err
