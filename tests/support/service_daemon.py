"""A daemon that does nothing, for tests of the skeleton.

``python -m tests.support.service_daemon HOW ARGUMENTS``. HOW is "serve", "crash" (a background task fails
after the start), "hang" (does not stop) or "taken" (StartError).
"""

import asyncio
import sys

from aktis._common.daemon import DaemonContext, Service, daemon_main
from aktis._common.errors import StartError


class IdleService(Service):
    """Behaves as ``how`` says."""

    def __init__(self, context: DaemonContext, how: str) -> None:
        self._context = context
        self._how = how

    async def start(self) -> str:
        if self._how == "taken":
            raise StartError("plasma.grpc_address: taken: choose another")
        if self._how == "crash":
            self._context.tasks.create_task(self._crash())
        self._context.set_status("idle")
        return "unix:/nowhere"

    async def _crash(self) -> None:
        raise LookupError("lost my way")

    async def stop(self) -> None:
        self._context.log.info("service_stop")
        if self._how == "hang":
            await asyncio.Event().wait()

    async def reload(self) -> None:
        self._context.log.info("service_reload")


if __name__ == "__main__":
    how = sys.argv[1]
    sys.exit(daemon_main("plasma", lambda context: IdleService(context, how), sys.argv[2:]))
