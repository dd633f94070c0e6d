"""Every setting with its type, unit, default and meaning. A setting that nothing reads does not belong here.

Names carry their unit last. An address is ``unix:/path`` or ``host:port`` (port 0: any free port); an empty
address means the socket of that name in the session directory.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from aktis._common.labels import check_labels
from aktis._common.paths import SessionPaths

_SIZE_UNITS = {"": 1, "B": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def _parse_size(value: object) -> object:
    """Accept ``"512 MiB"`` beside a plain number of bytes."""
    if not isinstance(value, str):
        return value
    text = value.strip().upper()
    digits = text.rstrip("KMGTIB ")
    unit = text[len(digits) :].strip()
    if unit not in _SIZE_UNITS:
        raise ValueError('a size: bytes, or a number with KiB, MiB, GiB or TiB such as "2 GiB"')
    try:
        return int(float(digits) * _SIZE_UNITS[unit])
    except ValueError:
        raise ValueError('a size: bytes, or a number with KiB, MiB, GiB or TiB such as "2 GiB"') from None


def _check_address(value: str) -> str:
    if not value or (value.startswith("unix:/") and len(value) > len("unix:/")):
        return value
    host, separator, port = value.rpartition(":")
    if not separator or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError('an address: "unix:/path/to/socket" or "host:port"')
    return value


def _check_labels(value: dict[str, str]) -> dict[str, str]:
    check_labels(value)
    return value


SizeBytes = Annotated[int, BeforeValidator(_parse_size), Field(gt=0)]
Address = Annotated[str, AfterValidator(_check_address)]
Labels = Annotated[dict[str, str], AfterValidator(_check_labels)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]


def _doc(default: Any, description: str) -> Any:
    return Field(default, description=description)


def _table(factory: Callable[[], Any], description: str) -> Any:
    return Field(default_factory=factory, description=description)


class Section(BaseModel):
    """A table of the file: unknown keys are errors, values do not change after the start."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False, protected_namespaces=())


class ClusterSection(Section):
    """What the whole cluster shares."""

    name: str = _doc("aktis", "Name of the cluster, for people.")
    gcs_address: Address = _doc("", "Where daemons reach the GCS. Empty: gcs.sock of the session.")
    is_head: bool = _doc(True, "This node runs the GCS.")


class StorageSection(Section):
    """Where the GCS keeps what must survive it."""

    kind: Literal["memory", "sqlite", "redis"] = _doc("sqlite", "memory (nothing survives), sqlite or redis.")
    path: Path | None = _doc(None, "SQLite database. Default: gcs.sqlite in paths.state_dir.")
    url: str = _doc("redis://127.0.0.1:6379/0", "Redis server; unix:///path/to/socket works too.")
    durable: bool = _doc(
        False, "SQLite: flush every commit to the disk, so that it survives a power failure."
    )


class GcsSection(Section):
    """aktis-gcs."""

    listen_addresses: tuple[Address, ...] = _doc((), "gRPC addresses beside gcs.sock of the session.")
    metrics_address: Address = _doc("127.0.0.1:0", "HTTP address of /metrics.")
    storage: StorageSection = _table(StorageSection, "")
    heartbeat_period_ms: PositiveInt = _doc(1_000, "How often a raylet reports.")
    suspect_after_ms: PositiveInt = _doc(5_000, "Silence after which a node gets nothing new.")
    dead_after_ms: PositiveInt = _doc(15_000, "Silence after which a node is declared dead.")
    job_grace_ms: PositiveInt = _doc(5_000, "After a restart: how long a job waits for its driver's raylet.")
    kv_value_limit_bytes: SizeBytes = _doc(64 * 2**20, "Largest value of the key-value store.")
    package_cache_bytes: SizeBytes = _doc(
        2 * 2**30, "Uploaded packages of runtime environments; beyond, the oldest go that no job needs."
    )
    package_grace_ms: PositiveInt = _doc(60_000, "A package is not removed for so long after its last use.")
    publication_ring_size: PositiveInt = _doc(
        10_000, "Publications kept per channel for subscribers to resume."
    )
    dead_actors_kept: PositiveInt = _doc(10_000, "Records of dead actors kept for people.")
    finished_jobs_kept: PositiveInt = _doc(1_000, "Records of finished jobs kept for people.")
    task_events_limit_bytes: SizeBytes = _doc(32 * 2**20, "Task events kept per job; older ones are dropped.")


