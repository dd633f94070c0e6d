"""A supervisor over daemons that do nothing but misbehave as told, for tests of the supervisor alone.

``python -m tests.support.fake_daemons BEHAVIOURS SUPERVISOR_ARGUMENTS...``. BEHAVIOURS: JSON, by daemon:
``refuse`` (text of a StartError), ``die`` (exit status at each start), ``hang`` (never ready), ``deaf`` (does
not stop when asked), ``orphan`` (leaves a grandchild in a session of its own).
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from aktis._common.daemon import DaemonContext, Service
from aktis._common.errors import StartError
from aktisd.supervisor import main as supervisor


class FakeService(Service):
    """Misbehaves as told."""

    def __init__(self, context: DaemonContext, behaviour: dict[str, Any]) -> None:
        self._context = context
        self._behaviour = behaviour

    async def start(self) -> str:
        if refusal := self._behaviour.get("refuse"):
            raise StartError(refusal)
        if status := self._behaviour.get("die"):
            sys.stderr.write("last words\n")
            sys.stderr.flush()
            os._exit(status)
        if self._behaviour.get("orphan"):
            _leave_orphan()
        if self._behaviour.get("hang"):
            await asyncio.Event().wait()
        _announce(self._context)
        return f"unix:{self._context.layout.root}/{self._context.name}.sock"

    async def stop(self) -> None:
        with (self._context.layout.root.parent.parent / "stops").open("a") as file:
            file.write(self._context.name + "\n")
        if self._behaviour.get("deaf"):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            signal.pause()


def _announce(context: DaemonContext) -> None:
    """Tell a test that waits on the named pipe ``starts`` beside the session directories, if there is one."""
    pipe = context.layout.root.parent.parent / "starts"
    if pipe.exists():
        with pipe.open("w") as file:
            file.write(f"{context.name} {context.epoch} {os.getpid()}\n")


def _leave_orphan() -> None:
    subprocess.Popen(["sleep", "1000"], start_new_session=True)


def main() -> int:
    """Run the supervisor with fake services."""
    behaviours: dict[str, dict[str, Any]] = json.loads(sys.argv[1])

    def create(name: str) -> Any:
        return lambda context: FakeService(context, behaviours.get(name, {}))

    with mock.patch.object(supervisor, "_create_service", create):
        return supervisor.main(sys.argv[2:])


if __name__ == "__main__":
    assert Path.cwd().joinpath("tests").is_dir(), "run from the root of the repository"
    sys.exit(main())
