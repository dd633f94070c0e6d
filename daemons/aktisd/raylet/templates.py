"""The worker templates of a node: the common one, and one per runtime environment that needs it.

Belongs to the loop. A template of an environment is started by the first worker that is wanted of it.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from aktis._common.environments import Environment, expand_variables

from aktisd.raylet.processes import kill_group
from aktisd.raylet.template_host import LIMITED_VARIABLE, TemplateCommand, TemplateConnection, TemplateHost

COMMON = ""


class Prepared(Protocol):
    """What a set-up has found out; see `aktisd.raylet.environments.setup`."""

    python: list[str]
    working_dir: str
    import_path: list[str]


class IdentifiedConnection(TemplateConnection, Protocol):
    """A template's connection that knows who it is."""

    worker_id: bytes


@dataclass(frozen=True, slots=True)
class TemplateLostCall:
    """Bound to one template."""

    name: str
    on_lost: Callable[[str, str], None]

    def __call__(self, reason: str) -> None:
        self.on_lost(self.name, reason)


class Templates:
    """See the module. ``on_lost(name, reason)``: forks that it had not confirmed will never come."""

    def __init__(self, common: TemplateCommand, on_lost: Callable[[str, str], None]) -> None:
        self._common = common
        self._on_lost = on_lost
        self._released = False
        self._hosts = {COMMON: TemplateHost(common, TemplateLostCall(COMMON, on_lost))}

    def start(self) -> None:
        """Start the common template."""
        self._hosts[COMMON].start()

    def release(self) -> None:
        """Workers may be forked from now on."""
        self._released = True
        for host in self._hosts.values():
            host.release()

    def add(self, name: str, environment: Environment, prepared: Prepared) -> None:
        """Make a template known; nothing is started yet."""
        command = command_for(self._common, name, environment, prepared)
        host = self._hosts[name] = TemplateHost(command, TemplateLostCall(name, self._on_lost))
        if self._released:
            host.release()

    def fork(self, name: str, tokens: tuple[int, ...]) -> None:
        """Ask a template for one worker per token."""
        host = self._hosts.get(name)
        if host is None:
            self._on_lost(name, "its runtime environment has ended")
            return
        host.fork(tokens)
        if not host.is_running:
            host.start()

    def end(self, name: str) -> None:
        """End a template; its workers stay."""
        host = self._hosts.pop(name, None)
        if host is not None:
            host.stop()
            if host.pid:
                kill_group(host.pid)
        self._on_lost(name, "its runtime environment has ended")

    def connected(self, connection: IdentifiedConnection) -> bool:
        """A process says that it is a template. False when it is none that was started."""
        return any(host.connected(connection, connection.worker_id) for host in self._hosts.values())

    def exited(self, pid: int, exit_code: int, signal_number: int) -> bool:
        """A child of the raylet has ended; False when it is not a template."""
        for host in self._hosts.values():
            if host.pid == pid:
                host.exited(exit_code, signal_number)
                return True
        return False

    def stop(self) -> None:
        """Start no other; the caller ends the processes."""
        for host in self._hosts.values():
            host.stop()

    def pids(self) -> list[int]:
        """The templates that run."""
        return [host.pid for host in self._hosts.values() if host.pid]

    @property
    def restarts(self) -> int:
        """Templates that had to be replaced."""
        return sum(host.restarts for host in self._hosts.values())


def command_for(
    common: TemplateCommand, name: str, environment: Environment, prepared: Prepared
) -> TemplateCommand:
    """Return how the template of an environment is started."""
    arguments = ["--environment", name]
    if prepared.working_dir:
        arguments += ["--working-dir", prepared.working_dir]
    if prepared.import_path:
        arguments += ["--import-path", os.pathsep.join(prepared.import_path)]
    if prepared.python:
        arguments.append("--own-interpreter")
    return replace(
        common,
        executable=tuple(prepared.python) or common.executable,
        arguments=(*common.arguments, *arguments),
        environ=_environ(common.environ, environment.env_vars),
        stderr_path=common.stderr_path.removesuffix(".log") + f"-{name[:12]}.log",
    )


def _environ(common: Mapping[str, str], env_vars: Mapping[str, str]) -> dict[str, str]:
    wanted = expand_variables(env_vars, common)
    limited = [name for name in common.get(LIMITED_VARIABLE, "").split(",") if name not in wanted]
    return {**common, **wanted, LIMITED_VARIABLE: ",".join(limited)}