class WorkersSection(Section):
    """The pool of worker processes of one node."""

    prestart: NonNegativeInt | None = _doc(None, "Workers started ahead. Default: one per CPU.")
    limit: PositiveInt = _doc(10_000, "Most worker processes at one time.")
    idle_timeout_s: PositiveFloat = _doc(60.0, "Idle workers beyond `prestart` end after this time.")
    start_timeout_s: PositiveFloat = _doc(30.0, "A worker that has not registered by then is killed.")
    start_attempts: PositiveInt = _doc(3, "Failed starts in a row before requests fail with the cause.")
    stop_grace_ms: PositiveInt = _doc(2_000, "Time between SIGTERM and SIGKILL.")
    timeout_grace_s: NonNegativeFloat = _doc(
        5.0, "A task beyond its timeout_s is interrupted; its worker is killed if it goes on for so long."
    )
    entry_point: str = _doc(
        "aktis._worker.main:run", "What a worker runs: MODULE:FUNCTION that takes a WorkerStart."
    )


class WorkerLogsSection(Section):
    """Files and forwarding of what workers print."""

    rotate_bytes: SizeBytes = _doc(64 * 2**20, "Size at which a worker's log file is rotated.")
    rotate_keep: NonNegativeInt = _doc(2, "Rotated files kept per worker.")
    forward_lines_per_s: PositiveInt = _doc(
        1_000, "Lines per second to one driver; more are counted, not sent."
    )
    repeat_window_ms: NonNegativeInt = _doc(
        1_000, "Equal lines within this time are sent once, with their count."
    )


class EnvironmentsSection(Section):
    """Runtime environments of tasks and actors on one node."""

    cache_dir: Path | None = _doc(
        None, "Unpacked packages and installed requirements. Default: environments in paths.state_dir."
    )
    cache_bytes: SizeBytes = _doc(10 * 2**30, "Beyond this size what no environment uses is removed.")
    idle_timeout_s: PositiveFloat = _doc(300.0, "The template of an environment without work then ends.")


class RayletSection(Section):
    """aktis-raylet."""

    listen_address: Address = _doc(
        "", "Wire socket for processes of the node. Empty: raylet.sock of the session."
    )
    grpc_address: Address = _doc("", "gRPC address for tools. Empty: raylet-grpc.sock of the session.")
    metrics_address: Address = _doc("127.0.0.1:0", "HTTP address of /metrics.")
    num_cpus: NonNegativeFloat | None = _doc(None, "CPUs to offer. Default: those this process may use.")
    num_gpus: NonNegativeFloat | None = _doc(None, "GPUs to offer. Default: those that are found.")
    memory_bytes: SizeBytes | None = _doc(None, "Memory to offer. Default: 70 % of what the node has.")
    resources: dict[str, NonNegativeFloat] = _table(dict, "Custom resources, for example { special = 2 }.")
    labels: Labels = _table(dict, "Labels of the node.")
    gcs_retry_max_ms: PositiveInt = _doc(1_000, "Longest pause between attempts to reach the GCS.")
    resource_report_ms: PositiveInt = _doc(100, "Changes of the resource view are collected for this long.")
    deaths_kept: PositiveInt = _doc(10_000, "Causes of death of processes kept for later questions.")
    workers: WorkersSection = _table(WorkersSection, "")
    worker_logs: WorkerLogsSection = _table(WorkerLogsSection, "")
    environments: EnvironmentsSection = _table(EnvironmentsSection, "")


