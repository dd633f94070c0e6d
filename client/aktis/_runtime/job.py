"""What the workers of a job take over from its driver: import path, working directory, namespace.

The driver publishes it once in the key-value store, before its first function; a worker adopts it before it
loads its first function. A worker serves one job only, so nothing has to be undone.
"""

import json
import os
import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aktis._runtime import tracing

KV_NAMESPACE: Final = "jobs"


@dataclass(frozen=True, slots=True)
class JobPlace:
    """Where the code of a job's worker is, if its runtime environment says so."""

    environment: str = ""
    """Whose variables are set here since the start of the process."""
    working_dir: str = ""
    """Stands for the driver's working directory and the folder of its program."""
    import_path: Sequence[str] = ()
    """Goes before everything else."""
    own_interpreter: bool = False
    """The packages of the driver's interpreter are not those of this one."""


@dataclass(frozen=True)
class JobConfig:
    """See the module."""

    namespace: str
    sys_path: list[str] = field(default_factory=list)
    local_path: list[str] = field(default_factory=list)
    """Those entries that are the driver's working directory or the folder of its program."""
    package_path: list[str] = field(default_factory=list)
    """Those entries that belong to the driver's interpreter."""
    cwd: str = ""
    logging: dict[str, Any] | None = None
    """A LoggingConfig of the driver, encoded."""
    traces: dict[str, str] | None = None
    """What `aktis._runtime.tracing` is to start with; None: it is off."""
    as_ray: str = ""
    """The release that the driver claims to be when it imports us under the name ray: so do its functions."""

    @classmethod
    def of_this_process(
        cls,
        namespace: str,
        logging: dict[str, Any] | None = None,
        traces: dict[str, str] | None = None,
    ) -> "JobConfig":
        """Describe the calling driver."""
        cwd = os.getcwd()
        # "" and relative entries mean the working directory of the driver, wherever the worker is.
        path = [os.path.join(cwd, entry) for entry in sys.path]
        program = os.path.dirname(os.path.join(cwd, sys.argv[0])) if sys.argv and sys.argv[0] else cwd
        local = {os.path.normpath(entry) for entry in (cwd, program)}
        return cls(
            namespace,
            path,
            [entry for entry in path if os.path.normpath(entry) in local],
            [entry for entry in path if _is_of_interpreter(entry)],
            cwd,
            logging,
            traces,
            os.environ.get("AKTIS_COMPAT_RAY", ""),
        )

    def encode(self) -> bytes:
        """Serialize; read by `decode`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "JobConfig":
        """Read what `encode` made."""
        return cls(**json.loads(data))

    def adopt(self, place: JobPlace = JobPlace()) -> None:
        """Make the calling worker see what the driver sees, except where its environment says otherwise.

        Where this node does not have the driver's working directory, the worker stays where it is.
        """
        sys.path[:] = self.path_in(place, sys.path)
        if self.as_ray:
            from aktis.compat import install_as_ray

            install_as_ray(self.as_ray)
        if self.logging is not None:
            from aktis._runtime.logging_config import LoggingConfig

            LoggingConfig.from_dict(self.logging).apply()
        directory = place.working_dir or self.cwd
        if directory and os.path.isdir(directory):
            os.chdir(directory)
        if self.traces is not None:
            tracing.start(self.traces)

    def path_in(self, place: JobPlace, own: Sequence[str]) -> list[str]:
        """Return the import path of a worker whose own one is ``own``."""
        left_out = {*place.import_path}
        if place.working_dir:
            left_out.update(self.local_path)
        if place.own_interpreter:
            left_out.update(self.package_path)
        front = [*place.import_path, *(entry for entry in self.sys_path if entry not in left_out)]
        known = set(front)
        return front + [entry for entry in own if entry not in known]


def _is_of_interpreter(entry: str) -> bool:
    """Whether an entry of the import path came with the interpreter, installed packages included."""
    paths = sysconfig.get_paths()
    homes = [paths["stdlib"], paths["platstdlib"], *site.getsitepackages(), site.getusersitepackages()]
    zipped = f"python{sys.version_info.major}{sys.version_info.minor}.zip"
    return os.path.basename(entry) == zipped or any(
        entry == home or entry.startswith(home + os.sep) for home in homes
    )
