"""Spans of user code in the timeline."""

import time
from types import TracebackType
from typing import Self

from aktis._runtime import current


class profile:  # noqa: N801  used like a function, and named as in the API to be compatible with
    """Record how long a block takes; it appears in `aktis.timeline` under its name.

    Example:
        >>> with profile("load"):
        ...     pass
    """

    def __init__(self, event_type: str, extra_data: object = None) -> None:
        """Name the span; ``extra_data`` is accepted for compatibility."""
        del extra_data
        self._name = event_type
        self._start_unix_ns = 0

    def __enter__(self) -> Self:
        self._start_unix_ns = time.time_ns()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        current.require().core.record_span(self._name, self._start_unix_ns, time.time_ns())
