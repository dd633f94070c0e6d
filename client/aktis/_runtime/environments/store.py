"""From what a user writes to the name of an environment; what this process's own environment is.

A program's environment is the base of what its tasks and actors ask for, and theirs that of what they start
themselves: variables are merged, every other key replaces.
"""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from aktis._common.environments import (
    DEFAULT_SETUP_TIMEOUT_S,
    KV_NAMESPACE,
    MAX_DESCRIPTION_BYTES,
    USES_NAMESPACE,
    Environment,
    Requirements,
    Use,
    environment_hash,
)
from aktis._proto import raylet_pb2
from aktis._runtime.control import Control
from aktis._runtime.environments.check import is_uri
from aktis._runtime.environments.packages import PackedFile, Uploader
from aktis._runtime.functions import Exported, FunctionStore
from aktis.exceptions import RuntimeEnvSetupError

FUNCTION_HOOK: Final = "function:"
_INTERPRETERS: Final[Mapping[str, Any]] = {"pip": None, "uv": None, "py_executable": ""}


def merge(parent: Environment, fields: Mapping[str, Any]) -> Environment:
    """Return the environment of a child that sets ``fields`` itself."""
    values = dict(fields)
    if "env_vars" in values:
        values["env_vars"] = {**parent.env_vars, **values["env_vars"]}
    if values.keys() & _INTERPRETERS.keys():  # each says which interpreter it is: only one can
        values = {**_INTERPRETERS, **values}
    return replace(parent, **values)


