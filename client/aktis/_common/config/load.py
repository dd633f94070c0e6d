"""Read the configuration: file, then ``AKTIS_*`` variables, then flags; later ones win.

Everything that is wrong is reported at once, each with where it was set, the key and what was expected.
"""

import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from aktis._common.config.schema import AktisConfig
from aktis._common.errors import StartError

DEFAULT_FILE: Final = Path("/etc/aktis/aktis.toml")
_PREFIX: Final = "AKTIS_"

Key = tuple[str, ...]


class ConfigError(StartError):
    """The configuration is wrong; the message has one line per problem: where, key, what was expected."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class LoadedConfig:
    """A valid configuration, and where each value that is not a default came from."""

    config: AktisConfig
    origins: Mapping[str, str]
    file: Path | None


def load_config(
    file: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> LoadedConfig:
    """Read and check the configuration.

    Args:
        file: a TOML file. Default: /etc/aktis/aktis.toml when it exists.
        environ: default ``os.environ``.
        flags: values by dotted key, for example ``{"raylet.num_cpus": 2}``; None values are left out.

    Raises:
        ConfigError: with every problem that was found.
    """
    if file is None and DEFAULT_FILE.exists():
        file = DEFAULT_FILE
    values: dict[str, Any] = {}
    origins: dict[Key, str] = {}
    if file is not None:
        _merge_file(file, values, origins)
    _merge_environ(os.environ if environ is None else environ, values, origins)
    for dotted, value in (flags or {}).items():
        if value is not None:
            _set(values, origins, tuple(dotted.split(".")), value, f"flag {dotted}")
    try:
        config = AktisConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError([_describe(item, origins) for item in error.errors()]) from None
    problems = [f"{_origin(key, origins)}: {'.'.join(key)}: {text}" for key, text in _conflicts(config)]
    if problems:
        raise ConfigError(problems)
    return LoadedConfig(config, {".".join(key): origin for key, origin in origins.items()}, file)


def leaf_types() -> dict[Key, Any]:
    """Return every key of the schema with the annotation of its field."""

    def walk(model: type[BaseModel], prefix: Key) -> Iterator[tuple[Key, Any]]:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, (*prefix, name))
            else:
                yield (*prefix, name), field.annotation

    return dict(walk(AktisConfig, ()))


def env_name(key: Key) -> str:
    """Return the variable that overrides a key, for example AKTIS_RAYLET_NUM_CPUS."""
    return _PREFIX + "_".join(key).upper()


def _merge_file(file: Path, values: dict[str, Any], origins: dict[Key, str]) -> None:
    try:
        text = file.read_text()
        parsed = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(
            [f"{file}: cannot be read ({reason}): pass a readable TOML file to --config"]
        ) from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"{file}:{line.group(1)}" if line else str(file)
        raise ConfigError([f"{where}: not valid TOML: {error}"]) from None
    lines = _key_lines(text)

    def record(table: Mapping[str, Any], prefix: Key) -> None:
        for name, value in table.items():
            key = (*prefix, name)
            origins[key] = f"{file}:{lines[key]}" if key in lines else str(file)
            if isinstance(value, dict):
                record(value, key)

    record(parsed, ())
    values.update(parsed)


def _key_lines(text: str) -> dict[Key, int]:
    """Map keys to the line that sets them; tomllib does not tell. Serves messages only."""
    lines: dict[Key, int] = {}
    table: Key = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            table = tuple(part.strip().strip("\"'") for part in header.group(1).split("."))
            lines.setdefault(table, number)
        elif setting := re.match(r"\s*([\w.\"'-]+(?:\s*\.\s*[\w\"'-]+)*)\s*=", line):
            name = tuple(part.strip().strip("\"'") for part in setting.group(1).split("."))
            lines.setdefault((*table, *name), number)
    return lines


def _merge_environ(environ: Mapping[str, str], values: dict[str, Any], origins: dict[Key, str]) -> None:
    types = leaf_types()
    by_name = {env_name(key): key for key in types}
    sections = tuple(f"{_PREFIX}{name.upper()}_" for name in AktisConfig.model_fields)
    unknown = []
    for name in sorted(environ):
        if name in by_name:
            key = by_name[name]
            _set(values, origins, key, _env_value(environ[name], types[key]), f"environment {name}")
        elif name.startswith(sections):
            unknown.append(f"environment {name}: no setting has this name: see `aktis config docs`")
    if unknown:
        raise ConfigError(unknown)


def _env_value(text: str, annotation: Any) -> object:
    """Lists may be comma-separated; tables are written as in TOML: ``{ special = 2 }``."""
    shape = str(annotation)
    if "tuple[" in shape and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if "tuple[" in shape or "dict[" in shape:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return text
    return text


def _set(values: dict[str, Any], origins: dict[Key, str], key: Key, value: object, origin: str) -> None:
    table = values
    for part in key[:-1]:
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            return  # the file has a wrong value here, which validation reports
        table = below
    table[key[-1]] = value
    origins[key] = origin


def _origin(key: Key, origins: Mapping[Key, str]) -> str:
    for length in range(len(key), 0, -1):
        if key[:length] in origins:
            return origins[key[:length]]
    return "default"


def _describe(item: Any, origins: Mapping[Key, str]) -> str:
    key = tuple(str(part) for part in item["loc"])
    where, dotted = _origin(key, origins), ".".join(key)
    if item["type"] == "extra_forbidden":
        parent = key[:-1]
        known = sorted({leaf[len(parent)] for leaf in leaf_types() if leaf[: len(parent)] == parent})
        return f"{where}: {dotted}: unknown key; expected one of: {', '.join(known)}"
    expected = str(item["msg"]).removeprefix("Value error, ")
    return f"{where}: {dotted}: expected {_lower(expected)}, got {item['input']!r}"


def _lower(text: str) -> str:
    text = text.removeprefix("Input should be ").partition(", unable to parse")[0]
    return text[:1].lower() + text[1:]


def _conflicts(config: AktisConfig) -> Iterator[tuple[Key, str]]:
    """Yield what no single field can check: exposure and the order of deadlines."""
    if not config.security.insecure:
        for key, address in _listen_addresses(config):
            if not is_local(address):
                yield (
                    key,
                    f"{address} is reachable from other hosts and TLS is not configured: "
                    "use a loopback address or set security.insecure = true",
                )
    gcs = config.gcs
    if not gcs.heartbeat_period_ms < gcs.suspect_after_ms < gcs.dead_after_ms:
        yield (
            ("gcs", "suspect_after_ms"),
            "expected heartbeat_period_ms < suspect_after_ms < dead_after_ms, "
            f"got {gcs.heartbeat_period_ms}, {gcs.suspect_after_ms}, {gcs.dead_after_ms}",
        )
    if config.plasma.slab_min_bytes > config.plasma.slab_max_bytes:
        yield ("plasma", "slab_min_bytes"), "expected at most plasma.slab_max_bytes"


def _listen_addresses(config: AktisConfig) -> Iterator[tuple[Key, str]]:
    for address in config.gcs.listen_addresses:
        yield ("gcs", "listen_addresses"), address
    yield ("gcs", "metrics_address"), config.gcs.metrics_address
    yield ("raylet", "listen_address"), config.raylet.listen_address
    yield ("raylet", "grpc_address"), config.raylet.grpc_address
    yield ("raylet", "metrics_address"), config.raylet.metrics_address
    yield ("plasma", "listen_address"), config.plasma.listen_address
    yield ("plasma", "grpc_address"), config.plasma.grpc_address
    yield ("plasma", "metrics_address"), config.plasma.metrics_address


def is_local(address: str) -> bool:
    """Say whether only processes of this host can reach an address; empty means a socket of the session."""
    if not address or address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # a name may resolve to anything
