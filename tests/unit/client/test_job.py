"""What workers take over from their driver."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest
from aktis._runtime.job import JobConfig, JobPlace


def test_it_travels() -> None:
    config = JobConfig("space", ["/a", "/b"], ["/a"], ["/b"], "/c")
    assert JobConfig.decode(config.encode()) == config


def test_relative_entries_of_the_path_are_the_drivers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "lib", "/abs"])
    config = JobConfig.of_this_process("space")
    assert config.sys_path == [f"{tmp_path}/", f"{tmp_path}/lib", "/abs"]
    assert config.cwd == str(tmp_path)


def test_a_worker_adopts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", ["/own", "/both"])
    JobConfig("space", ["/drivers", "/both"], cwd=str(tmp_path)).adopt()
    assert sys.path == ["/drivers", "/both", "/own"]
    assert os.getcwd() == str(tmp_path)


def test_a_working_directory_that_is_not_here_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [])
    JobConfig("space", [], cwd="/no/such/directory").adopt()
    assert os.getcwd() == "/"


def test_where_the_drivers_code_and_packages_are_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    monkeypatch.chdir(tmp_path)
    packages = sysconfig.get_paths()["purelib"]
    stdlib = sysconfig.get_paths()["stdlib"]
    monkeypatch.setattr(
        sys, "path", [str(program), "", "/lib/of/mine", stdlib, f"{stdlib}/lib-dynload", packages]
    )
    monkeypatch.setattr(sys, "argv", [str(program / "main.py")])
    config = JobConfig.of_this_process("space")
    assert config.local_path == [str(program), f"{tmp_path}/"]
    assert config.package_path == [stdlib, f"{stdlib}/lib-dynload", packages]


CONFIG = JobConfig("space", ["/program", "/mine", "/packages"], ["/program"], ["/packages"])
OWN = ["/env/packages", "/packages"]


@pytest.mark.parametrize(
    ("place", "path"),
    [
        (JobPlace(), ["/program", "/mine", "/packages", "/env/packages"]),
        (JobPlace(import_path=["/m"]), ["/m", "/program", "/mine", "/packages", "/env/packages"]),
        (
            JobPlace(working_dir="/dir", import_path=["/dir"]),
            ["/dir", "/mine", "/packages", "/env/packages"],
        ),
        (JobPlace(own_interpreter=True), ["/program", "/mine", "/env/packages", "/packages"]),
    ],
)
def test_an_environment_decides_where_imports_are_looked_for(place: JobPlace, path: list[str]) -> None:
    assert CONFIG.path_in(place, OWN) == path


def test_a_working_directory_of_the_environment_replaces_the_drivers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir("/")
    monkeypatch.setattr(sys, "path", [])
    JobConfig("space", [], cwd="/tmp").adopt(JobPlace(working_dir=str(tmp_path)))
    assert os.getcwd() == str(tmp_path)
