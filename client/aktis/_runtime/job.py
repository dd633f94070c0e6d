"""What the workers of a job take over from its driver: import path, working directory, environment.

Namespace.

The driver publishes it once in the key-value store, before its first function; a worker adopts it before it
loads its first function. A worker serves one job only, so nothing has to be undone.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

KV_NAMESPACE: Final = "jobs"


@dataclass(frozen=True)
class JobConfig:
    """See the module."""

    namespace: str
    sys_path: list[str] = field(default_factory=list)
    cwd: str = ""
    env_vars: Mapping[str, str] = field(default_factory=dict)
    as_ray: bool = False
    """The driver's programs import us under the name ray: so do its functions."""

    @classmethod
    def of_this_process(cls, namespace: str, env_vars: Mapping[str, str]) -> "JobConfig":
        """Describe the calling driver."""
        cwd = os.getcwd()
        # "" and relative entries mean the working directory of the driver, wherever the worker is.
        path = [os.path.join(cwd, entry) for entry in sys.path]
        return cls(namespace, path, cwd, dict(env_vars), os.environ.get("AKTIS_COMPAT_RAY") == "1")

    def encode(self) -> bytes:
        """Serialize; read by `decode`."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, data: bytes) -> "JobConfig":
        """Read what `encode` made."""
        return cls(**json.loads(data))

    def adopt(self) -> None:
        """Make the calling worker see what the driver sees.

        Raises:
            OSError: never for a working directory that this node does not have: the worker then stays where
            it is.
        """
        known = set(self.sys_path)
        sys.path[:] = self.sys_path + [entry for entry in sys.path if entry not in known]
        os.environ.update(self.env_vars)
        if self.as_ray:
            from aktis.compat import install_as_ray

            install_as_ray()
        if self.cwd and os.path.isdir(self.cwd):
            os.chdir(self.cwd)
