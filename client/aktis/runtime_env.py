"""Runtime environments as values: what `aktis.init`, tasks and actors take as ``runtime_env``."""

import json
from collections.abc import Mapping
from typing import Any

from aktis._common.environments import DEFAULT_SETUP_TIMEOUT_S, Environment, Requirements
from aktis._runtime.environments.check import NO_TIMEOUT, check_runtime_env

__all__ = ["RuntimeEnv", "RuntimeEnvConfig"]


class RuntimeEnvConfig(dict[str, Any]):
    """How an environment is set up; a dict with the keys that were given.

    Example:
        >>> from aktis.runtime_env import RuntimeEnvConfig
        >>> RuntimeEnvConfig(setup_timeout_seconds=30)
        {'setup_timeout_seconds': 30, 'eager_install': True}
    """

    def __init__(
        self,
        setup_timeout_seconds: int = int(DEFAULT_SETUP_TIMEOUT_S),
        eager_install: bool = True,
        log_files: list[str] | None = None,
    ) -> None:
        """Describe the set-up.

        Args:
            setup_timeout_seconds: After which a set-up fails; -1: never.
            eager_install: Begin with `aktis.init`, not with the first task.
            log_files: Accepted for compatibility.

        Raises:
            TypeError, ValueError: an argument is not valid.
        """
        super().__init__(setup_timeout_seconds=setup_timeout_seconds, eager_install=eager_install)
        if log_files is not None:
            self["log_files"] = log_files
        check_runtime_env("runtime_env", {"config": self})

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)


class RuntimeEnv(dict[str, Any]):
    """A checked runtime environment; a dict with the keys that were given.

    Example:
        >>> from aktis.runtime_env import RuntimeEnv
        >>> RuntimeEnv(env_vars={"COLOUR": "blue"})
        {'env_vars': {'COLOUR': 'blue'}}
    """

    def __init__(
        self,
        *,
        env_vars: Mapping[str, str] | None = None,
        working_dir: Any = None,
        py_modules: list[Any] | None = None,
        excludes: list[str] | None = None,
        pip: Any = None,
        uv: Any = None,
        py_executable: str | None = None,
        worker_process_setup_hook: Any = None,
        config: Mapping[str, Any] | None = None,
        _validate: bool = True,
        **others: Any,
    ) -> None:
        """Describe an environment; the keys are explained in docs/runtime_env.md.

        Raises:
            TypeError, ValueError: a key is unknown or its value is not valid.
        """
        given = {
            "env_vars": env_vars,
            "working_dir": working_dir,
            "py_modules": py_modules,
            "excludes": excludes,
            "pip": pip,
            "uv": uv,
            "py_executable": py_executable,
            "worker_process_setup_hook": worker_process_setup_hook,
            "config": config,
            **others,
        }
        super().__init__({key: value for key, value in given.items() if value is not None})
        if _validate:
            check_runtime_env("runtime_env", self)

    def set(self, name: str, value: Any) -> None:
        """Set one key, or take it out with None; the environment is checked as a whole.

        Raises:
            TypeError, ValueError: as the constructor; the environment stays as it is.
        """
        changed = {key: one for key, one in {**self, name: value}.items() if one is not None}
        check_runtime_env("runtime_env", changed)
        self.clear()
        self.update(changed)

    def to_dict(self) -> dict[str, Any]:
        """Return a plain dict."""
        return dict(self)

    def serialize(self) -> str:
        """Return the environment as JSON; a hook that is a function cannot be in it.

        Raises:
            TypeError: a value has no form in JSON.
        """
        return json.dumps(self, sort_keys=True)

    @classmethod
    def deserialize(cls, serialized_runtime_env: str) -> "RuntimeEnv":
        """Read what `serialize` made."""
        return cls(_validate=False, **json.loads(serialized_runtime_env))


def from_environment(environment: Environment) -> RuntimeEnv:
    """Return what a process runs in, in the form in which it could be asked for again."""
    config = {}
    if environment.setup_timeout_s != DEFAULT_SETUP_TIMEOUT_S:
        config["setup_timeout_seconds"] = int(environment.setup_timeout_s) or NO_TIMEOUT
    return RuntimeEnv(
        env_vars=dict(environment.env_vars) or None,
        working_dir=environment.working_dir or None,
        py_modules=list(environment.py_modules) or None,
        pip=_requirements("pip", "pip_install_options", environment.pip),
        uv=_requirements("uv", "uv_pip_install_options", environment.uv),
        py_executable=environment.py_executable or None,
        worker_process_setup_hook=environment.hook or None,
        config=config or None,
        _validate=False,
    )


def _requirements(tool: str, options_key: str, wanted: Requirements | None) -> dict[str, Any] | None:
    if wanted is None:
        return None
    found: dict[str, Any] = {"packages": list(wanted.packages), f"{tool}_check": wanted.check}
    if wanted.version:
        found[f"{tool}_version"] = wanted.version
    if wanted.options:
        found[options_key] = list(wanted.options)
    return found
