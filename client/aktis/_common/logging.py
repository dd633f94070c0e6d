"""Structured logs with one schema for all daemons.

Every line has time, level, component, node and event; everything else that a call passes lies under
``fields``. JSON in production, readable lines in a terminal. Messages of libraries go the same way.
"""

import json
import logging
import sys
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, Literal, TextIO, cast

# structlog.dev and structlog.tracebacks import rich when it is installed, for tracebacks in colour that no
# daemon shows: 100 of 190 ms. None in sys.modules is Python's own way to say that a module is not available.
_HIDDEN = () if "rich" in sys.modules else ("rich",)
for _name in _HIDDEN:
    sys.modules[_name] = None  # type: ignore[assignment]
try:
    import structlog
finally:
    for _name in _HIDDEN:
        del sys.modules[_name]

Logger = structlog.typing.FilteringBoundLogger
Format = Literal["json", "console"]
EventDict = MutableMapping[str, Any]

LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_SCHEMA: Final = ("time", "level", "component", "node", "job", "actor", "task", "trace_id", "event")


def get_logger(**fields: object) -> Logger:
    """Return a logger; ``fields`` are bound to each of its lines."""
    logger: Logger = structlog.get_logger(**fields)
    return logger


def configure_logging(
    component: str, *, level: str = "info", style: Format = "json", stream: TextIO | None = None
) -> None:
    """Set up this process's logging, once, before anything logs.

    Args:
        component: the daemon's name, in every line.
        level: the least severe level that is written, one of `LEVELS`.
        style: "json" or "console".
        stream: where lines go; default stderr.
    """
    number = getattr(logging, level.upper())
    out = stream if stream is not None else sys.stderr
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(component=component)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_time,
            structlog.processors.format_exc_info,
            _group_fields,
            _render_json if style == "json" else _render_console,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, _Sink(out))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Forward()]
    root.setLevel(max(number, logging.WARNING))


def bind_node(node_id: bytes) -> None:
    """Name this node in every later line of the current context."""
    structlog.contextvars.bind_contextvars(node=node_id.hex())


def _add_time(_logger: object, _method: str, event: EventDict) -> EventDict:
    now_ns = time.time_ns()
    seconds, rest_ns = divmod(now_ns, 1_000_000_000)
    event["time"] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{rest_ns // 1000:06d}Z"
    return event


def _group_fields(_logger: object, _method: str, event: EventDict) -> EventDict:
    ordered: EventDict = {name: event[name] for name in _SCHEMA if name in event}
    fields = {name: value for name, value in event.items() if name not in _SCHEMA}
    if fields:
        ordered["fields"] = fields
    return ordered


def _plain(value: object) -> object:
    """Return a JSON value for what json cannot encode itself; ids are bytes and read best in hexadecimal."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def _render_json(_logger: object, _method: str, event: EventDict) -> str:
    return json.dumps(event, default=_plain, separators=(",", ":"))


def _render_console(_logger: object, _method: str, event: EventDict) -> str:
    fields: dict[str, object] = dict(event.get("fields", {}))
    exception = fields.pop("exception", None)
    parts = [
        event["time"][11:23],
        f"{event['level']:<8}",
        f"{event.get('component', '-'):<7}",
        event["event"],
    ]
    parts += [f"{name}={_text(value)}" for name, value in fields.items()]
    line = " ".join(str(part) for part in parts)
    return f"{line}\n{exception}" if exception else line


def _text(value: object) -> str:
    text = value.hex() if isinstance(value, bytes) else str(value)
    return text if text and " " not in text else json.dumps(text)


class _Sink:
    """Writes whole lines. A full disk or a reader that is gone loses lines, it never stops a daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()


class _Forward(logging.Handler):
    """Passes records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, object] = {"logger": record.name}
            if record.exc_info:
                fields["exc_info"] = record.exc_info
            method = record.levelname.lower()
            getattr(get_logger(), method if method in LEVELS else "info")(record.getMessage(), **fields)
        except Exception:
            self.handleError(record)
