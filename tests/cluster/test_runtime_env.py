"""Runtime environments on a real cluster: files, modules, packages, variables, hooks, failures."""

import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aktis
import pytest
from aktis.exceptions import RuntimeEnvSetupError
from aktis.runtime_env import RuntimeEnv

import tests.support
from tests.support.clients import embedded, run_program
from tests.support.sandbox import Sandbox
from tests.support.wheels import make_wheel

pytestmark = pytest.mark.xdist_group("runtime_env")

READY_S = 60.0


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with embedded(num_cpus=2):
        yield


def folder(root: Path, **files: str) -> str:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return str(root)


def call(function: Any, *args: Any, **runtime_env: Any) -> Any:
    """Run a function as a task in an environment."""
    return aktis.get(aktis.remote(runtime_env=runtime_env)(function).remote(*args), timeout=READY_S)


def read(name: str) -> str:
    return Path(name).read_text()


def value_of(module: str) -> Any:
    import importlib

    return importlib.import_module(module).VALUE


def variable(name: str) -> str | None:
    return os.environ.get(name)


def test_files_and_modules_of_the_working_directory(tmp_path: Path) -> None:
    where = folder(tmp_path / "dir", data__txt="hello", here__py="VALUE = 1", gone__tmp="")

    def look() -> Any:
        return sorted(os.listdir()), read("data.txt"), value_of("here"), os.getcwd() in sys.path

    files = ["data.txt", "here.py"]
    assert call(look, working_dir=where, excludes=["*.tmp"]) == (files, "hello", 1, True)
    with pytest.raises(ModuleNotFoundError):
        call(value_of, "here")


def test_subprocesses_see_the_modules_too(tmp_path: Path) -> None:
    where = folder(tmp_path / "dir", here__py="VALUE = 2")

    def run() -> str:
        import subprocess

        command = [sys.executable, "-c", "import here; print(here.VALUE)"]
        return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout

    assert call(run, working_dir=where) == "2\n"


def test_a_zip_file_is_a_working_directory_without_its_top_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr("project-main/data.txt", "zipped")
    assert call(read, "data.txt", working_dir=str(tmp_path / "code.zip")) == "zipped"
    assert call(read, "data.txt", working_dir=(tmp_path / "code.zip").as_uri()) == "zipped"


def test_environments_side_by_side_do_not_see_each_other(tmp_path: Path) -> None:
    one = folder(tmp_path / "1", same__py="VALUE = 'one'")
    two = folder(tmp_path / "2", same__py="VALUE = 'two'")

    def look() -> tuple[str, int]:
        return value_of("same"), os.getpid()

    task = aktis.remote(look)
    refs = [
        task.options(runtime_env={"working_dir": where}).remote() for _ in range(5) for where in (one, two)
    ]
    found = aktis.get(refs, timeout=READY_S)
    assert [value for value, _ in found] == ["one", "two"] * 5
    pids = [{pid for value, pid in found if value == wanted} for wanted in ("one", "two")]
    assert not pids[0] & pids[1]


def test_a_worker_is_used_again_in_its_environment_only() -> None:
    first = {call(os.getpid, env_vars={"AKTIS_TEST_COLOUR": "blue"}) for _ in range(3)}
    assert len(first) == 1
    assert call(os.getpid, env_vars={"AKTIS_TEST_COLOUR": "red"}) not in first
    assert call(os.getpid) not in first
    assert {call(os.getpid, env_vars={"AKTIS_TEST_COLOUR": "blue"})} == first


def test_modules_by_folder_file_object_and_wheel(tmp_path: Path) -> None:
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "__init__.py").write_text("VALUE = 'package'")
    (tmp_path / "mymodule.py").write_text("VALUE = 'module'")
    wheel = make_wheel(tmp_path, "mywheel", "1.0", "VALUE = 'wheel'")
    modules = [str(tmp_path / "mypackage"), str(tmp_path / "mymodule.py"), str(wheel)]

    def look() -> list[Any]:
        return [value_of(name) for name in ("mypackage", "mymodule", "mywheel")]

    assert call(look, py_modules=modules) == ["package", "module", "wheel"]
    where = call(lambda: __import__("support").__file__, py_modules=[tests.support])
    assert "/environments/module-" in where


