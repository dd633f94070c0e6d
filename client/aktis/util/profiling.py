"""Spans of user code in the timeline."""

import json
import time
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from aktis._runtime import current
from aktis._runtime.errors import error_text

_MAX_EXTRA_BYTES: Final = 1024  # as of an error: the control store keeps many events, whole
_MAX_TRACEBACK_CHARACTERS: Final = 1024
_MAX_FRAMES: Final = 16


class profile:  # noqa: N801  used like a function, and named as in the API to be compatible with
    """Record how long a block takes; it appears in `aktis.timeline` under its name.

    If it ends by an exception, its ``args`` there have ``type``, ``value``, both as ``error``, and
    ``traceback`` (the last KiB); the exception goes on.

    Example:
        >>> with profile("load", extra_data={"file": "a.csv"}):
        ...     pass
    """

    def __init__(self, event_type: str, extra_data: Mapping[str, Any] | None = None) -> None:
        """Name the span.

        Args:
            event_type: Its name.
            extra_data: What its ``args`` in the timeline say besides: names and values as JSON has them, at
                most 1 KiB of JSON. A ``name`` is shown instead of ``event_type``; a ``cname`` is its colour.

        Raises:
            TypeError: ``extra_data`` is no mapping from text to what JSON can say.
            ValueError: It is too large.
        """
        self._name = event_type
        self._extra_data = _to_json(extra_data) if extra_data is not None else ""
        self._start_unix_ns = 0

    def __enter__(self) -> Self:
        self._start_unix_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_unix_ns = time.time_ns()
        extra_data = self._extra_data
        if error is not None:
            extra_data = json.dumps({**json.loads(extra_data or "{}"), **_story(error)})
        current.require().core.record_span(self._name, self._start_unix_ns, end_unix_ns, extra_data)


def _story(error: BaseException) -> dict[str, str]:
    """Return what a span tells of the exception that ended its block: bounded, whatever the exception is."""
    text = error_text(error)
    return {
        "type": type.__repr__(type(error))[:_MAX_EXTRA_BYTES],
        "value": text.partition(": ")[2],
        "error": text,
        "traceback": _traceback_of(error)[-_MAX_TRACEBACK_CHARACTERS:],
    }


def _traceback_of(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-_MAX_FRAMES))
    except Exception as problem:  # it is the user's: what goes on must be the exception itself, not this one
        return f"(its traceback cannot be had: {type(problem).__name__})"


def _to_json(extra_data: object) -> str:
    if not isinstance(extra_data, Mapping) or not all(isinstance(name, str) for name in extra_data):
        raise TypeError(f"profile: extra_data must be a dict with names of type str, not {extra_data!r:.200}")
    try:
        text = json.dumps(dict(extra_data), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"profile: extra_data must be what JSON can say: {error}; pass str(value)") from error
    if len(text) > _MAX_EXTRA_BYTES:  # json.dumps writes ASCII
        raise ValueError(
            f"profile: extra_data is {len(text)} bytes of JSON, at most {_MAX_EXTRA_BYTES} are kept with a "
            "span; log the rest, or put it into an object"
        )
    return text
