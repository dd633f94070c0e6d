"""The skeleton of a daemon's main: start, run until told to stop, stop. The same for gcs, raylet and plasma.

A daemon package has a module ``service`` with a function ``create_service(context) -> Service`` and a
``__main__`` that hands it to `daemon_main`. The supervisor forks itself and calls `run_daemon` with the same
function.

Signals only set flags: the first SIGTERM or SIGINT asks for a stop, the second one ends the wait for it. A
task of ``context.tasks`` that fails ends the daemon with status 1; a `StartError` ends it with status 2 and
one line.
"""

import abc
import argparse
import asyncio
import faulthandler
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import uvloop
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from aktis._common import lean_grpc  # noqa: F401
from aktis._common.config import AktisConfig, load_config
from aktis._common.errors import StartError
from aktis._common.logging import Logger, configure_logging, get_logger
from aktis._common.metrics_http import MetricsServer
from aktis._common.notify import Notifier, watchdog_period_s
from aktis._common.paths import SessionPaths, read_token
from aktis._common.records import DaemonRecord, next_epoch, own_record

EXIT_OK: Final = 0
EXIT_CRASHED: Final = 1
EXIT_CANNOT_START: Final = 2

_LAG_PERIOD_S: Final = 0.5


@dataclass
class DaemonContext:
    """What the skeleton gives to a service. Belongs to the daemon's event loop."""

    name: str
    """"gcs", "raylet" or "plasma"."""
    config: AktisConfig
    layout: SessionPaths
    token: str
    """The cluster's secret. Never log it."""
    epoch: int
    """Number of this start; grows by one with each."""
    tasks: asyncio.TaskGroup
    """Owner of the service's background tasks; they are cancelled after `Service.stop`."""
    log: Logger
    notifier: Notifier
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    """What /metrics shows; each daemon registers its own collectors here, none globally."""
    record: DaemonRecord | None = None
    """What is known of this daemon so far; see also `addresses`."""
    loop_lag_s: float = 0.0
    """By how much the event loop was late when last measured; travels in heartbeats."""
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def set_status(self, text: str) -> None:
        """Say in one line what the daemon is doing, for ``systemctl status`` and the supervisor."""
        self.notifier.send(STATUS=text)

    def request_stop(self) -> None:
        """Ask the daemon to stop as SIGTERM would."""
        self._stop.set()


class Service(abc.ABC):
    """What a daemon does between its start and its stop."""

    @abc.abstractmethod
    async def start(self) -> str:
        """Bind, start background tasks in ``context.tasks``, return the gRPC address once calls are served.

        Raises:
            StartError: something outside of the code prevents it; one line for the operator.
        """

    @abc.abstractmethod
    async def stop(self) -> None:
        """End gracefully and leave no socket file or child behind. Called once, also after a failed start."""

    async def reload(self) -> None:
        """React to SIGHUP: re-read what can change at run time. By default nothing can."""
        return


CreateService = Callable[[DaemonContext], Service]


def daemon_main(name: str, create_service: CreateService, argv: Sequence[str] | None = None) -> int:
    """Run a daemon in the foreground with a command line; return its exit status."""
    parser = argparse.ArgumentParser(prog=f"aktis-{name}", description=f"Run aktis-{name} in the foreground.")
    parser.add_argument("--config", type=Path, help="TOML file; default /etc/aktis/aktis.toml when it exists")
    parser.add_argument("--session-dir", help="private directory for everything (paths.session_dir)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, e.g. raylet.num_cpus=2",
    )
    options = parser.parse_args(argv)
    try:
        flags: dict[str, object] = dict(_assignment(text) for text in options.set)
        flags["paths.session_dir"] = options.session_dir or flags.get("paths.session_dir")
        config = load_config(options.config, flags=flags).config
    except StartError as error:
        return _cannot_start(name, error)
    return run_daemon(name, config, create_service)


def _assignment(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator or not key:
        raise StartError(f"--set {text}: expected KEY=VALUE, for example --set raylet.num_cpus=2")
    return key, value


def run_daemon(name: str, config: AktisConfig, create_service: CreateService) -> int:
    """Run a daemon with a valid configuration until it is told to stop; return its exit status.

    Takes over the calling process: signals, logging, event loop.
    """
    faulthandler.enable(sys.stderr)
    style = config.logging.format
    if style == "auto":
        style = "console" if sys.stderr.isatty() else "json"
    configure_logging(name, level=config.logging.level, style=style)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_Run(name, config).run(create_service))
    except StartError as error:
        return _cannot_start(name, error)


def _cannot_start(name: str, error: StartError) -> int:
    for line in str(error).splitlines():
        print(f"aktis-{name}: error: {line}", file=sys.stderr, flush=True)
    Notifier.from_environ().send(STATUS=f"error: {error}".replace("\n", "; "))
    return EXIT_CANNOT_START


class _FinishedError(Exception):
    """Raised in the body of the task group to cancel what still runs after a stop."""


