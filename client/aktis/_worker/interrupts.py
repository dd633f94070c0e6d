"""KeyboardInterrupt for one running task, and never for what comes before or after it.

The executor marks the stretch in which user code runs. In the main thread the interrupt is a signal, whose
handler looks at the mark once more in that thread; in other threads it is CPython's asynchronous exception,
set and, should it come too late, taken back under the lock that guards the mark.
"""

import ctypes
import signal
import threading
from typing import Any, Final

_SIGNAL: Final = signal.SIGINT
FIRST_PAUSE_S: Final = 0.05
MAX_PAUSE_S: Final = 2.0
"""Between two signals for one task that has not noticed the first."""
_set_async = ctypes.pythonapi.PyThreadState_SetAsyncExc
_set_async.argtypes = [ctypes.c_ulong, ctypes.py_object]
_NONE: Final = ctypes.py_object()


class Stretch:
    """One executing thread: which of its tasks user code is running for now."""

    __slots__ = ("interrupted", "running", "thread_id")

    def __init__(self) -> None:
        """Belong to the calling thread."""
        self.thread_id = threading.get_ident()
        self.running: bytes | None = None
        self.interrupted = False


class MainInterrupts:
    """For executors on the main thread."""

    def __init__(self) -> None:
        """Take over the signal; call in the main thread."""
        self._stretch = Stretch()
        self._wanted: bytes | None = None
        signal.signal(_SIGNAL, self._on_signal)

    def begin(self, task_id: bytes) -> None:
        """User code begins to run for a task."""
        self._stretch.running = task_id

    def end(self) -> None:
        """It has ended; an interrupt that comes now is dropped."""
        self._stretch.running = None

    def interrupt(self, task_id: bytes) -> None:
        """Raise KeyboardInterrupt in a task if it is running. Any thread."""
        if self._stretch.running == task_id:
            self._wanted = task_id
            self._send(task_id, FIRST_PAUSE_S)

    def _send(self, task_id: bytes, pause_s: float) -> None:
        """Send the signal, and again until its handler has run.

        One that comes just before a system call begins is noted by Python, but does not end the call.
        """
        if self._wanted != task_id or self._stretch.running != task_id:
            return
        signal.pthread_kill(self._stretch.thread_id, _SIGNAL)
        again = threading.Timer(pause_s, self._send, (task_id, min(2 * pause_s, MAX_PAUSE_S)))
        again.daemon = True
        again.start()

    def _on_signal(self, *_: Any) -> None:
        if self._wanted is None or self._stretch.running != self._wanted:
            return
        self._wanted = None
        self._stretch.running = None  # once is enough
        raise KeyboardInterrupt


class ThreadInterrupts:
    """For executors on several threads."""

    def __init__(self) -> None:
        """Know no thread yet."""
        self._lock = threading.Lock()
        self._stretches: dict[int, Stretch] = {}

    def _mine(self) -> Stretch:
        thread_id = threading.get_ident()
        stretch = self._stretches.get(thread_id)
        if stretch is None:
            stretch = self._stretches[thread_id] = Stretch()
        return stretch

    def begin(self, task_id: bytes) -> None:
        """User code begins to run for a task in this thread."""
        self._mine().running = task_id

    def end(self) -> None:
        """It has ended; an interrupt that was sent and has not arrived is taken back."""
        stretch = self._mine()
        with self._lock:
            stretch.running = None
            if stretch.interrupted:
                stretch.interrupted = False
                _set_async(stretch.thread_id, _NONE)

    def interrupt(self, task_id: bytes) -> None:
        """Raise KeyboardInterrupt in a task if it is running. Any thread."""
        with self._lock:
            for stretch in self._stretches.values():
                if stretch.running == task_id:
                    stretch.interrupted = True
                    _set_async(stretch.thread_id, ctypes.py_object(KeyboardInterrupt))
