"""The command, end to end, with the systems that need no peers' environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

from benchmarks.peers import environment
from benchmarks.run import main

ROOT = Path(__file__).resolve().parents[3]
ROWS = ("tasks, synchronous", "tasks, asynchronous")


def bench(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command; this environment stands in for the peers'."""
    program = [sys.executable, "-m", "benchmarks.run", "--rows", *ROWS, "--seconds", "0.01", "--warmup", "0"]
    files = ["--json", str(folder / "out" / "results.json"), "--chart", str(folder / "out" / "chart.svg")]
    return subprocess.run(
        [*program, *files, *arguments],
        cwd=ROOT,
        env={**os.environ, environment.OVERRIDE: sys.prefix},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_results_chart_and_tables(tmp_path: Path) -> None:
    run = bench(tmp_path, "--systems", "multiprocessing,limit", "--rounds", "2")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "tasks, synchronous" in run.stdout
    assert "numbers to reach" not in run.stdout
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    for row in document["rows"]:
        for found in row["systems"].values():
            assert found["rounds"].keys() == {"1", "2"}
            assert found["lowest"] <= found["median"] <= found["highest"]
        assert row["systems"].keys() == {"multiprocessing", "limit"}
    assert document["machine"]["processors"] == os.cpu_count()
    assert {finding["verdict"] for finding in document["check"]} == {"no data"}
    xml.etree.ElementTree.parse(tmp_path / "out" / "chart.svg")


def test_check_without_data_is_a_miss(tmp_path: Path) -> None:
    run = bench(tmp_path, "--systems", "limit", "--rounds", "1", "--check")
    assert run.returncode == 1
    assert "no data" in run.stdout


@pytest.mark.parametrize("arguments", [["--systems", "rya"], ["--rows", "nonsense"]])
def test_unknown_names_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "benchmarks.run: no " in capsys.readouterr().err


def test_an_environment_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(environment.OVERRIDE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"AKTIS_BENCH_PEERS names .* which has no bin/python"):
        environment.ensure()


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(environment.OVERRIDE, raising=False)
    monkeypatch.setattr(environment, "location", lambda: tmp_path)
    made: list[object] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: made.append(command))
    assert environment.ensure() == environment.ensure() == tmp_path / "bin" / "python"
    assert len(made) == 2  # the environment and its packages, once
