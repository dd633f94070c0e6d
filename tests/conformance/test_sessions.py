"""init and shutdown; each test has a session of its own, so there are few."""

import os
from pathlib import Path
from typing import Any

import pytest
import ray

from tests.conformance.systems import running_cluster

DEADLINE_S = 60


def test_a_session_and_its_end() -> None:
    assert not ray.is_initialized()
    with running_cluster(num_cpus=1) as context:
        assert ray.is_initialized()
        with pytest.raises(RuntimeError):
            ray.init()
        again = ray.init(ignore_reinit_error=True)
        assert again["node_id"] == context["node_id"]
        ref = ray.put(1)
        assert ray.get(ref) == 1
        namespace = ray.get_runtime_context().namespace
        assert namespace
        del ref
    assert not ray.is_initialized()
    ray.shutdown()


@pytest.mark.differs("sessions-end")
def test_an_old_reference_starts_no_session() -> None:
    with running_cluster(num_cpus=1):
        ref = ray.put(1)
    try:
        with pytest.raises(ValueError, match="session"):
            ray.get(ref)
        assert not ray.is_initialized()
    finally:
        ray.shutdown()


def test_functions_and_classes_go_on_in_another_session() -> None:
    @ray.remote
    def f() -> int:
        return 1

    @ray.remote
    class A:
        def m(self) -> int:
            return 2

    for _ in range(2):
        with running_cluster(num_cpus=1):
            assert ray.get(f.remote()) == 1
            assert ray.get(A.remote().m.remote()) == 2


def test_the_context_manager_ends_the_session() -> None:
    with running_cluster(num_cpus=1) as context:
        with context:
            assert ray.get(ray.put(1)) == 1
        assert not ray.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"no_such_argument": 1}, (TypeError, RuntimeError)),
        ({"address": 1}, (TypeError, ValueError, AttributeError)),
        ({"namespace": 1}, (TypeError, ValueError)),
        ({"namespace": ""}, ValueError),
        ({"runtime_env": {"env_vars": {"A": 1}}}, TypeError),
        ({"runtime_env": 1}, (TypeError, AttributeError)),
    ],
    ids=str,
)
def test_wrong_arguments(arguments: dict[str, Any], error: Any) -> None:
    with pytest.raises(error):
        ray.init(**{"address": "local", "num_cpus": 1, **arguments})
    assert not ray.is_initialized()


def test_files_and_a_hook_for_the_whole_job(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("here")
    (tmp_path / "left_out.txt").write_text("not here")
    package = tmp_path / "sent_along"
    package.mkdir()
    (package / "__init__.py").write_text("VALUE = 7\n")

    def hook() -> None:
        os.environ["FROM_THE_HOOK"] = "set"

    @ray.remote(num_cpus=0)
    def look() -> Any:
        import os
        from pathlib import Path

        import sent_along  # type: ignore[import-not-found]

        hooked = os.environ["FROM_THE_HOOK"]
        return Path("data.txt").read_text(), sent_along.VALUE, Path("left_out.txt").exists(), hooked

    env = {
        "working_dir": str(tmp_path),
        "excludes": ["left_out.txt"],
        "py_modules": [str(package)],
        "worker_process_setup_hook": hook,
    }
    with running_cluster(num_cpus=1, runtime_env=env):
        assert ray.get(look.remote(), timeout=DEADLINE_S) == ("here", 7, False, "set")
