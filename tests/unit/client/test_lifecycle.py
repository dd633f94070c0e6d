"""init() without a cluster: what it says about its arguments before it looks for one."""

import logging

import aktis
import pytest


def test_arguments_without_a_meaning_are_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    for arguments, said in (
        ({"dashboard_host": "0.0.0.0", "dashboard_port": 8265}, "dashboard_host, dashboard_port"),
        ({"dashboard_port": 8265}, "dashboard_port"),
        ({"proxy_server_url": "http://x"}, "proxy_server_url"),
        ({"cgroup_path": "/x", "system_reserved_cpu": 1.0}, "cgroup_path, system_reserved_cpu"),
    ):
        caplog.clear()
        with pytest.raises(ConnectionError):
            aktis.init("unix:/nowhere/raylet.sock", logging_level="debug", **arguments)
        assert f"init() ignores {said}: there is no such thing here" in caplog.messages
    caplog.clear()
    with pytest.raises(ConnectionError):
        aktis.init("unix:/nowhere/raylet.sock", logging_level="debug")
    assert caplog.messages == []
    logging.getLogger("aktis").setLevel(logging.NOTSET)


def test_a_format_of_its_own_does_not_print_lines_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logger, root = logging.getLogger("aktis"), logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        with pytest.raises(ConnectionError):
            aktis.init(
                "unix:/nowhere/raylet.sock",
                dashboard_port=8265,
                logging_level="debug",
                logging_format="OURS %(message)s",
            )
    finally:
        logging.getLogger().removeHandler(root)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET)
    lines = [line for line in capsys.readouterr().err.splitlines() if "dashboard_port" in line]
    assert len(lines) == 1
    assert lines[0].startswith("OURS ")


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


@pytest.mark.parametrize("name", ["local_mode", "include_dashboard", "enable_resource_isolation"])
def test_what_would_change_the_meaning_of_a_program_is_warned_of(name: str) -> None:
    with pytest.warns(UserWarning, match=name), pytest.raises(ConnectionError):
        aktis.init("unix:/nowhere/raylet.sock", **{name: True})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_cpu": 1}, "unexpected keyword argument 'num_cpu'"),
        ({"_nonsense": 1}, "unexpected keyword argument '_nonsense'"),
        ({"job_config": object()}, "pass its namespace and runtime_env"),
        ({"logging_config": {"encoding": "JSON"}}, r"must be an aktis\.LoggingConfig, got dict"),
    ],
)
def test_what_init_cannot_take_is_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        aktis.init("unix:/nowhere/raylet.sock", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"encoding": "XML"}, ValueError, "one of TEXT, JSON"),
        ({"log_level": "LOUD"}, ValueError, "DEBUG"),
        ({"log_level": 3}, TypeError, "must be a str"),
        ({"additional_log_standard_attrs": "name"}, TypeError, "a list of names"),
        ({"additional_log_standard_attrs": ["nmae"]}, ValueError, "no attribute 'nmae'"),
    ],
)
def test_a_logging_config_is_checked(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        aktis.LoggingConfig(**arguments)  # type: ignore[arg-type]