class _Run:
    """One life of a daemon on its event loop."""

    def __init__(self, name: str, config: AktisConfig) -> None:
        self._name = name
        self._config = config
        self._layout = config.layout()
        self._log = get_logger()
        self._stop = asyncio.Event()
        self._failed = False
        self._stop_deadline: asyncio.Timeout | None = None

    async def run(self, create_service: CreateService) -> int:
        context: DaemonContext | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                context = self._prepare(tasks)
                await self._live(context, create_service)
                raise _FinishedError
        except* _FinishedError:
            pass
        except* StartError as group:
            error = group.exceptions[0]
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        except* Exception as group:
            self._log.critical("daemon_crashed", exc_info=group)
            self._failed = True
        finally:
            if context is not None:
                self._layout.daemon_record(self._name).unlink(missing_ok=True)
                context.notifier.close()
        return EXIT_CRASHED if self._failed else EXIT_OK

    def _prepare(self, tasks: asyncio.TaskGroup) -> DaemonContext:
        """Check directories, token and epoch; everything here fails before anything is visible."""
        try:
            self._layout.create()
            self._refuse_second()
            token = read_token(self._config.token_file)
            epoch = next_epoch(self._layout.state_dir, self._name)
            record = own_record(self._name, epoch)
            record.write(self._layout.daemon_record(self._name))
        except OSError as error:
            hint = "check that it exists and that this user may read and write it"
            raise StartError(
                f"{error.filename or self._layout.root}: {error.strerror or error}: {hint}"
            ) from None
        except ValueError as error:
            raise StartError(str(error)) from None
        notifier = Notifier.from_environ()
        context = DaemonContext(
            self._name, self._config, self._layout, token, epoch, tasks, self._log, notifier, _stop=self._stop
        )
        context.record = record
        return context

    def _refuse_second(self) -> None:
        """Leave the record and the epoch of a running daemon alone: one of this name is already here."""
        other = DaemonRecord.read(self._layout.daemon_record(self._name))
        if other is not None and other.is_alive():
            raise StartError(
                f"aktis-{self._name} already runs in {self._layout.root} as process {other.pid}: "
                "stop it or use another directory (paths.session_dir)"
            )

    async def _live(self, context: DaemonContext, create_service: CreateService) -> None:
        self._handle_signals()
        service = create_service(context)
        metrics = MetricsServer(context.registry)
        ProcessCollector(registry=context.registry)
        try:
            setting = f"{self._name}.metrics_address"
            section = getattr(self._config, self._name)
            metrics_address = await metrics.start(section.metrics_address, setting)
            grpc_address = await service.start()
            self._publish(
                context, grpc_address=grpc_address, metrics_address=metrics_address, state="running"
            )
            context.tasks.create_task(_measure_lag(context), name="loop lag")
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(
                signal.SIGHUP, lambda: context.tasks.create_task(service.reload(), name="reload")
            )
            context.notifier.send(READY="1", STATUS="running")
            self._log.info("daemon_running", epoch=context.epoch, grpc=grpc_address, metrics=metrics_address)
            await self._stop.wait()
            self._log.info("daemon_stopping")
            context.notifier.send(STOPPING="1", STATUS="stopping")
            self._publish(context, state="stopping")
        finally:
            await self._end(service, metrics)

    async def _end(self, service: Service, metrics: MetricsServer) -> None:
        try:
            async with asyncio.timeout(self._config.supervisor.stop_timeout_s) as self._stop_deadline:
                await service.stop()
        except TimeoutError:
            self._failed = True
            self._log.error("stop_incomplete", limit_s=self._config.supervisor.stop_timeout_s)
        await metrics.stop()

    def _publish(self, context: DaemonContext, **changes: str) -> None:
        assert context.record is not None
        context.record = replace(context.record, **changes)  # type: ignore[arg-type]
        context.record.write(self._layout.daemon_record(self._name))

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, lambda: None)  # until the service runs

    def _on_stop_signal(self) -> None:
        if self._stop.is_set() and self._stop_deadline is not None and not self._stop_deadline.expired():
            self._stop_deadline.reschedule(asyncio.get_running_loop().time())
        self._stop.set()


async def _measure_lag(context: DaemonContext) -> None:
    """Keep `DaemonContext.loop_lag_s` up to date and the manager's watchdog content."""
    gauge = Gauge(
        f"aktis_{context.name}_loop_lag_seconds",
        "By how much the event loop was late when last measured.",
        registry=context.registry,
    )
    epoch = Gauge(f"aktis_{context.name}_epoch", "Number of this start.", registry=context.registry)
    epoch.set(context.epoch)
    watchdog_s = watchdog_period_s()
    period_s = min(_LAG_PERIOD_S, watchdog_s) if watchdog_s else _LAG_PERIOD_S
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(period_s)
        context.loop_lag_s = max(0.0, loop.time() - before - period_s)
        gauge.set(context.loop_lag_s)
        if watchdog_s:
            context.notifier.send(WATCHDOG="1")
