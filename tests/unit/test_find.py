"""A running cluster is found by what the user says, and what is missing is named."""

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from aktis._common.paths import SessionPaths, create_session, current_cluster_file, read_token
from aktis._common.records import own_record
from aktis._common.sessions import CurrentCluster
from aktis._find import FoundCluster, find_cluster


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("AKTIS_ADDRESS", raising=False)
    monkeypatch.delenv("AKTIS_SECURITY_TOKEN_FILE", raising=False)
    with tempfile.TemporaryDirectory(prefix="ak-", dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield Path(directory)


@pytest.fixture
def session() -> Iterator[SessionPaths]:
    """A session whose raylet listens, with the test as its supervisor, recorded as the current cluster."""
    session = create_session()
    me = own_record("supervisor", 1)
    CurrentCluster(str(session.root), me.pid, me.start_ticks).write(current_cluster_file())
    with socket.socket(socket.AF_UNIX) as raylet:
        raylet.bind(str(session.raylet_socket))
        raylet.listen()
        yield session


def expected(session: SessionPaths) -> FoundCluster:
    token = read_token(session.token_file)
    return FoundCluster(f"unix:{session.raylet_socket}", f"unix:{session.gcs_socket}", session.root, token)


@pytest.mark.parametrize("address", [None, "auto"])
def test_the_current_cluster(session: SessionPaths, address: str | None) -> None:
    assert find_cluster(address) == expected(session)


def test_a_raylets_socket(session: SessionPaths) -> None:
    current_cluster_file().unlink()
    assert find_cluster(f"unix:{session.raylet_socket}") == expected(session)


@pytest.mark.parametrize("address", [None, "auto"])
def test_the_environment(session: SessionPaths, monkeypatch: pytest.MonkeyPatch, address: str | None) -> None:
    current_cluster_file().unlink()
    monkeypatch.setenv("AKTIS_ADDRESS", f"unix:{session.raylet_socket}")
    assert find_cluster(address) == expected(session)


def test_without_a_cluster_nothing_is_found_unless_it_must_be(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_cluster() is None
    with pytest.raises(ConnectionError, match=r"no cluster of this user is running .* `aktis start --head`"):
        find_cluster("auto")
    monkeypatch.setenv("AKTIS_ADDRESS", "auto")
    with pytest.raises(ConnectionError, match="no cluster"):
        find_cluster()


def test_nothing_listens_at_a_socket(session: SessionPaths, base: Path) -> None:
    with pytest.raises(ConnectionError, match=r"listens at unix:/.*/x.sock \(No such file"):
        find_cluster(f"unix:{base}/x.sock")
    dead = base / "dead.sock"
    with socket.socket(socket.AF_UNIX) as closed:
        closed.bind(str(dead))
    with pytest.raises(ConnectionError, match="Connection refused"):
        find_cluster(f"unix:{dead}")


def test_nothing_listens_at_a_port(session: SessionPaths) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ConnectionError, match=f"nothing listens at 127.0.0.1:{port}"):
        find_cluster(f"127.0.0.1:{port}")


def test_a_port_needs_a_token(monkeypatch: pytest.MonkeyPatch, base: Path) -> None:
    with pytest.raises(ConnectionError, match="name its token file in AKTIS_SECURITY_TOKEN_FILE"):
        find_cluster("127.0.0.1:1")
    monkeypatch.setenv("AKTIS_SECURITY_TOKEN_FILE", str(base / "absent"))
    with pytest.raises(ConnectionError, match="cannot be read"):
        find_cluster("127.0.0.1:1")


def test_a_token_that_others_can_read_is_refused(session: SessionPaths) -> None:
    os.chmod(session.token_file, 0o644)
    with pytest.raises(ConnectionError, match="chmod 600"):
        find_cluster("auto")


@pytest.mark.parametrize("address", ["", "nowhere", "host:", "unix:relative", "host:port"])
def test_addresses_of_another_form(address: str) -> None:
    with pytest.raises(ValueError, match="address must be"):
        find_cluster(address)
