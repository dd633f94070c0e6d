"""The schema as documentation: one entry per setting, read from the fields themselves."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from aktis._common.config.load import env_name
from aktis._common.config.schema import AktisConfig


@dataclass(frozen=True)
class Setting:
    """One documented setting."""

    key: str
    type: str
    default: str
    variable: str
    description: str


def describe_settings(model: type[BaseModel] = AktisConfig, prefix: tuple[str, ...] = ()) -> list[Setting]:
    """Return every setting in the order of the schema."""
    settings = []
    for name, field in model.model_fields.items():
        key = (*prefix, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            settings += describe_settings(field.annotation, key)
            continue
        default = field.get_default(call_default_factory=True)
        settings.append(
            Setting(
                ".".join(key),
                _type_name(field.annotation),
                "required" if default is PydanticUndefined else _default_text(default),
                env_name(key),
                field.description or "",
            )
        )
    return settings


def _type_name(annotation: Any) -> str:
    """Return a short name for people: ``int``, ``"json" or "console"``, ``list of str``."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    if text.startswith("typing.Literal["):
        return " or ".join(
            text.removeprefix("typing.Literal[").removesuffix("]").replace("'", '"').split(", ")
        )
    text = re.sub(r"typing\.Annotated\[(\w+), .*?\)\]", r"\1", text)
    text = text.replace("pathlib.Path", "path").replace("Path", "path").replace(" | None", "")
    for base in ("tuple", "dict"):
        if text.startswith(base):
            return "list" if base == "tuple" else "table"
    return text


def _default_text(default: object) -> str:
    if default is None:
        return "automatic"
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, str | Path):
        return f'"{default}"'
    return str(default if not isinstance(default, tuple) else list(default))
