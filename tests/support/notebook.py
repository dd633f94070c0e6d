"""A notebook's kernel: cells are run, interrupted, restarted, as by the page in a browser."""

import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.support.clients import ROOT
from tests.support.sandbox import Sandbox

TIMEOUT_S: Final = 50.0


@dataclass
class Cell:
    """What a cell has shown so far."""

    message_id: str
    text: str = ""
    result: str = ""
    error: str = ""
    status: str = ""


class Notebook:
    """One kernel and its client."""

    def __init__(self, manager: KernelManager) -> None:
        """Speak to the kernel of ``manager``."""
        self.manager = manager
        self._client: BlockingKernelClient = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=TIMEOUT_S)
        self._cells: dict[str, Cell] = {}

    def begin(self, code: str) -> Cell:
        """Start a cell."""
        cell = Cell(self._client.execute(code))
        self._cells[cell.message_id] = cell
        return cell

    def wait_for(self, cell: Cell, text: str) -> None:
        """Wait until a cell has shown a text."""
        self._read_until(lambda: text in cell.text)

    def run(self, code: str) -> Cell:
        """Run a cell to its end."""
        return self.end(self.begin(code))

    def end(self, cell: Cell) -> Cell:
        """Wait for the end of a cell."""
        self._read_until(lambda: bool(cell.status))
        return cell

    def close(self) -> None:
        """Leave the kernel alone."""
        self._client.stop_channels()

    def _read_until(self, done: Any) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while not done():
            try:
                message = self._client.get_iopub_msg(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                shown = [cell.text for cell in self._cells.values()]
                raise AssertionError(f"the kernel says nothing more; cells: {shown}") from None
            cell = self._cells.get(message["parent_header"].get("msg_id", ""))
            if cell is not None:
                _take(cell, message["msg_type"], message["content"])


def _take(cell: Cell, kind: str, content: dict[str, Any]) -> None:
    if kind == "stream":
        cell.text += content["text"]
    elif kind == "execute_result":
        cell.result = content["data"]["text/plain"]
    elif kind == "error":
        cell.error = content["ename"]
    elif kind == "status" and content["execution_state"] == "idle":
        cell.status = "error" if cell.error else "ok"


@contextmanager
def kernel(sandbox: Sandbox, directory: Path) -> Iterator[KernelManager]:
    """Run a kernel in the sandbox; its files are in ``directory``."""
    manager = KernelManager(kernel_name="python3", connection_file=str(directory / "kernel.json"))
    env = {**sandbox.env, "IPYTHONDIR": str(directory / "ipython"), "PYTHONPATH": str(ROOT)}
    manager.start_kernel(env=env, cwd=str(directory))
    try:
        yield manager
    finally:
        manager.shutdown_kernel(now=False)
        manager.cleanup_resources()
