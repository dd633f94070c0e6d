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
from aktis._runtime import current
from aktis._runtime.environments.check import check_runtime_env
from aktis._runtime.private_keywords import settings_of

if TYPE_CHECKING:
    from aktis._runtime.session import Session

_IMPORTED_MEANWHILE: Final = (
    "aktis._runtime.pickler",
    "aktis._runtime.session",
    "aktis._runtime.actor_class",
    "aktis._runtime.objects",
)


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
_pid = os.getpid()


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


def init(
    address: str | None = None,
    *,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    resources: Mapping[str, float] | None = None,
    labels: Mapping[str, str] | None = None,
    object_store_memory: int | None = None,
    namespace: str | None = None,
    runtime_env: Mapping[str, Any] | None = None,
    ignore_reinit_error: bool = False,
    log_to_driver: bool = True,
    include_dashboard: bool | None = None,
    dashboard_host: str | None = None,
    dashboard_port: int | None = None,
    configure_logging: bool = True,
    logging_level: int | str = "info",
    logging_format: str | None = None,
    _system_config: Mapping[str, object] | None = None,
    **private: Any,
) -> Context:
    """Connect this process to a cluster, or start one for it.

    Args:
        address: None: the cluster that AKTIS_ADDRESS names, else the one that ``aktis start`` left, else a
            new one. "local": always a new one. "auto": never a new one. "unix:/path", "host:port": that one.
        num_cpus: CPUs that a new cluster offers; default: those that this process may use.
        num_gpus: GPUs that a new cluster offers; default: those that are found.
        resources: Custom resources of a new cluster, for example ``{"special": 2}``.
        labels: Labels of the new cluster's node.
        object_store_memory: Size of a new object store in bytes; default: 30 % of the memory available now.
        namespace: Where names of actors are unique; default: one of its own for this program.
        runtime_env: Files, packages and variables of this program's workers, see docs/runtime_env.md.
        ignore_reinit_error: Return the running session's context instead of raising.
        log_to_driver: Show what workers print.
        include_dashboard, dashboard_host, dashboard_port: Accepted for compatibility; there is no dashboard.
        logging_level: Level of the logger ``aktis``; ``configure_logging=False`` leaves it alone.
        _system_config: Further settings of a new cluster's daemons by dotted key (``aktis config docs``).
        private: ``_memory``, what a new cluster offers in bytes; other keywords with an underscore that
            libraries pass (``_redis_password``, ``_temp_dir``, ...) are accepted and have no meaning.

    Returns:
        Facts about the cluster; used in ``with`` it ends the session.

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
    further = settings_of(private) | dict(_system_config or {})
    wishes = _Wishes(num_cpus, num_gpus, resources, labels, object_store_memory, further)
    _check_arguments(address, wishes, namespace, runtime_env)
    if configure_logging:
        _configure_logging(logging_level, logging_format)
    _mention_unused(include_dashboard, dashboard_host=dashboard_host, dashboard_port=dashboard_port)
    with _lock:
        if current.session is None:
            return _enter(lambda: _start(address, wishes, namespace, dict(runtime_env or {}), log_to_driver))
        if ignore_reinit_error:
            return _context(current.session)
        raise RuntimeError(
            "this process has a session already, perhaps from an earlier aktis.init(): "
            "call aktis.shutdown() first, or pass ignore_reinit_error=True to keep it"
        )


def _enter(start: Callable[[], "Session"]) -> Context:
    """NONE -> STARTING -> RUNNING, or back to NONE when there is no session to be had."""
    _reset_after_fork()
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


def _mention_unused(include_dashboard: bool | None, **arguments: Any) -> None:
    """Name arguments that other programs set and that have no meaning here; most are too common to warn."""
    if include_dashboard:
        warnings.warn("this version of aktis has no dashboard; include_dashboard is ignored", stacklevel=3)
    given = sorted(name for name, value in arguments.items() if value is not None)
    if given:
        logging.getLogger("aktis").debug("init() ignores %s: there is no dashboard", ", ".join(given))


def _start(
    address: str | None,
    wishes: _Wishes,
    namespace: str | None,
    runtime_env: dict[str, Any],
    log_to_driver: bool,
) -> "Session":
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
        return _connect(found.raylet_address, found.token, namespace, runtime_env, log_to_driver)
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
        session = _connect(cluster.raylet_address, cluster.token, namespace, runtime_env, log_to_driver)
    except BaseException:
        cluster.shutdown()
        raise
    session.cluster = cluster
    return session


def _connect(
    raylet_address: str, token: str, namespace: str | None, runtime_env: dict[str, Any], log_to_driver: bool
) -> "Session":
    from aktis._runtime.session import connect_driver

    session = None
    try:
        with interrupts_let_through():
            session = connect_driver(raylet_address, token, namespace, runtime_env, log_to_driver)
    except BaseException:
        if session is not None:
            session.close()
        raise
    current.session = session
    atexit.register(_shutdown_at_exit)
    return session


def adopt_session(session: "Session") -> None:
    """Make a worker's session the one of this process."""
    with _lock:
        _reset_after_fork()
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


def _reset_after_fork() -> None:
    """In a forked child the state is the parent's; it begins anew."""
    global _state, _pid
    if os.getpid() != _pid:
        _pid = os.getpid()
        _state = State.NONE


def _configure_logging(level: int | str, text_format: str | None) -> None:
    logger = logging.getLogger("aktis")
    logger.setLevel(level.upper() if isinstance(level, str) else level)
    if text_format is not None:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter(text_format))
        logger.handlers[:] = [handler]


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