def test_variables_are_there_before_code_is_loaded(tmp_path: Path) -> None:
    source = "import os\nVALUE = os.environ.get('AKTIS_TEST_EARLY')"
    where = folder(tmp_path / "dir", early__py=source)
    variables = {"AKTIS_TEST_EARLY": "yes", "PATH": f"{tmp_path}:${{PATH}}"}
    assert call(value_of, "early", working_dir=where, env_vars=variables) == "yes"
    path = call(variable, "PATH", env_vars=variables)
    assert path is not None
    assert path.split(":")[0] == str(tmp_path)
    assert path.count(str(tmp_path)) == 1

    class Early:
        def __init__(self) -> None:
            self.value = value_of("early")

        def get(self) -> Any:
            return self.value, os.environ["PATH"].count(str(tmp_path))

    actor = aktis.remote(runtime_env={"working_dir": where, "env_vars": variables})(Early).remote()
    assert aktis.get(actor.get.remote(), timeout=READY_S) == ("yes", 1)


def test_variables_that_libraries_read_when_they_are_loaded() -> None:
    def threads() -> tuple[str | None, int]:
        return os.environ.get("OMP_NUM_THREADS"), os.getppid()

    default, parent = call(threads)
    own, other_parent = call(threads, env_vars={"OMP_NUM_THREADS": "3"})
    assert (default, own) == ("1", "3")
    assert parent != other_parent, "it needs a template of its own"


def test_children_inherit_and_override(tmp_path: Path) -> None:
    where = folder(tmp_path / "dir", data__txt="inherited")

    def inner() -> Any:
        context = aktis.get_runtime_context()
        return read("data.txt"), variable("A"), variable("B"), dict(context.runtime_env)

    def outer() -> Any:
        task = aktis.remote(inner)
        return aktis.get([task.remote(), task.options(runtime_env={"env_vars": {"B": "3"}}).remote()])

    environment = {"working_dir": where, "env_vars": {"A": "1", "B": "2"}}
    plain, overridden = call(outer, **environment)
    assert plain[:3] == ("inherited", "1", "2")
    assert overridden[:3] == ("inherited", "1", "3")
    assert plain[3]["env_vars"] == {"A": "1", "B": "2"}
    assert plain[3]["working_dir"].startswith("package://")


def test_the_hook_runs_once_per_process_before_anything_else() -> None:
    def hook() -> None:
        os.environ["AKTIS_TEST_HOOK"] = os.environ.get("AKTIS_TEST_HOOK", "") + os.environ["AKTIS_TEST_X"]

    environment = {"worker_process_setup_hook": hook, "env_vars": {"AKTIS_TEST_X": "x"}}
    for _ in range(3):
        assert call(variable, "AKTIS_TEST_HOOK", **environment) == "x"

    class Asks:
        def ask(self) -> str | None:
            return variable("AKTIS_TEST_HOOK")

    actor = aktis.remote(runtime_env=environment)(Asks).remote()
    assert aktis.get(actor.ask.remote(), timeout=READY_S) == "x"


def test_a_hook_by_name(tmp_path: Path) -> None:
    source = "import os\ndef setup(): os.environ['AKTIS_TEST_NAMED'] = '1'"
    where = folder(tmp_path / "dir", hooks__py=source)
    assert (
        call(variable, "AKTIS_TEST_NAMED", working_dir=where, worker_process_setup_hook="hooks.setup") == "1"
    )


def test_a_hook_that_raises_fails_tasks_and_actors() -> None:
    def hook() -> None:
        raise ValueError("no way")

    with pytest.raises(RuntimeEnvSetupError, match=r"(?s)hook raised ValueError: no way.*in hook"):
        call(os.getpid, worker_process_setup_hook=hook)

    class Never:
        def call(self) -> None: ...

    actor = aktis.remote(runtime_env={"worker_process_setup_hook": hook}, max_restarts=5)(Never).remote()
    with pytest.raises(RuntimeEnvSetupError, match=r"Actor .*Never.*hook raised ValueError: no way"):
        aktis.get(actor.call.remote(), timeout=READY_S)


