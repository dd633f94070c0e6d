"""How the template of an environment is started."""

import sys

from aktis._common.environments import Environment
from aktisd.raylet.environments.setup import Prepared
from aktisd.raylet.template_host import LIMITED_VARIABLE, TemplateCommand
from aktisd.raylet.templates import command_for

NAME = "0123456789abcdef" * 2
ENVIRON = {
    "PATH": "/bin",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    LIMITED_VARIABLE: "OMP_NUM_THREADS,MKL_NUM_THREADS",
}
COMMON = TemplateCommand(("--raylet", "unix:/r"), ENVIRON, "/log", "/log/template.log")


def test_variables_are_in_its_environment_from_the_start() -> None:
    environment = Environment(env_vars={"OMP_NUM_THREADS": "4", "PATH": "/mine:${PATH}"})
    command = command_for(COMMON, NAME, environment, Prepared())
    # The user's number of threads is none of those that a worker changes.
    own = {"PATH": "/mine:/bin", "OMP_NUM_THREADS": "4", LIMITED_VARIABLE: "MKL_NUM_THREADS"}
    assert command.environ == {**ENVIRON, **own}
    assert command.executable == (sys.executable,)
    assert command.arguments == ("--raylet", "unix:/r", "--environment", NAME)
    assert command.stderr_path == "/log/template-0123456789ab.log"


def test_what_was_prepared_is_passed_on() -> None:
    prepared = Prepared(python=["python", "-O"], working_dir="/dir", import_path=["/dir", "/module"])
    command = command_for(COMMON, NAME, Environment(), prepared)
    assert command.executable == ("python", "-O")
    assert command.arguments[4:] == (
        "--working-dir",
        "/dir",
        "--import-path",
        "/dir:/module",
        "--own-interpreter",
    )
