"""The processes of a pool."""

import time
from collections.abc import Callable, Iterable
from typing import Any

from aktis.util.multiprocessing.functions import Incoming


class PoolWorker:
    """The actor: calls what it is given, and says how long that took in seconds."""

    def __init__(self, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> None:
        """Prepare the process."""
        self._functions = Incoming()
        if initializer is not None:
            initializer(*initargs)

    def apply(
        self, sent: Callable[..., Any] | bytes, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[float, Any]:
        """Call once."""
        function = self._functions.function(sent)
        start_s = time.perf_counter()
        value = function(*args, **kwargs)
        return time.perf_counter() - start_s, value

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> tuple[float, list[Any]]:
        """Call once per item."""
        start_s = time.perf_counter()
        values = [function(item) for item in items]
        return time.perf_counter() - start_s, values

    def starmap(
        self, function: Callable[..., Any], items: Iterable[Iterable[Any]]
    ) -> tuple[float, list[Any]]:
        """Call once per item, which holds the arguments."""
        start_s = time.perf_counter()
        values = [function(*item) for item in items]
        return time.perf_counter() - start_s, values