def test_pip_installs_and_is_shared_but_not_seen_outside(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "aktis_test_pip", "1.0", "VALUE = 'installed'")

    def look() -> Any:
        import importlib.metadata

        return value_of("aktis_test_pip"), importlib.metadata.version("aktis_test_pip"), sys.prefix

    value, version, prefix = call(look, pip=[str(wheel)])
    assert (value, version) == ("installed", "1.0")
    assert "/environments/venv-" in prefix
    again = call(look, pip={"packages": [str(wheel)]}, env_vars={"A": "1"})
    assert again[2] == prefix, "another environment with the same requirements uses the same installation"
    with pytest.raises(ModuleNotFoundError):
        call(value_of, "aktis_test_pip")


def test_an_installed_package_goes_before_the_nodes(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "click", "999.0", "VALUE = 'newer'")
    (tmp_path / "requirements.txt").write_text(f"{wheel.name}\n")

    class Newer:
        def look(self) -> Any:
            return value_of("click")

    actor = aktis.remote(runtime_env={"pip": str(tmp_path / "requirements.txt")})(Newer).remote()
    assert aktis.get(actor.look.remote(), timeout=READY_S) == "newer"


def test_uv_installs(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "aktis_test_uv", "1.0", "VALUE = 'by uv'")
    assert call(value_of, "aktis_test_uv", uv=[str(wheel)]) == "by uv"


def test_what_cannot_be_installed_fails_quickly_with_the_output_of_the_tool() -> None:
    started = time.monotonic()
    environment = {"pip": ["/no/such/package.whl"]}
    with pytest.raises(RuntimeEnvSetupError, match=r"(?s)could not be set up.*pip.*/no/such/package\.whl"):
        call(os.getpid, **environment)

    class Never:
        def call(self) -> None: ...

    actor = aktis.remote(runtime_env=environment, max_restarts=-1)(Never).remote()
    with pytest.raises(RuntimeEnvSetupError, match=r"(?s)Never.*/no/such/package\.whl"):
        aktis.get(actor.call.remote(), timeout=READY_S)
    assert time.monotonic() - started < 30


def test_a_set_up_has_a_time_limit(tmp_path: Path) -> None:
    script = tmp_path / "sleeper"
    script.write_text("#!/bin/sh\nsleep 1000\n")
    script.chmod(0o755)
    with pytest.raises(RuntimeEnvSetupError, match="did not finish within 1 s"):
        call(os.getpid, py_executable=str(script), config={"setup_timeout_seconds": 1})


def test_another_interpreter_command(tmp_path: Path) -> None:
    assert call(lambda: sys.flags.optimize, py_executable=f"{sys.executable} -O") == 1
    script = f'#!/bin/sh\nexport AKTIS_TEST_WRAPPED=1\n"{sys.executable}" "$@"\n'
    where = folder(tmp_path / "dir", run__sh=script)
    (tmp_path / "dir" / "run.sh").chmod(0o755)
    assert call(variable, "AKTIS_TEST_WRAPPED", working_dir=where, py_executable="./run.sh") == "1"


@pytest.mark.parametrize("command", ["/no/such/python", "/bin/false"])
def test_a_command_that_is_no_interpreter_is_found_out_at_once(command: str) -> None:
    with pytest.raises(RuntimeEnvSetupError, match=command):
        call(os.getpid, py_executable=command)


def test_the_class_works_like_a_dict() -> None:
    environment = RuntimeEnv(env_vars={"AKTIS_TEST_CLASS": "1"})
    task = aktis.remote(runtime_env=environment)(variable)
    assert aktis.get(task.remote("AKTIS_TEST_CLASS"), timeout=READY_S) == "1"


def test_a_folder_that_is_too_large_names_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aktis._runtime.environments import packages

    monkeypatch.setattr(packages.check_size, "__defaults__", (1000,))
    (tmp_path / "model.bin").write_bytes(bytes(2000))
    with pytest.raises(ValueError, match=r"(?s)largest files:.*model\.bin"):
        call(os.getpid, working_dir=str(tmp_path))


PROGRAM = """
import os, sys, aktis
{before}
aktis.init(address="local", num_cpus=1, runtime_env={environment}, _system_config={config})

@aktis.remote
def look(name):
    return open(name).read(), os.environ.get("AKTIS_TEST_JOB")
{after}
"""


def program(environment: dict[str, Any], after: str, before: str = "", **config: Any) -> str:
    return PROGRAM.format(environment=environment, after=after, before=before, config=config)


