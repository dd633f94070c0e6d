"""`aktis start` turns its options into settings and refuses what it cannot do."""

from pathlib import Path
from typing import Any

import click
import pytest
from aktis._common.paths import current_cluster_file
from aktis._common.records import own_record
from aktis._common.sessions import CurrentCluster
from aktis.cli.start import command, settings
from click.testing import CliRunner

NOTHING: dict[str, Any] = {
    "host": "127.0.0.1",
    "port": 1,
    "num_cpus": None,
    "num_gpus": None,
    "memory": None,
    "object_store_memory": None,
    "resources": None,
    "labels": None,
    "assignments": (),
}


def test_only_what_is_given_becomes_a_setting() -> None:
    assert settings(**NOTHING) == {"gcs.listen_addresses": ["127.0.0.1:1"]}
    given = {
        **NOTHING,
        "num_cpus": 0.0,
        "memory": "1 GiB",
        "object_store_memory": "2 GiB",
        "resources": '{"a": 2}',
        "assignments": ("logging.level=debug", "cluster.name=a=b"),
    }
    assert settings(**given) == {
        "gcs.listen_addresses": ["127.0.0.1:1"],
        "raylet.num_cpus": 0.0,
        "raylet.memory_bytes": "1 GiB",
        "plasma.capacity_bytes": "2 GiB",
        "raylet.resources": {"a": 2},
        "logging.level": "debug",
        "cluster.name": "a=b",
    }


@pytest.mark.parametrize(
    "text", ["zone=a,tier=gold", " zone=a , tier=gold,", '{"zone": "a", "tier": "gold"}']
)
def test_labels_in_both_forms(text: str) -> None:
    given = settings(**{**NOTHING, "labels": text})
    assert given["raylet.labels"] == {"zone": "a", "tier": "gold"}


@pytest.mark.parametrize("text", ["zone", '{"zone": 1}', "[1]", "zo ne=a", "zone=a b"])
def test_labels_that_are_none(text: str) -> None:
    with pytest.raises(click.UsageError, match="label"):
        settings(**{**NOTHING, "labels": text})


@pytest.mark.parametrize(
    "wrong", [{"resources": "a=2"}, {"resources": "[1]"}, {"assignments": ("logging.level",)}]
)
def test_options_of_another_form(wrong: dict[str, Any]) -> None:
    with pytest.raises(click.UsageError, match="expected"):
        settings(**{**NOTHING, **wrong})


def test_head_is_required() -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    assert "--head is required" in result.output


def test_a_second_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "aktis").mkdir()
    me = own_record("supervisor", 1)
    CurrentCluster("/somewhere", me.pid, me.start_ticks).write(current_cluster_file())
    result = CliRunner().invoke(command, ["--head"])
    assert result.exit_code == 1
    assert "a cluster already runs in /somewhere: stop it first with `aktis stop`" in result.output


def test_a_base_directory_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "aktis").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    result = CliRunner().invoke(command, ["--head"])
    assert result.exit_code == 2
    assert f"{tmp_path}/aktis" in result.output
