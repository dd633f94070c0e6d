"""Every row runs, does the work it claims, and cleans up after itself."""

from __future__ import annotations

import pytest
from aktis._microbenchmark import ROWS, Row, main, select_rows
from aktis._microbenchmark.measure import measure_row
from aktis._microbenchmark.model import NotOfferedError
from aktis._microbenchmark.render import Results, format_value, results_table

from tests.unit.microbenchmark.local_api import LocalApi

PLACEMENT = "placement group create and remove"
QUEUE = "queue put and get"
COLLECTIVES = ("allreduce of 64 MiB, GB/s", "allreduce of 16 bytes")
LOCAL_ROWS = [row for row in ROWS if row.name not in (PLACEMENT, QUEUE, *COLLECTIVES)]


@pytest.mark.parametrize("row", LOCAL_ROWS, ids=lambda row: row.name)
def test_row_runs_and_kills_its_actors(row: Row) -> None:
    api = LocalApi()
    sample = measure_row(api, row, clients=2, seconds=1e-9, warmup_s=0.0)
    assert sample.value > 0
    assert sample.steps == 1
    assert api.alive == []


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("tasks, synchronous", 1),
        ("tasks, asynchronous", 1000),
        ("actor calls, 1 to n", 999),
        ("actor calls, n to n", 333 * 9),
        ("actor calls with a stored argument, n to n", 333 * 9),
    ],
)
def test_amount_is_the_number_of_calls(name: str, calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.unit.microbenchmark import local_api

    count = 0
    original = local_api.Callee.remote

    def counted(self: local_api.Callee, *arguments: object) -> object:
        nonlocal count
        count += getattr(self.function, "__name__", "") == "small"
        return original(self, *arguments)

    (row,) = select_rows([name])
    load = row.prepare(LocalApi(), 3)
    monkeypatch.setattr(local_api.Callee, "remote", counted)
    load.step()
    assert count == calls == load.amount


def test_placement_groups_need_their_module() -> None:
    (row,) = select_rows([PLACEMENT])
    with pytest.raises(ModuleNotFoundError, match="local_api"):
        row.prepare(LocalApi(), 2)


def test_a_system_without_a_queue_does_not_offer_its_row() -> None:
    (row,) = select_rows([QUEUE])
    with pytest.raises(NotOfferedError, match=r"no util\.queue"):
        row.prepare(LocalApi(), 2)


def test_a_system_without_collectives_does_not_offer_their_rows() -> None:
    for row in select_rows(COLLECTIVES):
        with pytest.raises(NotOfferedError, match=r"no util\.collective"):
            row.prepare(LocalApi(), 2)


def test_listing_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.count("\n") == len(ROWS)


def test_unknown_row_and_bad_numbers_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--rows", "nonsense"]) == 2
    assert "no row matches 'nonsense'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--rounds", "0"])


@pytest.mark.parametrize(("value", "text"), [(12345.6, "12 346"), (8.314, "8.31"), (0.05, "0.05")])
def test_values_are_readable(value: float, text: str) -> None:
    assert format_value(value) == text


def test_table_shows_failures_and_absences() -> None:
    rows = list(ROWS[:3])
    results = Results({rows[0].name: [1.0, 3.0, 2.0]}, {rows[1].name: "boom"}, {rows[2].name: "not here"})
    cells = list(zip(*(column.cells for column in results_table("t", rows, results).columns), strict=True))
    assert cells[0][1:4] == ("2", "1", "3")
    assert cells[1][-1] == "boom"
    assert cells[2][-1] == "not here"
    assert results.is_over(rows[1].name)
    assert not results.is_over(rows[0].name)