class CoreSection(Section):
    """Every driver and worker of the node: what it keeps, and how much may be on the way."""

    inline_bytes: Annotated[SizeBytes, Field(le=2**20)] = _doc(
        100 * 2**10, "Larger values live in shared memory, smaller ones travel in messages. At most 1 MiB."
    )
    inline_arguments_bytes: Annotated[SizeBytes, Field(le=32 * 2**20)] = _doc(
        2**20, "Most bytes that the small arguments of one call may take together. At most 32 MiB."
    )
    in_flight_bytes: SizeBytes = _doc(
        2**30, "Arguments of unfinished tasks of one process; beyond, .remote() waits."
    )
    lineage_bytes: SizeBytes = _doc(
        256 * 2**20, "Records of finished tasks kept to compute lost results again; the oldest go first."
    )
    control_queue_bytes: SizeBytes = _doc(
        256 * 2**20, "Messages of the raylet not yet handled; a process with more hangs up on it."
    )
    actor_window_calls: PositiveInt = _doc(4_096, "Calls of one process under way to one actor.")
    actor_window_bytes: SizeBytes = _doc(64 * 2**20, "Their arguments; one call always may be under way.")
    pipeline_depth: PositiveInt = _doc(128, "Most tasks sent ahead to one worker.")
    lease_grace_ms: PositiveInt = _doc(1_000, "An idle worker is kept so long for the next task.")
    stream_bytes: SizeBytes = _doc(
        256 * 2**20, "Items of one generator kept for its consumer; beyond, the generator waits."
    )
    spin_us: Annotated[NonNegativeInt, Field(le=10_000)] = _doc(
        50, "Looked for the next message before sleeping, while they come that soon; 0: never. At most 10 ms."
    )
    fetch_timeout_ms: PositiveInt = _doc(
        60_000, "How long a task waits for an argument in shared memory before ObjectFetchTimedOutError."
    )


class PlasmaSection(Section):
    """aktis-plasma."""

    listen_address: Address = _doc(
        "", "Wire socket for processes of the node. Empty: plasma.sock of the session."
    )
    grpc_address: Address = _doc("", "gRPC address for tools. Empty: plasma-grpc.sock of the session.")
    metrics_address: Address = _doc("127.0.0.1:0", "HTTP address of /metrics.")
    capacity_bytes: SizeBytes | None = _doc(
        None, "Size of the store. Default: 30 % of the memory available at its start."
    )
    populate: bool = _doc(False, "Touch all pages at the start, so that no put ever waits for the kernel.")
    huge_pages: bool = _doc(False, "Back the arena by huge pages; they must be reserved on the host.")
    warm_reserve_bytes: SizeBytes = _doc(64 * 2**20, "Pages kept ready beyond what is in use.")
    idle_release_s: PositiveFloat = _doc(30.0, "Unused warm pages go back to the system after this time.")
    slab_min_bytes: SizeBytes = _doc(256 * 2**10, "Smallest lease of memory to one client.")
    slab_max_bytes: SizeBytes = _doc(16 * 2**20, "Largest lease of memory to one client.")
    create_timeout_ms: PositiveInt = _doc(
        10_000, "How long put() and results of tasks wait for room before ObjectStoreFullError."
    )
    allowed_uids: tuple[NonNegativeInt, ...] = _doc(
        (), "Users whose processes may connect beside the store's own."
    )


class SecuritySection(Section):
    """Who may talk to the daemons."""

    token_file: Path | None = _doc(
        None, "File with the cluster's secret, mode 0600. Default: token of the session."
    )
    insecure: bool = _doc(False, "Allow addresses other than loopback without TLS.")


class LoggingSection(Section):
    """The daemons' own logs."""

    level: Literal["debug", "info", "warning", "error"] = _doc("info", "Least severe level written.")
    format: Literal["auto", "json", "console"] = _doc("auto", "auto: console on a terminal, else json.")
    file_limit_bytes: SizeBytes = _doc(
        16 * 2**20, "Size at which a file under the supervisor is rotated once."
    )


