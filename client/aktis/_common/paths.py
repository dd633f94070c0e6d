"""Where a cluster's files lie: session directories of embedded clusters, system directories of services.

An embedded cluster owns one directory ``<base>/s-<8 hex>/`` of mode 0700 that holds everything it writes,
so that removing the directory leaves no trace. A cluster of systemd services has the same names spread over
``/run/aktis``, ``/var/lib/aktis`` and ``/var/log/aktis``.
"""

import errno
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# sizeof(sockaddr_un.sun_path), which must also hold the terminating zero.
MAX_SOCKET_PATH_BYTES: Final = 107
# A process that is just ending may still write a file into a directory that is being emptied.
_REMOVE_ATTEMPTS: Final = 3
# <sockets_dir>/<32 hex digits>.sock is the longest path that a process derives itself.
_WORKER_SOCKET_NAME_BYTES: Final = 32 + len(".sock")


@dataclass(frozen=True)
class SessionPaths:
    """Every path of one cluster on this node. Immutable; nothing here touches the disk."""

    root: Path
    """Sockets and token."""
    run_dir: Path
    """Daemon records ``<name>.json``."""
    state_dir: Path
    """What outlives a daemon: the GCS database, epoch counters."""
    log_dir: Path

    @classmethod
    def in_session(cls, root: Path) -> "SessionPaths":
        """Return the layout of a session directory."""
        return cls(root=root, run_dir=root / "run", state_dir=root / "state", log_dir=root / "log")

    @property
    def token_file(self) -> Path:
        """The cluster's secret, mode 0600."""
        return self.root / "token"

    @property
    def gcs_socket(self) -> Path:
        """The GCS's gRPC socket."""
        return self.root / "gcs.sock"

    @property
    def raylet_socket(self) -> Path:
        """The raylet's wire socket for drivers, workers and the template."""
        return self.root / "raylet.sock"

    @property
    def raylet_grpc_socket(self) -> Path:
        """The raylet's gRPC socket for tools and daemons."""
        return self.root / "raylet-grpc.sock"

    @property
    def plasma_socket(self) -> Path:
        """The store's wire socket."""
        return self.root / "plasma.sock"

    @property
    def plasma_grpc_socket(self) -> Path:
        """The store's gRPC socket."""
        return self.root / "plasma-grpc.sock"

    @property
    def notify_socket(self) -> Path:
        """Where daemons tell the supervisor that they are ready."""
        return self.root / "notify.sock"

    @property
    def sockets_dir(self) -> Path:
        """One socket per process, ``<worker id in hex>.sock``."""
        return self.root / "sock"

    def worker_socket(self, worker_id: bytes) -> Path:
        """Return the socket on which the process with this id listens."""
        return self.sockets_dir / f"{worker_id.hex()}.sock"

    def daemon_record(self, name: str) -> Path:
        """Return the file in which the daemon ``name`` describes itself while it runs."""
        return self.run_dir / f"{name}.json"

    def directories(self) -> tuple[Path, ...]:
        """Return every directory that must exist before a daemon starts."""
        return (self.root, self.sockets_dir, self.run_dir, self.state_dir, self.log_dir)

    def create(self) -> None:
        """Create the directories that are missing, mode 0700.

        Raises:
            OSError: a directory cannot be created.
            ValueError: a socket's path would be too long for the system.
        """
        check_socket_path(self.sockets_dir / ("0" * _WORKER_SOCKET_NAME_BYTES))
        check_socket_path(self.plasma_grpc_socket)
        for directory in self.directories():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def check_socket_path(path: Path) -> None:
    """Raise ValueError when ``path`` is too long for a Unix socket; says by how much and what to do."""
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH_BYTES:
        raise ValueError(
            f"socket path {str(path)!r} has {length} bytes but the system allows {MAX_SOCKET_PATH_BYTES}: "
            "choose a shorter directory (XDG_RUNTIME_DIR, TMPDIR or paths.session_dir)"
        )


def base_dir() -> Path:
    """Return the directory that holds this user's session directories.

    ``$XDG_RUNTIME_DIR/aktis`` when the system gives the user such a directory, else ``aktis-<uid>`` in the
    temporary folder.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.access(runtime, os.W_OK):
        return Path(runtime) / "aktis"
    return Path(tempfile.gettempdir()) / f"aktis-{os.getuid()}"


def current_cluster_file() -> Path:
    """Return the record of the cluster that ``aktis start`` left running for this user."""
    return base_dir() / "current.json"


def ensure_base_dir() -> Path:
    """Create the base directory when it is missing and return it.

    Raises:
        PermissionError: the directory belongs to another user or others may write in it; a file in a shared
            temporary folder must not be trusted because of its name.
    """
    base = base_dir()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = base.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(
            f"{base} must be a directory of user {os.getuid()} that nobody else can write in: "
            "remove it or set XDG_RUNTIME_DIR to a private directory"
        )
    return base


def create_session() -> SessionPaths:
    """Create a new session directory with its token and return its layout.

    Raises:
        OSError: the base directory cannot be written.
        ValueError: the base directory's name is so long that sockets could not be bound in it.
    """
    base = ensure_base_dir()
    root = base / f"s-{secrets.token_hex(4)}"
    root.mkdir(mode=0o700)
    session = SessionPaths.in_session(root)
    try:
        session.create()
        write_token(session.token_file, new_token())
    except BaseException:
        remove_tree(root)
        raise
    return session


def remove_tree(root: Path) -> None:
    """Remove a directory with all that is in it; files that vanish meanwhile are no error.

    Raises:
        OSError: something cannot be removed, or is created as fast as it is removed.
    """
    for attempt in range(_REMOVE_ATTEMPTS):
        try:
            _remove_tree_once(root)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or attempt == _REMOVE_ATTEMPTS - 1:
                raise


def _remove_tree_once(root: Path) -> None:
    for directory, subdirectories, names in os.walk(root, topdown=False):
        # walk() lists a link to a directory among the directories but does not follow it.
        links = [name for name in subdirectories if (Path(directory) / name).is_symlink()]
        for name in names + links:
            (Path(directory) / name).unlink(missing_ok=True)
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            continue


def new_token() -> str:
    """Return a fresh secret of 256 bits, in hexadecimal."""
    return secrets.token_hex(32)


def write_token(path: Path, token: str) -> None:
    """Write a new token file that only its owner can read.

    Raises:
        FileExistsError: the file is there; a running cluster's token is never replaced.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(token + "\n")


def read_token(path: Path) -> str:
    """Return the token in ``path``.

    Raises:
        OSError: the file cannot be read.
        PermissionError: others than its owner can read it.
        ValueError: the file is empty or longer than a token may be (256 bytes).
    """
    with path.open() as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(1024).strip()
    if mode & 0o077:
        raise PermissionError(
            f"token file {path} is readable by others (mode {mode & 0o777:04o}): chmod 600 {path}"
        )
    if not text or len(text) > 256:
        raise ValueError(f"token file {path} must hold one token of 1 to 256 bytes, got {len(text)}")
    return text


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Replace ``path`` by ``data`` so that a reader sees the old or the new content and never a part.

    Args:
        durable: also flush file and directory to the disk, for state that must outlive a power failure.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
