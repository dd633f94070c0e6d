"""Every example runs by itself, on a cluster of its own, and prints what it should."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from aktis._microbenchmark import ROWS

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 50


def run(*arguments: str | Path) -> str:
    """Runs a module of the repository; returns what it prints."""
    process = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_quickstart() -> None:
    assert run("examples.quickstart").splitlines() == [
        "squares: [0, 1, 4, 9, 16, 25, 36, 49, 64, 81]",
        "sum of squares: 285",
        "means: [499999.5, 499999.5, 499999.5]",
        "47 = 10 * 4 + 7",
        "the task divided by zero, and we caught it",
    ]


def test_counters() -> None:
    assert run("examples.counters").splitlines() == [
        "in order: [101, 102, 103, 104, 105]",
        "after 30 more from three tasks: 135",
        "before opening: 0 passed, 3 wait",
        "after opening: ['ada passed', 'grace passed', 'alan passed']",
    ]


def test_parameter_server_finds_the_weights() -> None:
    found = re.fullmatch(
        r"largest error of a weight after 200 steps: (\S+)\n", run("examples.parameter_server")
    )
    assert found is not None
    assert float(found[1]) < 0.01


def test_monte_carlo_pi_converges() -> None:
    lines = run("examples.monte_carlo_pi").splitlines()
    assert len(lines) == 4
    assert float(lines[-1].split()[-1]) == pytest.approx(3.14159, abs=0.01)


def test_tree_reduce() -> None:
    assert run("examples.tree_reduce") == "sum of 33 arrays: every element is 528 to 528\n"


def test_wordcount_is_right_shared_and_timed(tmp_path: Path) -> None:
    source = Path(json.__file__).parent.parent  # the standard library; two of its packages are enough here
    for package in ("json", "asyncio"):
        for path in (source / package).glob("*.py"):
            target = tmp_path / "source" / package / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    results, timeline = tmp_path / "results.json", tmp_path / "timeline.json"
    output = run(
        "examples.wordcount",
        *("--source", tmp_path / "source", "--maps", "6", "--partitions", "3"),
        *("--json", results, "--timeline", timeline),
    )
    assert "result equals the single process" in output
    document = json.loads(results.read_text())
    assert document["files"] == len(list((tmp_path / "source").rglob("*.py")))
    # The actor has heard of every byte and every task, and every map task read the text where it lies.
    mapped = document["progress"]["map"]
    assert mapped["size_bytes"] == document["size_bytes"]
    assert mapped["tasks"] == mapped["in_place"] == document["progress"]["shuffle"]["tasks"]
    assert document["progress"]["reduce"]["tasks"] == 3
    events = json.loads(timeline.read_text())
    names = {event.get("name", "") for event in events}
    assert any("map_and_shuffle" in name for name in names)
    # The last stage too, which had ended only just before.
    assert sum(event.get("name", "").endswith("reduce") for event in events) == 3


def test_every_row_of_the_microbenchmark_runs(tmp_path: Path) -> None:
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "aktis.cli.main", "microbenchmark"]
    process = subprocess.run(
        [*command, "--rounds", "1", "--seconds", "0.01", "--warmup", "0", "--json", results],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    document = json.loads(results.read_text())
    measured = {name for name, values in document["values"].items() if values}
    assert measured | document["not_offered"].keys() == {row.name for row in ROWS}
