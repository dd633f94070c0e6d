"""``init`` and ``shutdown``: the life of this process's session.

NONE -> STARTING -> RUNNING -> STOPPING -> NONE, one at a time per process, guarded by one lock. What a
session consists of is imported while the daemons of an embedded cluster start: that hides most of the
imports' time.
"""

import atexit
import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from aktis import _core
from aktis._interrupts import HeldInterrupts, interrupts_let_through
from aktis._runtime import current, tracing
from aktis._runtime.environments.check import check_runtime_env
from aktis._runtime.private_keywords import TRACING_HOOK, settings_of

if TYPE_CHECKING:
    from aktis._runtime.logging_config import LoggingConfig
    from aktis._runtime.session import Session

_IMPORTED_MEANWHILE: Final = (
    "aktis._runtime.pickler",
    "aktis._runtime.session",
    "aktis._runtime.actor_class",
    "aktis._runtime.objects",
)


_IGNORED: Final = {
    "include_dashboard": "this version of aktis has no dashboard",
    "local_mode": "tasks run in processes of their own",
    "enable_resource_isolation": "workers are not isolated from one another",
}
"""What would change what a program does: warned of."""
_UNUSED: Final[Mapping[str, object]] = {
    "dashboard_host": "127.0.0.1",
    "dashboard_port": None,
    "cgroup_path": None,
    "system_reserved_cpu": None,
    "system_reserved_memory": None,
    "proxy_server_url": None,
}
"""With their defaults. Too common for a warning."""


class State(Enum):
    """Where this process is; see the module."""

    NONE = auto()
    STARTING = auto()
    RUNNING = auto()
    STOPPING = auto()


TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    State.NONE: frozenset({State.STARTING}),
    State.STARTING: frozenset({State.RUNNING, State.NONE}),
    State.RUNNING: frozenset({State.STOPPING}),
    State.STOPPING: frozenset({State.NONE}),
}

_lock = threading.RLock()
_state = State.NONE


def _change(to: State) -> None:
    global _state
    if to not in TRANSITIONS[_state]:
        raise AssertionError(f"a session cannot go from {_state.name} to {to.name}")
    _state = to


@dataclass(frozen=True)
class Context(Mapping[str, Any]):
    """What ``init`` returns: facts about the cluster, and a context manager that ends the session."""

    address_info: Mapping[str, Any]
    """``node_id``, ``session_dir``, ``gcs_address``, ``raylet_address``, ``node_ip_address``.

    ``namespace``.
    """
    dashboard_url: str = ""
    python_version: str = field(default_factory=lambda: "{}.{}.{}".format(*sys.version_info[:3]))
    aktis_version: str = _core.__version__

    def __enter__(self) -> "Context":
        return self

    def __exit__(self, *_: object) -> None:
        shutdown()

    def disconnect(self) -> None:
        """End the session, as `shutdown`."""
        shutdown()

    def __getitem__(self, name: str) -> Any:
        return self.address_info[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.address_info)

    def __len__(self) -> int:
        return len(self.address_info)


@dataclass(frozen=True)
class _Wishes:
    """The arguments of init that a cluster to be launched must know."""

    num_cpus: float | None
    num_gpus: float | None
    resources: Mapping[str, float] | None
    labels: Mapping[str, str] | None
    object_store_memory: int | None
    system_config: Mapping[str, object] | None

    def settings(self) -> dict[str, object]:
        """Return them as settings of the daemons."""
        named = {
            "raylet.num_cpus": self.num_cpus,
            "raylet.num_gpus": self.num_gpus,
            "raylet.resources": None if self.resources is None else dict(self.resources),
            "raylet.labels": None if self.labels is None else dict(self.labels),
            "plasma.capacity_bytes": self.object_store_memory,
        }
        return {key: value for key, value in named.items() if value is not None} | dict(
            self.system_config or {}
        )


