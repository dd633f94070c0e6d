"""The document of a run, there and back; the chart and the tables drawn from it."""

from __future__ import annotations

import io
import json
import xml.etree.ElementTree

import pytest
from rich.console import Console

from benchmarks import chart
from benchmarks.catalogue import RowInfo
from benchmarks.harness import Outcome
from benchmarks.results import Results, from_document
from benchmarks.tables import results_table

ROWS = [RowInfo("calls & more", "calls/s", True), RowInfo("start, seconds", "s", False)]


def filled() -> Results:
    found = Results(ROWS, ["aktis", "ray", "limit"])
    for round_number, speed in ((1, 1.0), (2, 2.0)):
        found.add("aktis", round_number, Outcome({"calls & more": 100 * speed, "start, seconds": 0.5}))
        found.add("ray", round_number, Outcome({"calls & more": 10 * speed, "start, seconds": 5.0}))
    found.add("limit", 1, Outcome({"calls & more": 400.0}, failures={"start, seconds": "broken"}))
    return found


def test_document_survives_json() -> None:
    document = filled().to_document({"systems": ["aktis", "ray", "limit"]}, {})
    again = from_document(json.loads(json.dumps(document)))
    assert again == filled()


def test_document_has_ratios_of_paired_rounds() -> None:
    document = filled().to_document({}, {})
    assert document["rows"][0]["aktis_is_better_by"]["ray"]["median"] == pytest.approx(10)
    assert document["rows"][1]["aktis_is_better_by"]["ray"]["median"] == pytest.approx(10)
    assert document["rows"][0]["aktis_is_better_by"]["limit"] == {
        "median": 0.25,
        "lowest": 0.25,
        "highest": 0.25,
        "count": 1,
    }


def test_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="schema 99"):
        from_document({"schema": 99})


def test_a_crash_is_a_failure_of_the_system() -> None:
    found = Results(ROWS, ["ray"])
    assert not found.has_failures()
    found.add("ray", 1, Outcome(crash="EOFError: the process ended while starting"))
    assert found.has_failures()


def test_chart_is_well_formed_and_has_every_measured_row() -> None:
    root = xml.etree.ElementTree.fromstring(chart.draw(filled(), "a <machine>"))
    texts = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"calls & more", "start, seconds", "a <machine>", "150 calls/s"} <= texts


def test_axis_spans_whole_decades_around_one() -> None:
    axis = chart.fit_axis([0.5, 37.0])
    assert (axis.low, axis.high) == (-1, 2)
    assert axis.x(0.1) == chart.LABEL_WIDTH
    assert axis.x(100) == pytest.approx(chart.LABEL_WIDTH + chart.PLOT_WIDTH)


@pytest.mark.parametrize(
    ("systems", "reference"),
    [(["aktis", "joblib", "ray"], "ray"), (["aktis", "limit", "joblib"], "joblib"), (["aktis"], "aktis")],
)
def test_reference_of_the_chart(systems: list[str], reference: str) -> None:
    assert chart.choose_reference(systems) == reference


def test_table_shows_medians_ratios_and_failures() -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(results_table(filled()))
    text = console.export_text()
    line = next(line for line in text.splitlines() if "calls & more" in line)
    assert [cell.strip() for cell in line.strip("│ ").split("│")][1:] == ["150", "15", "400", "10"]
    assert "failed" in text
