"""From what is written to what is asked for: merging, publishing, requirements."""

from pathlib import Path
from typing import Any

import pytest
from aktis._common.environments import Environment, Requirements, Use, read_use
from aktis._runtime.environments.store import EnvironmentStore, merge, read_requirements, requirements
from aktis.exceptions import RuntimeEnvSetupError
from aktis.runtime_env import from_environment

PARENT = Environment(
    env_vars={"A": "1", "B": "2"}, working_dir="package://d", pip=Requirements(("numpy",)), hook="a.b"
)


class FakeControl:
    """A cluster's key-value store, and what the raylet is told."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.puts = 0
        self.told: list[str] = []

    def kv_get(self, namespace: str, key: bytes) -> bytes | None:
        return self.values.get(key)

    def kv_put(self, namespace: str, key: bytes, value: bytes, **_: Any) -> None:
        self.puts += 1
        self.values[key] = value

    def notify(self, want_environment: Any) -> None:
        self.told.append(want_environment.runtime_env_hash)


class FakeFunctions:
    """Exports whatever it is given."""

    def export(self, exported: Any, what: str) -> bytes:
        return b"\1" * 16


def make(control: FakeControl) -> EnvironmentStore:
    fake: Any = control
    functions: Any = FakeFunctions()
    return EnvironmentStore(fake, functions)


def test_a_child_overrides_key_by_key_and_variables_are_merged() -> None:
    child = merge(PARENT, {"env_vars": {"B": "3", "C": "4"}, "hook": ""})
    assert child.env_vars == {"A": "1", "B": "3", "C": "4"}
    assert (child.working_dir, child.pip, child.hook) == (PARENT.working_dir, PARENT.pip, "")


def test_what_is_needed_is_said_before_it_is_described() -> None:
    control, job_id = FakeControl(), b"\0\0\0\5"
    fake: Any = control
    functions: Any = FakeFunctions()
    store = EnvironmentStore(fake, functions, lambda: job_id)
    wanted = {"working_dir": "archive://01", "py_modules": ["package://02", "https://host/03.zip"]}
    name = store.resolve(wanted)
    uses = [use for use in map(read_use, control.values) if use is not None]
    assert set(uses) == {Use(name, job_id=job_id), Use(name, package="01"), Use(name, package="02")}
    assert list(control.values)[-1] == name.encode()
    store.resolve(wanted)
    assert control.puts == 4, "once"
    job_id = b"\0\0\0\6"
    store.resolve(wanted)
    assert Use(name, job_id=job_id).key in control.values, "a process may work for another job later"


def test_another_interpreter_replaces_the_parents() -> None:
    assert merge(PARENT, {"py_executable": "python"}).pip is None
    assert merge(PARENT, {"uv": Requirements(("a",))}).pip is None
    assert merge(PARENT, {"pip": Requirements(("a",))}).pip == Requirements(("a",))


def test_who_asks_for_nothing_gets_what_its_starter_has() -> None:
    control = FakeControl()
    assert make(control).resolve(None) == ""
    assert make(control).resolve({"config": {"setup_timeout_seconds": 3}}) == ""
    driver = make(control)
    driver.begin({"env_vars": {"A": "1"}})
    name = driver.resolve(None)
    assert name == driver.resolve({"env_vars": {"A": "1"}}) != ""
    worker = make(control)
    assert worker.take_on(name).env_vars == {"A": "1"}
    assert worker.resolve(None) == name
    nested = worker.resolve({"env_vars": {"B": "2"}})
    assert make(control).take_on(nested).env_vars == {"A": "1", "B": "2"}


def test_a_description_is_published_once() -> None:
    control = FakeControl()
    store = make(control)
    for _ in range(3):
        store.resolve({"env_vars": {"A": "1"}})
    assert control.puts == 2


def test_only_what_takes_time_is_set_up_ahead() -> None:
    control = FakeControl()
    make(control).begin({"env_vars": {"A": "1"}})
    make(control).begin({"py_executable": "python", "config": {"eager_install": False}})
    assert control.told == []
    store = make(control)
    store.begin({"py_executable": "python"})
    assert control.told == [store.resolve(None)]


def test_an_unknown_environment_is_an_error() -> None:
    with pytest.raises(RuntimeEnvSetupError, match="does not have the runtime environment"):
        make(FakeControl()).take_on("0" * 32)


def test_hooks_and_timeouts() -> None:
    control = FakeControl()
    store = make(control)
    store.begin({"worker_process_setup_hook": print, "config": {"setup_timeout_seconds": -1}})
    assert store.own.hook == "function:" + "01" * 16
    assert store.own.setup_timeout_s == 0.0
    assert from_environment(store.own) == {
        "worker_process_setup_hook": store.own.hook,
        "config": {"setup_timeout_seconds": -1},
    }


def test_what_is_inherited_can_be_asked_for_again() -> None:
    control = FakeControl()
    store = make(control)
    store.begin({"env_vars": {"A": "1"}, "pip": ["numpy"], "working_dir": "https://example.org/a.zip"})
    again = make(control)
    again.begin(from_environment(store.own))
    assert again.own == store.own


def test_requirements_as_list_dict_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert requirements("pip", "pip_install_options", []) is None
    assert requirements("pip", "pip_install_options", ["a", " b "]) == Requirements(("a", "b"))
    details = {"packages": ["a"], "pip_check": True, "pip_version": "==1", "pip_install_options": ["-v"]}
    assert requirements("pip", "pip_install_options", details) == Requirements(("a",), ("-v",), True, "==1")
    (tmp_path / "more.txt").write_text("c\n")
    (tmp_path / "requirements.txt").write_text("# comment\na==1\n-r more.txt\n\n--index-url https://i\n")
    assert read_requirements(Path("requirements.txt")) == ["a==1", "c", "", "--index-url https://i"]
    found = requirements("uv", "uv_pip_install_options", "requirements.txt")
    assert found == Requirements(("a==1", "c", "--index-url https://i"))


def test_local_files_among_requirements_are_named_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.whl").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    first = requirements("pip", "x", ["p.whl", "./folder", "folder"])
    assert first is not None
    assert first.packages == (f"{tmp_path}/p.whl", f"{tmp_path}/folder", "folder")
    (tmp_path / "p.whl").write_bytes(b"2")
    second = requirements("pip", "x", ["p.whl"])
    assert second is not None
    assert second.files.keys() == first.files.keys()
    assert second.files != first.files
