"""How the template of an environment is started."""

import sys

from aktis._common.environments import Environment
from aktisd.raylet.environments.setup import Prepared
from aktisd.raylet.template_host import TemplateCommand
from aktisd.raylet.templates import command_for

NAME = "0123456789abcdef" * 2
COMMON = TemplateCommand(
    ("--raylet", "unix:/r"), {"PATH": "/bin", "OMP_NUM_THREADS": "1"}, "/log", "/log/template.log"
)


def test_variables_are_in_its_environment_from_the_start() -> None:
    environment = Environment(env_vars={"OMP_NUM_THREADS": "4", "PATH": "/mine:${PATH}"})
    command = command_for(COMMON, NAME, environment, Prepared())
    assert command.environ == {"PATH": "/mine:/bin", "OMP_NUM_THREADS": "4"}
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
