"""Labels of nodes, and the conditions on them by which tasks, actors and bundles choose nodes.

A condition is ``value`` (equal), ``in(a, b)`` (one of them), or ``exists()``; a leading ``!`` turns it
around, and then a node without the label satisfies it too. Users write the first two forms; the third comes
from `NodeLabelSchedulingStrategy`.
"""

import re
from collections.abc import Mapping
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_IN: Final = re.compile(r"in\((.*)\)")
_EXISTS: Final = "exists()"
_NAME_RULE: Final = (
    "must have 1 to 63 letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
)

NODE_ID_LABEL: Final = "aktis.io/node-id"
"""Every node has it; its value is the node's id in hexadecimal."""
ACCELERATOR_TYPE_LABEL: Final = "aktis.io/accelerator-type"
"""What a node's GPUs are, if it has any and knows it."""


def satisfies(labels: Mapping[str, str], selector: Mapping[str, str]) -> bool:
    """Say whether a node with these labels satisfies every condition."""
    return not violated(labels, selector)


def violated(labels: Mapping[str, str], selector: Mapping[str, str]) -> list[str]:
    """Return the conditions that a node with these labels does not satisfy, in words."""
    return [
        f"its label {key} is {labels.get(key)!r}, wanted {condition!r}"
        for key, condition in sorted(selector.items())
        if not matches(condition, labels.get(key))
    ]


def matches(condition: str, actual: str | None) -> bool:
    """Say whether a label's value (None: the node does not have it) satisfies a condition.

    >>> matches("in(a100, h100)", "h100"), matches("!h100", None), matches("exists()", None)
    (True, True, False)
    """
    positive = condition.lstrip("!")  # as many as there are: it comes from other processes, unchecked
    if (len(condition) - len(positive)) % 2:
        return not matches(positive, actual)
    condition = positive
    if condition == _EXISTS:
        return actual is not None
    if listed := _IN.fullmatch(condition):
        return actual in [value.strip() for value in listed[1].split(",")]
    return actual == condition


def check_key(key: str) -> None:
    """Raise ValueError unless ``key`` can be a label's name: ``name`` or ``prefix/name``."""
    prefix, slash, name = key.rpartition("/")
    if not _NAME.fullmatch(name):
        raise ValueError(f"label {key!r}: the name {_NAME_RULE}")
    if slash and not _PREFIX.fullmatch(prefix):
        raise ValueError(f"label {key!r}: what stands before the '/' must be a lower-case domain name")


def check_value(key: str, value: str) -> None:
    """Raise ValueError unless ``value`` can be a label's value; the empty one can."""
    if value and not _NAME.fullmatch(value):
        raise ValueError(f"label {key!r}: the value {value!r} {_NAME_RULE}, or be empty")


def check_condition(key: str, condition: str) -> None:
    """Raise ValueError unless it is of a form that users may write: v, !v, in(a, b), !in(a, b)."""
    positive = condition.removeprefix("!")
    if positive.startswith("in("):
        listed = _IN.fullmatch(positive)
        values = [value.strip() for value in listed[1].split(",")] if listed else []
        if not all(values) or not values:
            raise ValueError(f"label {key!r}: {condition!r} must list values, as in 'in(a, b)'")
        for value in values:
            check_value(key, value)
    else:
        check_value(key, positive)


def check_labels(labels: Mapping[str, str]) -> None:
    """Raise ValueError unless all of this can be a node's labels."""
    for key, value in labels.items():
        check_key(key)
        check_value(key, value)


def check_selector(selector: Mapping[str, str]) -> None:
    """Raise ValueError unless every key and condition is valid."""
    for key, condition in selector.items():
        check_key(key)
        check_condition(key, condition)
