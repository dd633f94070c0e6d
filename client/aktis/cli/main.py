"""The ``aktis`` command: a table of commands whose modules are imported when they are used.

``aktis --help`` takes the time of importing click and no more.
"""

import importlib
from typing import Final

import click

# name: (module, what it does in one line)
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "start": ("aktis.cli.start", "Start a cluster on this host."),
    "stop": ("aktis.cli.stop", "Stop the cluster that `aktis start` started."),
    "status": ("aktis.cli.status", "Show nodes, daemons, resources and actors."),
    "list": ("aktis.cli.list", "List tasks, actors, objects, workers and the like."),
    "get": ("aktis.cli.get", "Show everything that is known of one of them."),
    "summary": ("aktis.cli.summary", "Count tasks, actors or objects by their states."),
    "config": ("aktis.cli.config", "Show, check and document the configuration."),
    "microbenchmark": ("aktis.cli.microbenchmark", "Measure tasks, actors and objects on this host."),
}


class LazyGroup(click.Group):
    """Finds its commands in `COMMANDS`; each module has a click command called ``command``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from aktis._common.version import VERSION

        click.echo(f"aktis {VERSION}")
        ctx.exit()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Run and look after Aktis clusters."""


def main() -> None:
    """Run the command line; the entry point of the ``aktis`` script."""
    cli.main(prog_name="aktis", windows_expand_args=False)


if __name__ == "__main__":
    main()
