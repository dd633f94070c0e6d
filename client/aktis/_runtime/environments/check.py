"""What a runtime environment may hold, as its user writes it: one check per key.

Wrong types are TypeErrors, bad values and unknown keys ValueErrors; each names the key.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

Check = Callable[[str, Any], None]

NOT_SUPPORTED: Final = frozenset(
    {"conda", "container", "image_uri", "nsight", "rocprof_sys", "java_jars", "mpi", "docker"}
)
INSTALLERS: Final = ("pip", "uv")
NO_TIMEOUT: Final = -1


def is_uri(text: str) -> bool:
    """Whether it names something elsewhere."""
    return "://" in text


def _type_error(name: str, expected: str, value: Any) -> TypeError:
    return TypeError(f"{name} must be {expected}, got {type(value).__name__} {value!r:.200}")


def _env_vars(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _type_error(name, "a dict of str by str", value)
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise TypeError(f"{name} must map str to str, got {key!r}: {item!r}")


def _archive_uri(name: str, value: str, suffixes: tuple[str, ...]) -> None:
    if not value.startswith(("package://", "archive://")) and not value.endswith(suffixes):
        raise ValueError(f"{name}: a URI must end in {' or '.join(suffixes)}, got {value!r}")


def _working_dir(name: str, value: Any) -> None:
    if not isinstance(value, str | Path):
        raise _type_error(name, "a path or a URI", value)
    text = os.fspath(value)
    if is_uri(text):
        _archive_uri(name, text, (".zip",))
    elif not (os.path.isdir(text) or (text.endswith(".zip") and os.path.isfile(text))):
        raise ValueError(f"{name}: {text!r} is not a directory and not a .zip file")


def _py_modules(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple):
        raise _type_error(name, "a list of paths, URIs or modules", value)
    for item in value:
        if isinstance(item, ModuleType):
            continue
        if not isinstance(item, str | Path):
            raise _type_error(f"{name} item", "a path, a URI or a module", item)
        text = os.fspath(item)
        if is_uri(text):
            _archive_uri(name, text, (".zip", ".whl"))
        elif not os.path.exists(text):
            raise ValueError(f"{name}: {text!r} does not exist")
        elif not (os.path.isdir(text) or text.endswith((".py", ".zip", ".whl"))):
            raise ValueError(f"{name}: {text!r} is not a directory, a .py, .zip or .whl file")


def _texts(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _type_error(name, "a list of str", value)


def _requirements(tool: str, options_key: str) -> Check:
    checks: dict[str, Check] = {
        "packages": _packages,
        f"{tool}_check": _boolean,
        f"{tool}_version": _text,
        options_key: _texts,
    }

    def check(name: str, value: Any) -> None:
        if not isinstance(value, Mapping):
            _packages(name, value)
            return
        if "packages" not in value:
            raise ValueError(f"{name} must have the key 'packages', got {sorted(value)}")
        _each(name, value, checks)

    return check


def _packages(name: str, value: Any) -> None:
    if isinstance(value, str | Path):
        if not os.path.isfile(value):
            raise ValueError(f"{name}: there is no requirements file {os.fspath(value)!r}")
    elif not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise _type_error(name, "a list of requirements or the path of a requirements file", value)


def _boolean(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise _type_error(name, "True or False", value)


def _text(name: str, value: Any) -> None:
    if not isinstance(value, str):
        raise _type_error(name, "a str", value)
    if not value.strip():
        raise ValueError(f"{name} must not be empty")


def _hook(name: str, value: Any) -> None:
    if not isinstance(value, str):
        if not callable(value):
            raise _type_error(name, "a function or 'module.function'", value)
    elif not value.rpartition(".")[0]:
        raise ValueError(f"{name} must be 'module.function', got {value!r}")


def _timeout(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise _type_error(name, "an int", value)
    if value <= 0 and value != NO_TIMEOUT:
        raise ValueError(f"{name} must be greater than 0, or -1 for no limit, got {value}")


def _config(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise _type_error(name, "a dict", value)
    _each(name, value, {"setup_timeout_seconds": _timeout, "eager_install": _boolean, "log_files": _texts})


def _each(name: str, values: Mapping[str, Any], checks: Mapping[str, Check]) -> None:
    for key, value in values.items():
        check = checks.get(key)
        if check is None:
            raise ValueError(f"{name}: unknown key {key!r}; valid ones: {sorted(checks)}")
        if value is not None:
            check(f"{name}[{key!r}]", value)


KEYS: Final[Mapping[str, Check]] = {
    "env_vars": _env_vars,
    "working_dir": _working_dir,
    "py_modules": _py_modules,
    "excludes": _texts,
    "pip": _requirements("pip", "pip_install_options"),
    "uv": _requirements("uv", "uv_pip_install_options"),
    "py_executable": _text,
    "worker_process_setup_hook": _hook,
    "config": _config,
}


def check_runtime_env(name: str, value: Any) -> None:
    """Accept what a runtime environment may hold.

    Raises:
        TypeError: a value of the wrong type.
        ValueError: an unknown key, a value that is not valid, or two that contradict each other.
    """
    if not isinstance(value, Mapping):
        raise _type_error(f"option {name!r}", "a dict", value)
    for key in value:
        if key in NOT_SUPPORTED and value[key] is not None:
            raise ValueError(
                f"option {name!r}: {key!r} is not supported; use 'pip' or 'uv' for Python packages, "
                "or run workers by 'py_executable'"
            )
    known = {key: item for key, item in value.items() if key not in NOT_SUPPORTED}
    _each(f"option {name!r}", known, KEYS)
    given = [key for key in (*INSTALLERS, "py_executable") if value.get(key)]
    if len(given) > 1:
        raise ValueError(
            f"option {name!r}: {given[0]!r} and {given[1]!r} both say which interpreter runs workers: "
            "give only one of them"
        )
