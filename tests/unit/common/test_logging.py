"""Every line of a daemon's log has the same schema."""

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from aktis._common.logging import bind_node, configure_logging, get_logger


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    handlers, level = logging.getLogger().handlers[:], logging.getLogger().level
    yield
    logging.getLogger().handlers[:] = handlers
    logging.getLogger().setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_json_lines_follow_the_schema() -> None:
    out = io.StringIO()
    configure_logging("gcs", stream=out)
    bind_node(b"\x01\x02")
    get_logger(job="j1").info("node_joined", peer=b"\xff", count=3)
    line = json.loads(out.getvalue())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "component": "gcs",
        "node": "0102",
        "job": "j1",
        "event": "node_joined",
        "fields": {"peer": "ff", "count": 3},
    }


def test_levels_below_the_limit_are_left_out() -> None:
    out = io.StringIO()
    configure_logging("gcs", level="warning", stream=out)
    get_logger().info("quiet")
    get_logger().error("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


def test_exceptions_carry_their_traceback() -> None:
    out = io.StringIO()
    configure_logging("gcs", stream=out)
    try:
        raise KeyError("lost")
    except KeyError:
        get_logger().exception("failed")
    assert "KeyError: 'lost'" in json.loads(out.getvalue())["fields"]["exception"]


def test_messages_of_libraries_go_the_same_way() -> None:
    out = io.StringIO()
    configure_logging("gcs", stream=out)
    logging.getLogger("asyncio").warning("slow %s", "callback")
    logging.getLogger("asyncio").info("not of interest")
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "slow callback"
    assert json.loads(line)["fields"]["logger"] == "asyncio"


def test_console_lines_are_readable() -> None:
    out = io.StringIO()
    configure_logging("raylet", style="console", stream=out)
    get_logger().info("worker_died", pid=7, why="killed by user", worker=b"\xab")
    line = out.getvalue().strip()
    assert line.endswith('info     raylet  worker_died pid=7 why="killed by user" worker=ab')


def test_a_stream_that_fails_never_stops_the_daemon() -> None:
    out = io.StringIO()
    configure_logging("gcs", stream=out)
    out.close()
    get_logger().info("lost")


def test_importing_it_does_not_import_rich() -> None:
    code = "import sys, aktis._common.logging; print('rich' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
