"""Runtime environments, as far as they need no network."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.runtime_env import RuntimeEnv, RuntimeEnvConfig

from tests.conformance.systems import running_cluster

DEADLINE_S = 60


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with running_cluster(runtime_env={"env_vars": {"OF_THE_JOB": "job", "BOTH": "job"}}):
        yield


@ray.remote(num_cpus=0)
def environment(*names: str) -> Any:
    return tuple(os.environ.get(name) for name in names)


@ray.remote(num_cpus=0)
class Reads:
    def environment(self, *names: str) -> Any:
        return tuple(os.environ.get(name) for name in names)


def test_variables_of_the_job_and_of_a_task() -> None:
    assert ray.get(environment.remote("OF_THE_JOB")) == ("job",)
    task = environment.options(runtime_env={"env_vars": {"BOTH": "task", "OWN": "task"}})
    assert ray.get(task.remote("OF_THE_JOB", "BOTH", "OWN")) == ("job", "task", "task")
    assert ray.get(environment.remote("BOTH", "OWN")) == ("job", None)


def test_variables_of_an_actor() -> None:
    reads = Reads.options(runtime_env={"env_vars": {"OWN": "actor"}}).remote()
    assert ray.get(reads.environment.remote("OF_THE_JOB", "OWN")) == ("job", "actor")


def test_children_inherit() -> None:
    @ray.remote(num_cpus=0)
    def parent() -> Any:
        own = {"env_vars": {"CHILD": "child"}}
        return ray.get(environment.options(runtime_env=own).remote("PARENT", "CHILD"))

    env = {"env_vars": {"PARENT": "parent"}}
    assert ray.get(parent.options(runtime_env=env).remote()) == ("parent", "child")


def test_variables_may_refer_to_others() -> None:
    env = {"env_vars": {"PATH": "/first:${PATH}"}}
    (path,) = ray.get(environment.options(runtime_env=env).remote("PATH"))
    assert path.startswith("/first:/")


@pytest.mark.differs("environments-of-one-task")
def test_working_dir(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("here")
    (tmp_path / "in_the_working_dir.py").write_text("VALUE = 5\n")
    (tmp_path / "left_out.txt").write_text("not here")

    @ray.remote(num_cpus=0)
    def look() -> Any:
        import in_the_working_dir  # type: ignore[import-not-found]

        return Path("data.txt").read_text(), in_the_working_dir.VALUE, Path("left_out.txt").exists()

    env = {"working_dir": str(tmp_path), "excludes": ["left_out.txt"]}
    assert ray.get(look.options(runtime_env=env).remote(), timeout=DEADLINE_S) == ("here", 5, False)


@pytest.mark.differs("environments-of-one-task")
def test_py_modules(tmp_path: Path) -> None:
    package = tmp_path / "sent_along"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 7\n")

    @ray.remote(num_cpus=0)
    def look() -> Any:
        import sent_along  # type: ignore[import-not-found]

        return sent_along.VALUE

    env = {"py_modules": [str(package)]}
    assert ray.get(look.options(runtime_env=env).remote(), timeout=DEADLINE_S) == 7


def set_up() -> None:
    os.environ["FROM_THE_HOOK"] = "set"


@pytest.mark.differs("environments-of-one-task")
def test_a_setup_hook() -> None:
    hook = f"{__name__}.set_up"
    task = environment.options(runtime_env={"worker_process_setup_hook": hook})
    assert ray.get(task.remote("FROM_THE_HOOK"), timeout=DEADLINE_S) == ("set",)


def test_an_interpreter_of_its_own(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\nWRAPPED=yes exec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    task = environment.options(runtime_env={"py_executable": str(wrapper)})
    assert ray.get(task.remote("WRAPPED"), timeout=DEADLINE_S) == ("yes",)


def test_a_set_up_that_fails() -> None:
    task = environment.options(runtime_env={"working_dir": "file:///no/such/package.zip"})
    with pytest.raises(ray.exceptions.RuntimeEnvSetupError):
        ray.get(task.remote(), timeout=DEADLINE_S)


def test_the_context_tells() -> None:
    @ray.remote(num_cpus=0)
    def own() -> Any:
        return dict(ray.get_runtime_context().runtime_env)

    env = {"env_vars": {"OWN": "task"}}
    assert ray.get(own.options(runtime_env=env).remote())["env_vars"]["OWN"] == "task"


def test_values() -> None:
    env = RuntimeEnv(env_vars={"A": "1"}, config=RuntimeEnvConfig(setup_timeout_seconds=30))
    assert isinstance(env, dict)
    assert env["env_vars"] == {"A": "1"}
    assert env["config"]["setup_timeout_seconds"] == 30
    assert env.to_dict()["env_vars"] == {"A": "1"}
    assert RuntimeEnv.deserialize(env.serialize()) == env
    assert ray.get(environment.options(runtime_env=env).remote("A")) == ("1",)
    env.set("env_vars", {"A": "2"})
    assert env.get("env_vars") == {"A": "2"}


@pytest.mark.parametrize(
    ("env", "error"),
    [
        ({"env_vars": {"A": 1}}, TypeError),
        ({"env_vars": ["A"]}, TypeError),
        ({"working_dir": 1}, TypeError),
        ({"py_modules": "module"}, TypeError),
        ({"pip": 1}, TypeError),
        ({"pip": ["a"], "uv": ["a"]}, ValueError),
        ({"config": {"setup_timeout_seconds": 0}}, ValueError),
        ({"working_dir": "/no/such/folder"}, ValueError),
    ],
    ids=str,
)
def test_wrong_values(env: dict[str, Any], error: type[Exception]) -> None:
    def use() -> None:
        ray.get(environment.options(runtime_env=RuntimeEnv(**env)).remote())

    with pytest.raises(error):
        use()
