"""``aktis config``: what is set and where, whether it is valid, and what can be set."""

from pathlib import Path
from typing import Any

import click

from aktis._common.config import ConfigError, LoadedConfig, load_config
from aktis._common.config.docs import describe_settings
from aktis.cli.output import fail, json_option, print_json, print_table

config_option = click.option(
    "--config", "file", type=click.Path(path_type=Path), help="TOML file [/etc/aktis/aktis.toml if it exists]"
)


@click.group("config")
def command() -> None:
    """Show, check and document the configuration."""


@command.command("show")
@config_option
@click.option("--all", "show_all", is_flag=True, help="Defaults too.")
@json_option
def show(file: Path | None, show_all: bool, as_json: bool) -> None:
    """Show the settings in effect and where each comes from."""
    loaded = _load(file)
    if as_json:
        print_json(loaded.config.model_dump(mode="json"))
        return
    rows = []
    for setting in describe_settings():
        origin = loaded.origins.get(setting.key, "default")
        if show_all or origin != "default":
            rows.append((setting.key, _value(loaded, setting.key), origin))
    if rows:
        print_table(("setting", "value", "from"), rows)
    else:
        click.echo("Every setting has its default; `aktis config show --all` lists them.")


@command.command("check")
@config_option
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Check file and environment; exit with status 2 when something is wrong."""
    try:
        loaded = load_config(file)
    except ConfigError as error:
        if as_json:
            print_json({"valid": False, "problems": error.problems})
            raise SystemExit(2) from None
        fail("the configuration is not valid:\n  " + "\n  ".join(error.problems), 2)
    if as_json:
        print_json({"valid": True, "file": str(loaded.file) if loaded.file else None})
    else:
        click.echo(f"The configuration is valid ({loaded.file or 'no file, defaults and environment'}).")


@command.command("docs")
@json_option
def docs(as_json: bool) -> None:
    """List every setting with its type, default, variable and meaning."""
    settings = describe_settings()
    if as_json:
        print_json([vars(setting) for setting in settings])
        return
    for setting in settings:
        click.echo(f"{setting.key} ({setting.type}) = {setting.default}")
        click.echo(f"    {setting.description}  [{setting.variable}]")


def _load(file: Path | None) -> LoadedConfig:
    try:
        return load_config(file)
    except ConfigError as error:
        fail("the configuration is not valid:\n  " + "\n  ".join(error.problems), 2)


def _value(loaded: LoadedConfig, key: str) -> str:
    value: Any = loaded.config
    for part in key.split("."):
        value = getattr(value, part)
    return str(value)
