"""The current cluster is found only while it lives, and only dead sessions are swept."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from aktis._common.paths import SessionPaths, current_cluster_file
from aktis._common.records import own_record
from aktis._common.sessions import CurrentCluster, current_cluster, sweep_stale


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "aktis").mkdir()
    return tmp_path / "aktis"


def make_session(base: Path, name: str) -> SessionPaths:
    session = SessionPaths.in_session(base / name)
    session.run_dir.mkdir(parents=True)
    return session


def test_the_current_cluster_must_be_alive(base: Path) -> None:
    assert current_cluster() is None
    me = own_record("supervisor", 1)
    cluster = CurrentCluster(str(base / "s-00000000"), me.pid, me.start_ticks)
    cluster.write(current_cluster_file())
    assert current_cluster() == cluster
    assert cluster.paths.root == base / "s-00000000"
    replace(cluster, start_ticks=me.start_ticks - 1).write(current_cluster_file())
    assert current_cluster() is None
    current_cluster_file().write_text("not JSON")
    assert current_cluster() is None


def test_only_dead_sessions_are_swept(base: Path) -> None:
    live, dead, new, old = (make_session(base, f"s-0000000{number}") for number in range(4))
    me = own_record("supervisor", 1)
    me.write(live.daemon_record("supervisor"))
    replace(me, start_ticks=me.start_ticks - 1).write(dead.daemon_record("supervisor"))
    now_s = new.root.stat().st_mtime
    os.utime(old.root, (now_s - 61, now_s - 61))
    other = base / "something"
    other.mkdir()
    assert sorted(sweep_stale(now_s)) == [dead.root, old.root]
    assert sorted(base.iterdir()) == [live.root, new.root, other]