def test_the_environment_of_a_program(sandbox: Sandbox, tmp_path: Path) -> None:
    environment = {
        "working_dir": folder(tmp_path / "dir", data__txt="of the job"),
        "env_vars": {"AKTIS_TEST_JOB": "1"},
    }
    after = """
assert aktis.get(look.remote("data.txt")) == ("of the job", "1")
assert os.environ.get("AKTIS_TEST_JOB") is None
merged = look.options(runtime_env={"env_vars": {"AKTIS_TEST_JOB": "2"}})
assert aktis.get(merged.remote("data.txt")) == ("of the job", "2")
assert aktis.get_runtime_context().runtime_env["env_vars"] == {"AKTIS_TEST_JOB": "1"}
print(aktis.get_runtime_context().get_runtime_env_string())
"""
    finished = run_program(sandbox, program(environment, after))
    assert finished.returncode == 0, finished.stderr
    assert '"working_dir": "package://' in finished.stdout


def test_programs_written_for_ray(sandbox: Sandbox) -> None:
    source = """
import aktis.compat; aktis.compat.install_as_ray()
import os, ray
from ray.runtime_env import RuntimeEnv, RuntimeEnvConfig
environment = RuntimeEnv(env_vars={"A": "1"}, config=RuntimeEnvConfig(eager_install=False))
ray.init(num_cpus=1, runtime_env=environment)

@ray.remote
def f():
    return os.environ["A"], ray.get_runtime_context().runtime_env

assert ray.get(f.remote()) == ("1", {"env_vars": {"A": "1"}})
"""
    finished = run_program(sandbox, source)
    assert finished.returncode == 0, finished.stderr


def test_the_set_up_begins_with_the_program_and_its_output_is_shown(sandbox: Sandbox, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path, "aktis_test_shown", "1.0", "VALUE = 1")
    after = """
import pathlib, time
where = pathlib.Path(aktis.get_runtime_context().get_temp_dir()) / "state" / "environments"
deadline = time.monotonic() + 40
while not list(where.glob("venv-*.ready")):
    assert time.monotonic() < deadline, list(where.iterdir())
    os.sched_yield()
assert aktis.get(look.options(runtime_env={"env_vars": {"A": "1"}}).remote("/dev/null")) == ("", None)
"""
    finished = run_program(sandbox, program({"pip": [str(wheel)]}, after))
    assert finished.returncode == 0, finished.stderr
    assert "(runtime_env pid=" in finished.stderr
    assert "Successfully installed aktis_test_shown-1.0" in finished.stderr.replace(
        "-test-", "_test_"
    ).replace("aktis-test", "aktis_test")


def test_a_bad_environment_of_a_program_is_refused_before_anything_starts(sandbox: Sandbox) -> None:
    finished = run_program(sandbox, program({"working_dir": "/no/such/folder"}, ""))
    assert "ValueError: option 'runtime_env'['working_dir']: '/no/such/folder'" in finished.stderr
    assert sandbox.sessions == []


def test_what_is_not_used_any_more_ends_and_is_removed(sandbox: Sandbox, tmp_path: Path) -> None:
    """A node with no room for unused packages and no patience with idle templates."""
    folder(tmp_path / "1", data__txt="1")
    folder(tmp_path / "2", data__txt="2")
    after = f"""
import pathlib, time
where = pathlib.Path(aktis.get_runtime_context().get_temp_dir()) / "state" / "environments"

def wait_for(count):
    deadline = time.monotonic() + 20
    while len(list(where.glob("dir-*"))) != count:
        assert time.monotonic() < deadline, list(where.iterdir())
        os.sched_yield()

for number in "12":
    there = look.options(runtime_env={{"working_dir": f"{tmp_path}/{{number}}"}})
    assert aktis.get(there.remote("data.txt"))[0] == number
    assert len(list(where.glob("dir-*.ready"))) == 1
    wait_for(0)
assert aktis.get(there.remote("data.txt"))[0] == "2"
"""
    config: dict[str, Any] = {
        "raylet.environments.cache_bytes": 1,
        "raylet.environments.idle_timeout_s": 0.5,
    }
    finished = run_program(sandbox, program({}, after, **config))
    assert finished.returncode == 0, finished.stderr
