"""The command line finds its commands lazily and each says what it is for."""

import subprocess
import sys

import click
import pytest
from aktis.cli.main import COMMANDS, cli
from click.testing import CliRunner


@pytest.mark.parametrize("name", list(COMMANDS))
def test_the_table_tells_what_the_command_says_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert command.help


def test_help_lists_every_command_without_importing_them() -> None:
    code = (
        "import sys\nfrom aktis.cli.main import cli\n"
        "try: cli(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules.keys() & {'grpc', 'pydantic', 'rich', 'asyncio', 'aktis._embedded'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, imported = result.stdout.splitlines()
    assert imported == "[]"
    assert all(any(line.strip().startswith(name) for line in listed) for name in COMMANDS)


def test_version() -> None:
    assert CliRunner().invoke(cli, ["--version"]).output.startswith("aktis 0.")


def test_unknown_commands_are_refused() -> None:
    result = CliRunner().invoke(cli, ["strat"])
    assert result.exit_code == 2
    assert "No such command 'strat'" in result.output