@dataclass(frozen=True)
class _Program:
    """The arguments of init about this program, whichever cluster it runs on."""

    namespace: str | None
    runtime_env: dict[str, Any]
    log_to_driver: bool
    logging_config: "LoggingConfig | None"
    tracing: dict[str, str] | None


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    local_mode: bool = False,
    ignore_reinit_error: bool = False,
    include_dashboard: bool | None = None,
    dashboard_host: str = "127.0.0.1",
    dashboard_port: int | None = None,
    job_config: None = None,
    configure_logging: bool = True,
    logging_level: int | str = "info",
    logging_format: str | None = None,
    logging_config: "LoggingConfig | None" = None,
    log_to_driver: bool | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    enable_resource_isolation: bool = False,
    cgroup_path: str | None = None,
    system_reserved_cpu: float | None = None,
    system_reserved_memory: int | None = None,
    proxy_server_url: str | None = None,
    _system_config: Mapping[str, object] | None = None,
    **private: Any,
) -> Context:
    """Connect this process to a cluster, or start one for it; return facts about it.

    Used in ``with`` they end the session.

    Args:
        address: None: the cluster that AKTIS_ADDRESS names, else the one that ``aktis start`` left, else a
            new one. "local": always a new one. "auto": never a new one. "unix:/path", "host:port": that one.
        num_cpus, num_gpus: What a new cluster offers; default: what this process may use, what is found.
        resources, labels: Custom resources of a new cluster, for example ``{"special": 2}``; of its node.
        object_store_memory: Size of a new object store in bytes; default: 30 % of the memory available now.
        ignore_reinit_error: Return the running session's context instead of raising.
        configure_logging, logging_level, logging_format: False leaves the logger ``aktis`` alone; its level
            and format; default: that of the program's own handlers.
        logging_config: How this program and its tasks and actors log.
        log_to_driver: Show what workers print; default: True.
        namespace: Where names of actors are unique; default: one of its own for this program.
        runtime_env: Files, packages and variables of this program's workers, see docs/runtime_env.md.
        local_mode, include_dashboard, enable_resource_isolation: Accepted with a warning: there is none.
        job_config: Must be None: pass ``namespace`` and ``runtime_env``.
        _system_config: Further settings of a new cluster's daemons by dotted key (``aktis config docs``).
        private: ``_memory`` of a new cluster in bytes, ``_tracing_startup_hook`` (docs/tracing.md).

    Raises:
        RuntimeError: there is a session already, or the cluster could not start.
        ConnectionError: nothing listens at the address, or it refuses us (token, protocol version).
        TypeError, ValueError: an argument is not valid; the message names it.

    Example:
        >>> import aktis
        >>> with aktis.init(num_cpus=1) as context:
        ...     aktis.get(aktis.put(1))
        1
    """
    _configure_logging(configure_logging, logging_level, logging_format)
    _heed_foreign(locals())
    further = settings_of(private) | dict(_system_config or {})
    wishes = _Wishes(num_cpus, num_gpus, resources, labels, object_store_memory, further)
    _check_arguments(address, wishes, namespace, runtime_env)
    traces, shows = tracing.wished(private.get(TRACING_HOOK)), log_to_driver is not False
    program = _Program(namespace, dict(runtime_env or {}), shows, logging_config, traces)
    return _begin(address, wishes, program, ignore_reinit_error)


def _begin(address: str | None, wishes: _Wishes, program: _Program, ignore_reinit_error: bool) -> Context:
    """Start the session, or return the context of the one that runs already."""
    with _lock:
        if current.session is None:
            return _enter(lambda: _start(address, wishes, program))
        if ignore_reinit_error:
            return _context(current.session)
        raise RuntimeError(
            "this process has a session already, perhaps from an earlier aktis.init(): "
            "call aktis.shutdown() first, or pass ignore_reinit_error=True to keep it"
        )


def _enter(start: Callable[[], "Session"]) -> Context:
    """NONE -> STARTING -> RUNNING, or back to NONE when there is no session to be had."""
    current.attach_anew()
    with HeldInterrupts() as interrupts:
        _change(State.STARTING)
        try:
            session = start()
        except BaseException:
            _change(State.NONE)
            raise
        _change(State.RUNNING)
        context = _context(session)
        if interrupts.pending:
            shutdown()
    return context


def _check_arguments(
    address: str | None, wishes: _Wishes, namespace: str | None, runtime_env: Mapping[str, Any] | None
) -> None:
    for name, value in (("address", address), ("namespace", namespace)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name} must be a str, got {type(value).__name__} {value!r}")
    if namespace == "":
        raise ValueError("namespace must not be empty")
    for name in ("num_cpus", "num_gpus", "object_store_memory"):
        amount = getattr(wishes, name)
        if amount is None:
            continue
        if not isinstance(amount, int | float) or isinstance(amount, bool):
            raise TypeError(f"{name} must be a number, got {type(amount).__name__} {amount!r}")
        if amount < 0:
            raise ValueError(f"{name} must not be negative, got {amount!r}")
    for name in ("resources", "labels"):
        mapping = getattr(wishes, name)
        if mapping is not None and not isinstance(mapping, Mapping):
            raise TypeError(f"{name} must be a dict, got {type(mapping).__name__} {mapping!r}")
    if wishes.labels:
        from aktis._common.labels import check_labels

        for key, value in wishes.labels.items():
            if not all(isinstance(text, str) for text in (key, value)):
                raise TypeError(f"labels must map str to str, got {key!r}: {value!r}")
        check_labels(wishes.labels)
    if runtime_env is not None:
        check_runtime_env("runtime_env", runtime_env)


