"""init() without a cluster: what it says about its arguments before it looks for one."""

import logging

import aktis
import pytest


def test_arguments_without_a_meaning_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for arguments, said in (
        ({"dashboard_host": "0.0.0.0", "dashboard_port": 8265}, "dashboard_host, dashboard_port"),
        ({"dashboard_port": 8265}, "dashboard_port"),
    ):
        caplog.clear()
        with pytest.raises(ConnectionError):
            aktis.init("unix:/nowhere/raylet.sock", logging_level="debug", **arguments)
        assert f"init() ignores {said}: there is no dashboard" in caplog.messages
    caplog.clear()
    with pytest.raises(ConnectionError):
        aktis.init("unix:/nowhere/raylet.sock", logging_level="debug")
    assert caplog.messages == []
    logging.getLogger("aktis").setLevel(logging.NOTSET)


@pytest.mark.parametrize(
    ("labels", "error", "words"),
    [
        ({"zone": "-"}, ValueError, "letter or digit"),
        ({"": "a"}, ValueError, "1 to 63 letters"),
        ({"zone": 1}, TypeError, "labels must map str to str"),
        (["zone"], TypeError, "labels must be a dict"),
    ],
)
def test_labels_are_checked(labels: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        aktis.init(address="local", labels=labels)  # type: ignore[arg-type]
