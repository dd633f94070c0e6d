"""From the configuration to the store's arguments."""

from pathlib import Path
from typing import Any

import pytest
from aktis._common.config import AktisConfig
from aktis._common.errors import StartError
from aktis._core import PlasmaStore
from aktisd.plasma.settings import store_arguments

GIB = 2**30


def arguments(**plasma: object) -> dict[str, Any]:
    config = AktisConfig.model_validate({"paths": {"session_dir": "/tmp/s-x"}, "plasma": plasma})
    return store_arguments(config, "secret", lambda: 10 * GIB)


def test_by_default_the_store_takes_a_share_of_the_memory() -> None:
    assert arguments()["capacity_bytes"] == 3 * GIB
    assert arguments(capacity_bytes="1 GiB")["capacity_bytes"] == GIB


def test_the_socket_is_in_the_session() -> None:
    assert arguments()["address"] == "unix:/tmp/s-x/plasma.sock"


def test_tcp_is_refused_with_the_key() -> None:
    with pytest.raises(StartError, match=r"plasma.listen_address: 127.0.0.1:1 is not a Unix socket"):
        arguments(listen_address="127.0.0.1:1")


def test_a_store_of_nothing_is_refused() -> None:
    with pytest.raises(StartError, match=r"plasma.capacity_bytes: 100 is too small"):
        arguments(capacity_bytes=100)


def test_the_store_takes_every_argument(tmp_path: Path) -> None:
    store = PlasmaStore(**{**arguments(capacity_bytes="2 MiB"), "address": f"unix:{tmp_path}/s"})
    assert store.statistics()["capacity_bytes"] == 2 * 2**20
