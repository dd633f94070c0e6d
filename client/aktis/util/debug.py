"""Messages that are wanted once, or now and then, instead of at every turn of a loop."""

import threading
import time
from typing import Final

_PERIOD_S: Final = 60.0

_lock = threading.Lock()
_last_logged_s: dict[str, float] = {}
_disabled = False
_periodic = False


def log_once(key: str) -> bool:
    """Whether the message with this key should be shown: True the first time, then False.

    After `enable_periodic_logging` it is True again once a minute.

    Example:
        >>> [log_once("the docstring of log_once") for _ in range(3)]
        [True, False, False]
    """
    now_s = time.monotonic()
    with _lock:
        if _disabled:
            return False
        last_s = _last_logged_s.get(key)
        if last_s is not None and not (_periodic and now_s - last_s > _PERIOD_S):
            return False
        _last_logged_s[key] = now_s
        return True


def reset_log_once(key: str | None = None) -> None:
    """Forget that a message has been shown; with None, that any has been."""
    with _lock:
        if key is None:
            _last_logged_s.clear()
        else:
            _last_logged_s.pop(key, None)


def disable_log_once_globally() -> None:
    """Make `log_once` return False from now on, in this process."""
    global _disabled
    with _lock:
        _disabled = True


def enable_periodic_logging() -> None:
    """Make `log_once` return True once a minute for each key, in this process; undoes the disabling."""
    global _disabled, _periodic
    with _lock:
        _disabled = False
        _periodic = True
