"""Options that have two names: ours, and the one that programs written for Ray use."""

from collections.abc import Mapping
from typing import Any


def under_either_name(options: Mapping[str, Any], name: str, alias: str) -> Any:
    """Return an option by whichever of its names it was given; None when it was not.

    Raises:
        TypeError: it was given by both.
    """
    given, other = options.get(name), options.get(alias)
    if given is not None and other is not None:
        raise TypeError(f"{name} and {alias} are two names of one option: give one of them")
    return other if given is None else given
