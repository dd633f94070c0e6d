"""How the programs of a job log: `LoggingConfig`, in the driver and in every worker of its job.

It sets up Python's root logger. Each record gets the ids of the job, node, process, actor and task that it
comes from.
"""

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TextIO

from aktis._runtime import current

ENCODINGS: Final = ("TEXT", "JSON")
_STANDARD: Final = ("asctime", "levelname", "message", "filename", "lineno", "exc_text")
_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"asctime", "message", "taskName"}


@dataclass(frozen=True)
class LoggingConfig:
    """How a program and its tasks and actors log; an argument of `aktis.init`.

    Args:
        encoding: "TEXT": a line for people. "JSON": a line for programs.
        log_level: The level of the root logger, as `logging` names it.
        additional_log_standard_attrs: Attributes of `logging.LogRecord` that are shown as well, for example
            ``["name"]``.

    Raises:
        TypeError, ValueError: an argument is not valid; the message says what is.
    """

    encoding: str = "TEXT"
    log_level: str = "INFO"
    additional_log_standard_attrs: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Check what was given: a worker could only fail."""
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding must be one of {', '.join(ENCODINGS)}, got {self.encoding!r}")
        if not isinstance(self.log_level, str):
            raise TypeError(
                f"log_level must be a str, got {type(self.log_level).__name__} {self.log_level!r}"
            )
        levels = logging.getLevelNamesMapping()
        if self.log_level.upper() not in levels:
            raise ValueError(f"log_level must be one of {', '.join(levels)}, got {self.log_level!r}")
        attributes = self.additional_log_standard_attrs
        if isinstance(attributes, str) or not isinstance(attributes, Sequence):
            raise TypeError(f"additional_log_standard_attrs must be a list of names, got {attributes!r}")
        for name in attributes:
            if name not in _ATTRIBUTES:
                raise ValueError(
                    f"additional_log_standard_attrs: records have no attribute {name!r}; they have "
                    f"{', '.join(sorted(_ATTRIBUTES))}"
                )

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> "LoggingConfig":
        """Make one of what `to_dict` returned."""
        return cls(**d)

    def to_dict(self) -> dict[str, Any]:
        """Return the arguments that make the same."""
        return {
            "encoding": self.encoding,
            "log_level": self.log_level,
            "additional_log_standard_attrs": list(self.additional_log_standard_attrs),
        }

    def apply(self) -> None:
        """Set up the root logger of this process; its handlers are replaced."""
        handler = _Handler()
        formatter = _JsonFormatter if self.encoding == "JSON" else _TextFormatter
        handler.setFormatter(formatter(tuple(self.additional_log_standard_attrs)))
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(self.log_level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to what sys.stderr is at the time: a program may exchange it."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        raise AttributeError("the stream is sys.stderr")


def _where() -> dict[str, str]:
    """Return who logs; nothing that is not known."""
    session = current.session
    if session is None:
        return {}
    from aktis._runtime.runtime_context import RuntimeContext

    context = RuntimeContext(session)
    found = {
        "job_id": context.get_job_id(),
        "worker_id": context.get_worker_id(),
        "node_id": context.get_node_id(),
        "actor_id": context.get_actor_id(),
        "actor_name": context.get_actor_name(),
        "task_id": context.get_task_id(),
        "task_name": context.get_task_name(),
        "task_func_name": context.get_task_function_name(),
    }
    return {name: value for name, value in found.items() if value}


class _Formatter(logging.Formatter):
    def __init__(self, additional: tuple[str, ...]) -> None:
        super().__init__()
        self._additional = tuple(name for name in additional if name not in _STANDARD)

    def details(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return what is said beside time, level, place and message, in this order."""
        wanted = {name: getattr(record, name, None) for name in self._additional}
        given = {name: value for name, value in vars(record).items() if name not in _ATTRIBUTES}
        return wanted | _where() | given | {"timestamp_ns": int(record.created * 1e9)}


class _TextFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        details = " ".join(f"{name}={value}" for name, value in self.details(record).items())
        text = f"{self.formatTime(record)} {record.levelname} {record.filename}:{record.lineno} -- "
        text += f"{record.getMessage()} {details}"
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return text


class _JsonFormatter(_Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "filename": record.filename,
            "lineno": record.lineno,
        }
        if record.exc_info:
            fields["exc_text"] = self.formatException(record.exc_info)
        return json.dumps(fields | self.details(record), default=str)