def _heed_foreign(arguments: Mapping[str, Any]) -> None:
    """See to arguments of ``init`` that have no meaning here: refused, warned of, or named in the log."""
    if arguments["job_config"] is not None:
        raise TypeError("there is no job_config here: pass its namespace and runtime_env to init() instead")
    if (config := arguments["logging_config"]) is not None:
        from aktis._runtime.logging_config import LoggingConfig

        if not isinstance(config, LoggingConfig):
            raise TypeError(f"logging_config must be an aktis.LoggingConfig, got {type(config).__name__}")
    for name, why in _IGNORED.items():
        if arguments[name]:
            warnings.warn(f"init() ignores {name}: {why}", stacklevel=3)
    given = sorted(name for name, default in _UNUSED.items() if arguments[name] != default)
    if given:
        logging.getLogger("aktis").debug("init() ignores %s: there is no such thing here", ", ".join(given))


def _start(address: str | None, wishes: _Wishes, program: _Program) -> "Session":
    """Find or launch a cluster and connect to it; on failure nothing is left."""
    from aktis._find import find_cluster

    found = None if address == "local" else find_cluster(address)
    if found is not None:
        if wishes.settings():
            raise ValueError(
                f"the cluster at {found.raylet_address} runs already: num_cpus, num_gpus, resources, labels, "
                "object_store_memory and _system_config are for new ones; leave them out, or pass "
                "address='local'"
            )
        return _connect(found.raylet_address, found.token, program)
    from aktis._embedded import LaunchOptions, begin_launch

    starting = begin_launch(LaunchOptions(settings=wishes.settings()))
    try:
        for name in _IMPORTED_MEANWHILE:
            importlib.import_module(name)
    except BaseException:
        starting.abandon()
        raise
    cluster = starting.wait()
    try:
        session = _connect(cluster.raylet_address, cluster.token, program)
    except BaseException:
        cluster.shutdown()
        raise
    session.cluster = cluster
    return session


def _connect(raylet_address: str, token: str, program: _Program) -> "Session":
    from aktis._runtime.session import connect_driver

    config = program.logging_config
    logging_fields = None if config is None else config.to_dict()
    session = None
    try:
        if program.tracing is not None:
            tracing.start(program.tracing)
        with interrupts_let_through():
            session = connect_driver(
                raylet_address,
                token,
                program.namespace,
                program.runtime_env,
                program.log_to_driver,
                logging_fields,
                program.tracing,
            )
    except BaseException:
        tracing.stop()
        if session is not None:
            session.close()
        raise
    if config is not None:
        config.apply()
    current.session = session
    atexit.register(_shutdown_at_exit)
    return session


def adopt_session(session: "Session") -> None:
    """Make a worker's session the one of this process."""
    with _lock:
        current.attach_anew()
        _change(State.STARTING)
        current.session = session
        _change(State.RUNNING)


def init_on_first_use() -> "Session":
    """Start or join a cluster because the program uses one without having called init."""
    with _lock:
        if current.session is None:
            init()
        assert current.session is not None, "init() has set it"
        return current.session


def shutdown(*, wait_for_processes: bool = False) -> None:
    """End this process's session, and its cluster if ``init`` started that. A second call does nothing.

    What the program has created ends with it, except detached actors of a cluster that goes on.
    References that are left can no longer be used.

    Args:
        wait_for_processes: Accepted for compatibility; an embedded cluster's processes are always waited for.
    """
    del wait_for_processes
    with _lock:
        session = current.session
        if session is None or _state is not State.RUNNING:
            return
        with HeldInterrupts():
            _change(State.STOPPING)
            current.session = None
            atexit.unregister(_shutdown_at_exit)
            try:
                session.close()
            finally:
                _change(State.NONE)


def _shutdown_at_exit() -> None:
    """The program ends: an interrupt would have nothing left to interrupt."""
    with HeldInterrupts(deliver=False):
        shutdown()


def is_initialized() -> bool:
    """Whether this process has a session."""
    return current.session is not None


def _begin_anew() -> None:
    """In a forked child the state is the parent's, and a lock that another thread held is never let go."""
    global _state, _lock
    _state, _lock = State.NONE, threading.RLock()


os.register_at_fork(after_in_child=_begin_anew)


def _configure_logging(asked: bool, level: int | str, text_format: str | None) -> None:
    if not asked:
        return
    logger = logging.getLogger("aktis")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    if text_format is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(text_format))
        logger.handlers[:] = [handler]
        logger.propagate = False  # or the root logger's handlers would print it a second time


def _context(session: "Session") -> Context:
    node = session.node
    return Context(
        {
            "address": session.node.gcs_address,
            "gcs_address": node.gcs_address,
            "node_id": node.node_id.hex(),
            "node_ip_address": node.node_ip,
            "session_dir": node.session_dir,
            "object_store_address": node.plasma_address,
            "raylet_address": f"unix:{node.session_dir}/raylet.sock",
            "namespace": session.namespace,
        }
    )