class PathsSection(Section):
    """Directories. With session_dir set, the others default to directories in it."""

    session_dir: Path | None = _doc(None, "Everything of one cluster in one private directory.")
    run_dir: Path = _doc(Path("/run/aktis"), "Sockets and daemon records.")
    state_dir: Path = _doc(Path("/var/lib/aktis"), "What must survive a restart.")
    log_dir: Path = _doc(Path("/var/log/aktis"), "Log files.")


class SupervisorSection(Section):
    """The supervisor of hosts without systemd; the same limits as the units have."""

    restart_limit: PositiveInt = _doc(
        5, "Restarts of one daemon within the window; one more stops everything."
    )
    restart_window_s: PositiveFloat = _doc(60.0, "Window of restart_limit.")
    restart_delay_ms: NonNegativeInt = _doc(
        100, "Pause before the first restart; doubles with each further one."
    )
    restart_delay_max_ms: PositiveInt = _doc(5_000, "Longest pause before a restart.")
    ready_timeout_s: PositiveFloat = _doc(20.0, "A daemon that is not ready by then is killed and restarted.")
    stop_timeout_s: PositiveFloat = _doc(4.0, "Time for all daemons to stop before they are killed.")


class AktisConfig(Section):
    """The whole configuration of one host."""

    cluster: ClusterSection = _table(ClusterSection, "")
    gcs: GcsSection = _table(GcsSection, "")
    raylet: RayletSection = _table(RayletSection, "")
    plasma: PlasmaSection = _table(PlasmaSection, "")
    core: CoreSection = _table(CoreSection, "")
    security: SecuritySection = _table(SecuritySection, "")
    logging: LoggingSection = _table(LoggingSection, "")
    paths: PathsSection = _table(PathsSection, "")
    supervisor: SupervisorSection = _table(SupervisorSection, "")

    def layout(self) -> SessionPaths:
        """Return where this cluster's files lie on this host."""
        paths = self.paths
        if paths.session_dir is None:
            return SessionPaths(paths.run_dir, paths.run_dir, paths.state_dir, paths.log_dir)
        session = SessionPaths.in_session(paths.session_dir)
        given = paths.model_fields_set
        return SessionPaths(
            root=session.root,
            run_dir=paths.run_dir if "run_dir" in given else session.run_dir,
            state_dir=paths.state_dir if "state_dir" in given else session.state_dir,
            log_dir=paths.log_dir if "log_dir" in given else session.log_dir,
        )

    @property
    def token_file(self) -> Path:
        """The file with the cluster's secret."""
        return self.security.token_file or self.layout().token_file

    @property
    def gcs_address(self) -> str:
        """Where daemons of this host reach the GCS."""
        return self.cluster.gcs_address or f"unix:{self.layout().gcs_socket}"

    @property
    def gcs_listen_addresses(self) -> tuple[str, ...]:
        """Every address that the GCS serves; the first is the one for this host."""
        return (f"unix:{self.layout().gcs_socket}", *self.gcs.listen_addresses)

    @property
    def raylet_address(self) -> str:
        """The raylet's wire address."""
        return self.raylet.listen_address or f"unix:{self.layout().raylet_socket}"

    @property
    def raylet_grpc_address(self) -> str:
        """The raylet's gRPC address."""
        return self.raylet.grpc_address or f"unix:{self.layout().raylet_grpc_socket}"

    @property
    def plasma_address(self) -> str:
        """The store's wire address."""
        return self.plasma.listen_address or f"unix:{self.layout().plasma_socket}"

    @property
    def plasma_grpc_address(self) -> str:
        """The store's gRPC address."""
        return self.plasma.grpc_address or f"unix:{self.layout().plasma_grpc_socket}"
