"""``aktis microbenchmark``: passes its arguments on to the benchmark."""

import click


@click.command(
    "microbenchmark",
    context_settings={"ignore_unknown_options": True, "help_option_names": []},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Measure tasks, actors and objects on this host; --help lists its options."""
    from aktis import _microbenchmark

    raise SystemExit(_microbenchmark.main(list(arguments)))
