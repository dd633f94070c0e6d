"""Runtime environments as they travel: a JSON description, named by the hash of its canonical text.

A client makes the description from what its user wrote: local directories are packed and uploaded first, so
that it names packages and nothing of the driver's disk; a hook is the id of an exported function. It stores
the description in the key-value store under its hash. Raylets and workers fetch it by the hash, which is all
that lease requests and actors carry.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

KV_NAMESPACE: Final = "environments"
"""Descriptions by their hash."""
PACKAGES_NAMESPACE: Final = "packages"
"""``<digest>``: size in bytes as text, written last; ``<digest>/<n>``: its chunks."""
USES_NAMESPACE: Final = "environment_uses"
"""Who needs what, see `Use`: the GCS keeps environments and packages that are needed. Values are empty."""
PACKAGE_CHUNK_BYTES: Final = 8 << 20
"""Larger than what the GCS caches: packages are read once per node and would push functions out."""
PACKAGE_SCHEME: Final = "package://"
"""Packed by the client: what is in it is what was in the directory."""
ARCHIVE_SCHEME: Final = "archive://"
"""A zip file of the user's. Where it stands for a directory, the one folder that all is in is left out."""
PACKAGE_LIMIT_BYTES: Final = 512 << 20
MAX_DESCRIPTION_BYTES: Final = 1 << 20
HASH_CHARACTERS: Final = 32

DEFAULT_SETUP_TIMEOUT_S: Final = 600.0

# What the loader, the interpreter or native libraries read when a process starts or a library is loaded:
# setting it in a process that was forked from one which has them already would have no effect.
_READ_AT_START: Final = re.compile(
    r"(LD_|PYTHON|MALLOC_|GLIBC_|OMP_|KMP_|GOMP_|MKL_|OPENBLAS_|BLIS_|NUMEXPR_).*|LC_ALL|LANG|TZ"
)
_HEXADECIMAL: Final = frozenset("0123456789abcdef")
_REFERENCE: Final = re.compile(r"\$\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Requirements:
    """Packages to be installed by a tool, pip or uv."""

    packages: tuple[str, ...] = ()
    """Lines of a requirements file."""
    options: tuple[str, ...] = ()
    """Further arguments of the tool's install command."""
    check: bool = False
    """Let the tool check afterwards that the packages go together."""
    version: str = ""
    """Of the tool itself, for example ``==24.0``."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Digests of local files among the packages: another content is another environment."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What one description says. Only data; `decode` checks every field, because daemons read it."""

    env_vars: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    """A package, an archive, or the URI of a zip file."""
    py_modules: tuple[str, ...] = ()
    pip: Requirements | None = None
    uv: Requirements | None = None
    py_executable: str = ""
    hook: str = ""
    """``module.function``, or ``function:<id>``."""
    setup_timeout_s: float = DEFAULT_SETUP_TIMEOUT_S
    """0: without limit."""

    def encode(self) -> bytes:
        """Return the canonical text; equal environments have equal ones."""
        data = {name: value for name, value in asdict(self).items() if value}
        return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> "Environment":
        """Read what `encode` made.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(**_checked(json.loads(data)))
        except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
            raise ValueError(f"malformed description of a runtime environment: {error}") from error

    @property
    def needs_template(self) -> bool:
        """Whether its workers are forked from a template of their own, which its set-up makes possible.

        Variables and the hook are applied by a fresh worker of the common template, before it loads code.
        """
        return self.needs_setup or any(_READ_AT_START.fullmatch(name) for name in self.env_vars)

    @property
    def needs_setup(self) -> bool:
        """Whether something has to be fetched or installed first."""
        return bool(self.working_dir or self.py_modules or self.pip or self.uv or self.py_executable)

    @property
    def uploads(self) -> frozenset[str]:
        """The digests of the packages and archives that are in the key-value store."""
        uris = (self.working_dir, *self.py_modules)
        schemes = (PACKAGE_SCHEME, ARCHIVE_SCHEME)
        return frozenset(uri.partition("://")[2] for uri in uris if uri.startswith(schemes))


@dataclass(frozen=True, slots=True)
class Use:
    """A key of `USES_NAMESPACE`: a job needs an environment, or an environment consists of a package."""

    environment: str
    job_id: bytes = b""
    package: str = ""

    @property
    def key(self) -> bytes:
        """``<environment>/job/<id>`` or ``<environment>/package/<digest>``."""
        of = f"package/{self.package}" if self.package else f"job/{self.job_id.hex()}"
        return f"{self.environment}/{of}".encode()


def read_use(key: bytes) -> Use | None:
    """Read the key of a `Use`; None when it is something else."""
    try:
        environment, kind, name = key.decode("ascii").split("/")
        if kind == "job" and name:
            return Use(environment, job_id=bytes.fromhex(name))
    except ValueError:
        return None
    return Use(environment, package=name) if kind == "package" and name else None


def environment_hash(description: bytes) -> str:
    """Return the name of an environment."""
    return hashlib.blake2b(description, digest_size=HASH_CHARACTERS // 2).hexdigest()


def is_hash(name: str) -> bool:
    """Whether a text can be the name of an environment, which becomes part of paths."""
    return len(name) == HASH_CHARACTERS and set(name) <= _HEXADECIMAL


def expand_variables(env_vars: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with ``${NAME}`` replaced by what ``environ`` has, or nothing."""
    return {
        name: _REFERENCE.sub(lambda match: environ.get(match[1], ""), value)
        for name, value in env_vars.items()
    }


def _checked(data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise TypeError(f"an object is needed, got {data!r:.80}")
    found: dict[str, Any] = dict(data)
    found["env_vars"] = _texts(found.get("env_vars", {}))
    for name in ("working_dir", "py_executable", "hook"):
        if not isinstance(found.get(name, ""), str):
            raise TypeError(f"{name} must be a str")
    found["py_modules"] = _list(found.get("py_modules", []))
    for name in ("pip", "uv"):
        if found.get(name) is not None:
            found[name] = _requirements(found[name])
    found["setup_timeout_s"] = timeout_s = float(found.get("setup_timeout_s", 0.0))
    if not 0 <= timeout_s < math.inf:
        raise ValueError(f"setup_timeout_s must be a time, got {timeout_s}")
    return found


def _requirements(data: Mapping[str, Any]) -> Requirements:
    return Requirements(
        packages=_list(data["packages"]),
        options=_list(data["options"]),
        check=bool(data["check"]),
        version=str(data["version"]),
        files=_texts(data["files"]),
    )


def _list(data: Any) -> tuple[str, ...]:
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise TypeError(f"a list of str is needed, got {data!r:.80}")
    return tuple(data)


def _texts(data: Any) -> dict[str, str]:
    if not isinstance(data, dict) or not all(isinstance(item, str) for pair in data.items() for item in pair):
        raise TypeError(f"a dict of str by str is needed, got {data!r:.80}")
    return data
