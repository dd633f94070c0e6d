"""What a runtime environment may hold."""

from pathlib import Path
from typing import Any

import pytest
from aktis._runtime.environments.check import check_runtime_env
from aktis.runtime_env import RuntimeEnv, RuntimeEnvConfig


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"env_vars": {"A": "1"}, "working_dir": None},
        {"working_dir": "/tmp"},
        {"working_dir": Path("/tmp")},
        {"working_dir": "https://example.org/a.zip"},
        {"working_dir": "package://0123"},
        {"py_modules": [pytest, "/tmp", "s3://bucket/a.whl"]},
        {"excludes": ["*.pyc"]},
        {"pip": ["numpy"]},
        {"pip": {"packages": ["numpy"], "pip_check": True, "pip_version": "==24", "pip_install_options": []}},
        {"uv": {"packages": ["numpy"], "uv_check": False, "uv_version": "==0.5"}},
        {"py_executable": "python -O"},
        {"worker_process_setup_hook": print},
        {"worker_process_setup_hook": "module.function"},
        {"config": {"setup_timeout_seconds": -1, "eager_install": False}},
        {"config": RuntimeEnvConfig(30)},
        {"conda": None},
    ],
)
def test_accepted(value: dict[str, Any]) -> None:
    check_runtime_env("runtime_env", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"foo": 1}, "unknown key 'foo'; valid ones: .*working_dir"),
        ({"conda": "x"}, "'conda' is not supported; use 'pip' or 'uv'"),
        ({"working_dir": "/no/such/folder"}, r"\['working_dir'\]: '/no/such/folder' is not a directory"),
        ({"working_dir": "https://example.org/a.tar"}, r"must end in \.zip"),
        ({"py_modules": ["/no/such"]}, "does not exist"),
        ({"py_modules": ["/etc/passwd"]}, r"not a directory, a \.py, \.zip or \.whl file"),
        ({"pip": "/no/requirements.txt"}, "no requirements file '/no/requirements.txt'"),
        ({"pip": {"pip_check": True}}, "must have the key 'packages'"),
        ({"pip": {"packages": [], "check": True}}, "unknown key 'check'"),
        ({"pip": ["a"], "uv": ["b"]}, "'pip' and 'uv' both say"),
        ({"uv": ["a"], "py_executable": "python"}, "'uv' and 'py_executable' both say"),
        ({"py_executable": " "}, "must not be empty"),
        ({"worker_process_setup_hook": "function"}, "must be 'module.function'"),
        ({"config": {"setup_timeout_seconds": 0}}, "greater than 0, or -1"),
        ({"config": {"timeout": 1}}, "unknown key 'timeout'"),
    ],
)
def test_a_bad_value(value: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_runtime_env("runtime_env", value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "option 'runtime_env' must be a dict"),
        ({"env_vars": 3}, r"\['env_vars'\] must be a dict"),
        ({"env_vars": {"A": 1}}, "map str to str, got 'A': 1"),
        ({"working_dir": 3}, "a path or a URI"),
        ({"py_modules": "/tmp"}, "a list of paths"),
        ({"py_modules": [3]}, "a path, a URI or a module"),
        ({"excludes": "*.pyc"}, "a list of str"),
        ({"pip": 3}, "a list of requirements"),
        ({"pip": [3]}, "a list of requirements"),
        ({"py_executable": 3}, "a str"),
        ({"worker_process_setup_hook": 3}, "a function"),
        ({"config": 3}, "a dict"),
        ({"config": {"setup_timeout_seconds": "5"}}, "an int"),
        ({"config": {"eager_install": 1}}, "True or False"),
    ],
)
def test_a_wrong_type(value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        check_runtime_env("runtime_env", value)


def test_the_class_is_a_checked_dict() -> None:
    environment = RuntimeEnv(pip=["numpy"], env_vars={"A": "1"}, conda=None)
    assert environment == {"pip": ["numpy"], "env_vars": {"A": "1"}}
    assert RuntimeEnv.deserialize(environment.serialize()) == environment
    assert type(environment.to_dict()) is dict
    with pytest.raises(ValueError, match="unknown key 'foo'"):
        RuntimeEnv(foo=1)
    with pytest.raises(TypeError):
        RuntimeEnv(env_vars=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="greater than 0"):
        RuntimeEnvConfig(setup_timeout_seconds=0)