class EnvironmentStore:
    """See the module. Any thread."""

    def __init__(
        self, control: Control, functions: FunctionStore, job_id: Callable[[], bytes] = lambda: b""
    ) -> None:
        """Publish to the cluster's key-value store, in the name of the job that this process works for."""
        self._control = control
        self._job_id = job_id
        self._functions = functions
        self._uploader = Uploader(control)
        self._lock = threading.Lock()
        self._published: set[tuple[str, bytes]] = set()
        self._own_name = ""
        self.own = Environment()
        """Of this process: the base for what it starts."""

    def begin(self, runtime_env: Mapping[str, Any]) -> None:
        """Make a program's environment its own; its set-up begins now unless that is not wanted.

        Raises:
            ValueError, OSError: a file or folder is too large or cannot be read.
        """
        if not runtime_env:
            return
        self.own = merge(self.own, self._fields(runtime_env))
        self._own_name = self._publish(self.own)
        eager = (runtime_env.get("config") or {}).get("eager_install", True)
        if self._own_name and eager and self.own.needs_setup:
            self._control.notify(want_environment=raylet_pb2.WantEnvironment(runtime_env_hash=self._own_name))

    def take_on(self, name: str) -> Environment:
        """Make a published environment the one of this worker.

        Raises:
            RuntimeEnvSetupError: the cluster does not have it.
        """
        data = self._control.kv_get(KV_NAMESPACE, name.encode())
        if data is None:
            raise RuntimeEnvSetupError(f"the cluster does not have the runtime environment {name}")
        self.own, self._own_name = Environment.decode(data), name
        return self.own

    def resolve(self, runtime_env: Mapping[str, Any] | None) -> str:
        """Return the name of the environment of a task or actor that asks for this one; "" for none.

        Raises:
            ValueError, OSError: a file or folder is too large or cannot be read.
        """
        if not runtime_env:
            return self._own_name
        return self._publish(merge(self.own, self._fields(runtime_env)))

    def _publish(self, environment: Environment) -> str:
        if replace(environment, setup_timeout_s=DEFAULT_SETUP_TIMEOUT_S) == Environment():
            return ""
        data = environment.encode()
        if len(data) > MAX_DESCRIPTION_BYTES:
            raise ValueError(
                f"the runtime environment takes {len(data)} bytes, the limit is {MAX_DESCRIPTION_BYTES}"
            )
        name = environment_hash(data)
        job_id = self._job_id()
        with self._lock:
            if (name, job_id) not in self._published:
                # Before the description: that may be there already, and go with the last job that needs it.
                for use in (Use(name, job_id=job_id), *(Use(name, package=it) for it in environment.uploads)):
                    self._control.kv_put(USES_NAMESPACE, use.key, b"", overwrite=True)
                self._control.kv_put(KV_NAMESPACE, name.encode(), data, overwrite=False)
                self._published.add((name, job_id))
        return name

    def _fields(self, runtime_env: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checked description sets, with local files uploaded and functions exported."""
        given = {key: value for key, value in runtime_env.items() if value is not None}
        excludes = given.pop("excludes", ())
        makers: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "env_vars": ("env_vars", dict),
            "working_dir": ("working_dir", lambda value: self._working_dir(value, excludes)),
            "py_modules": (
                "py_modules",
                lambda value: tuple(self._py_module(item, excludes) for item in value),
            ),
            "pip": ("pip", lambda value: requirements("pip", "pip_install_options", value)),
            "uv": ("uv", lambda value: requirements("uv", "uv_pip_install_options", value)),
            "py_executable": ("py_executable", str),
            "worker_process_setup_hook": ("hook", self._hook),
            "config": ("setup_timeout_s", _timeout_s),
        }
        return {makers[key][0]: makers[key][1](value) for key, value in given.items() if key in makers}

    def _working_dir(self, value: str | Path, excludes: Sequence[str]) -> str:
        text = os.fspath(value)
        if is_uri(text):
            return text
        path = Path(text)
        return self._uploader.folder(path, excludes, as_module=False) if path.is_dir() else self._zip(path)

    def _py_module(self, item: str | Path | ModuleType, excludes: Sequence[str]) -> str:
        if isinstance(item, ModuleType):
            path = _home_of(item)
        elif is_uri(os.fspath(item)):
            return os.fspath(item)
        else:
            path = Path(item)
        if path.is_dir():
            return self._uploader.folder(path, excludes, as_module=True)
        if path.suffix == ".py":
            file = PackedFile(str(path), path.name, path.stat().st_size, False)
            return self._uploader.files([file], str(path))
        return self._zip(path)

    def _zip(self, path: Path) -> str:
        return self._uploader.archive(path)

    def _hook(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        exported = self._functions.export(Exported(value), "worker_process_setup_hook")
        return FUNCTION_HOOK + exported.hex()


def _home_of(module: ModuleType) -> Path:
    paths = list(getattr(module, "__path__", ()))
    if paths:
        return Path(paths[0])
    if not module.__file__:
        raise ValueError(f"py_modules: the module {module.__name__!r} has no file")
    return Path(module.__file__)


def _timeout_s(config: Mapping[str, Any]) -> float:
    seconds = config.get("setup_timeout_seconds", DEFAULT_SETUP_TIMEOUT_S)
    return max(0.0, float(seconds))


def requirements(tool: str, options_key: str, value: Any) -> Requirements | None:
    """Return the requirements that a user wrote as a list, a file or a dict; None for an empty list.

    Local files among them get absolute paths and are named by their content.
    """
    details = value if isinstance(value, Mapping) else {"packages": value}
    wanted = details["packages"]
    base = Path.cwd()
    if isinstance(wanted, str | Path):
        base = Path(wanted).resolve().parent
        lines = read_requirements(Path(wanted))
    else:
        lines = [str(line) for line in wanted]
    files: dict[str, str] = {}
    packages = [_absolute(line.strip(), base, files) for line in lines if line.strip()]
    if not packages:
        return None
    return Requirements(
        tuple(packages),
        tuple(details.get(options_key) or ()),
        bool(details.get(f"{tool}_check")),
        details.get(f"{tool}_version") or "",
        files,
    )


def read_requirements(path: Path) -> list[str]:
    """Return the lines of a requirements file, with those of the files that it includes in their place."""
    lines: list[str] = []
    for line in path.read_text().splitlines():
        flag, _, included = line.strip().replace("=", " ", 1).partition(" ")
        if flag in ("-r", "--requirement"):
            lines += read_requirements(path.parent / included.strip())
        elif not line.strip().startswith("#"):
            lines.append(line)
    return lines


def _absolute(line: str, base: Path, files: dict[str, str]) -> str:
    path = base / line
    try:
        is_file = path.is_file()
        is_folder = "/" in line and path.is_dir()
    except (OSError, ValueError):
        return line  # not a path at all
    if is_file:
        files[str(path)] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    return str(path) if is_file or is_folder else line
