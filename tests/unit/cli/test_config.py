"""`aktis config` shows, checks and documents."""

import json
from pathlib import Path

import pytest
from aktis.cli.config import command
from click.testing import CliRunner


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.toml"
    path.write_text('[raylet]\nnum_cpus = 3\nlabels = { zone = "a" }\n')
    return path


def test_show_names_the_origin(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AKTIS_LOGGING_LEVEL", "debug")
    output = run("show", "--config", str(file))
    assert f"{file}:2" in output
    assert "environment AKTIS_LOGGING_LEVEL" in output
    assert "gcs.heartbeat_period_ms" not in output
    assert "gcs.heartbeat_period_ms" in run("show", "--all")
    values = json.loads(run("show", "--config", str(file), "--json"))
    assert values["raylet"]["num_cpus"] == 3
    assert values["raylet"]["labels"] == {"zone": "a"}


def test_check(file: Path) -> None:
    assert f"valid ({file})" in run("check", "--config", str(file))
    file.write_text("[raylet]\nnum_cpus = -1\n")
    output = run("check", "--config", str(file), code=2)
    assert f"{file}:2: raylet.num_cpus: expected greater than or equal to 0, got -1" in output
    report = json.loads(run("check", "--config", str(file), "--json", code=2))
    assert report["valid"] is False
    assert len(report["problems"]) == 1
    assert "not valid" in run("show", "--config", str(file), code=2)


def test_docs() -> None:
    output = run("docs")
    assert "gcs.heartbeat_period_ms (int) = 1000" in output
    assert "[AKTIS_GCS_HEARTBEAT_PERIOD_MS]" in output
    entries = json.loads(run("docs", "--json"))
    assert {"key", "type", "default", "variable", "description"} == set(entries[0])
